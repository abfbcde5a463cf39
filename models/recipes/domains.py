"""The four domains that the family's experts know, each split by file, from free text only.

| domain | text | licence |
|---|---|---|
| python | the standard library of the running interpreter | PSF |
| c | CPython's and numpy's own headers | PSF, BSD |
| docs | help topics and docstrings of the standard library, numpy's docstrings | PSF, BSD |
| logs | logs and configuration files from our own simulator | ours |

A docstring stands both in `python`, inside its file, and in `docs`: a file and its docstrings
always belong to the same part, so that nobody is measured on text that another was trained on.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from updraft.models.recipes.corpus import Part, SourceFile, part_of, read_standard_library
from updraft.models.recipes.logs import write_log
from updraft.models.recipes.settings_files import write_settings

DOMAINS = ("python", "c", "docs", "logs")

# Some domains are small: a twentieth of them would be too little to measure on.
_HELDOUT_PERCENT, _CALIBRATION_PERCENT = 10, 10
# Headers that others wrote, under licences of their own, and one that describes this machine.
_FOREIGN_HEADERS = {"dynamic_annotations.h", "libdivide.h", "pyconfig.h"}
_GENERATED = "generated"
_GENERATED_WITHIN = 400
_SHORTEST_DOCSTRING, _SHORTEST_DOCUMENT = 80, 300
_MOST_REPEATED = 0.5
_LOGS, _SETTINGS = 900, 900
_LOG_LINES = (20, 90)


@dataclass(frozen=True)
class Domain:
    """The files of one domain, by what they are for.

    Attributes:
        fresh: training files that are kept from the trunk, for the branches.
    """

    name: str
    train: list[SourceFile]
    calibration: list[SourceFile]
    heldout: list[SourceFile]
    fresh: list[SourceFile] = field(default_factory=list)


def read_domains(seed: int) -> dict[str, Domain]:
    """Read or write the text of every domain; needs the interpreter, numpy and nothing else.

    Args:
        seed: of the simulator of logs.
    """
    library = read_standard_library()
    return {
        "python": split_by_file("python", library),
        "c": split_by_file("c", read_headers()),
        "docs": split_by_file("docs", [*read_topics(), *read_docstrings(library)], read_numpy()),
        "logs": split_by_file("logs", write_logs(seed)),
    }


def read_headers(roots: tuple[Path, ...] | None = None) -> list[SourceFile]:
    """Read CPython's and numpy's own headers, without generated tables and what others wrote."""
    if roots is None:
        roots = (Path(sysconfig.get_paths()["include"]), Path(np.get_include()) / "numpy")
    files = []
    for root in roots:
        for path in sorted(root.rglob("*.h")):
            text = path.read_text(encoding="utf-8")
            if path.name in _FOREIGN_HEADERS or _GENERATED in text[:_GENERATED_WITHIN].lower():
                continue
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            files.append(SourceFile(name, text, is_test=False))
    return files


def read_topics() -> list[SourceFile]:
    """Return the help topics of the interpreter.

    A topic most of which stands in longer topics is left out: it could not be held out.
    """
    files, seen = [], set[str]()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = set(topics[name].split("\n\n"))
        if len(paragraphs & seen) <= _MOST_REPEATED * len(paragraphs):
            files.append(SourceFile(f"topics/{name}", topics[name].strip() + "\n", is_test=False))
        seen |= paragraphs
    return files


def read_docstrings(library: list[SourceFile]) -> list[SourceFile]:
    """Return what the docstrings of each file say, under the path of the file."""
    files = []
    for file in library:
        text = "\n\n".join(_docstrings(file.text)) + "\n"
        if len(text) >= _SHORTEST_DOCUMENT:
            # The same path as the code's: the same part of the corpus.
            files.append(SourceFile(file.path, text, file.is_test))
    return files


def read_numpy() -> list[SourceFile]:
    """Return numpy's docstrings."""
    found = read_docstrings(read_standard_library(Path(np.__file__).parent))
    return [replace(file, path=f"numpy/{file.path}") for file in found]


def write_logs(seed: int) -> list[SourceFile]:
    """Let the simulator write logs and configuration files; the same seed, the same files."""
    low, high = _LOG_LINES
    spread = high - low
    logs = [
        SourceFile(f"logs/{n:04d}.log", write_log(f"{seed}/log/{n}", low + 7 * n % spread), False)
        for n in range(_LOGS)
    ]
    settings = [
        SourceFile(f"logs/{n:04d}.conf", write_settings(f"{seed}/settings/{n}"), False)
        for n in range(_SETTINGS)
    ]
    return logs + settings


def split_by_file(name: str, files: list[SourceFile], fresh: Sequence[SourceFile] = ()) -> Domain:
    """Split a domain's files; where a file goes depends on its path alone.

    Args:
        fresh: files that the trunk does not train on; the branches do.
    """
    parts = {
        part: [file for file in files if _part(file) == part]
        for part in ("train", "calibration", "heldout")
    }
    kept = [file for file in fresh if _part(file) == "train"]
    parts["calibration"] += [file for file in fresh if _part(file) == "calibration"]
    parts["heldout"] += [file for file in fresh if _part(file) == "heldout"]
    return Domain(name, **parts, fresh=kept)


def _part(file: SourceFile) -> Part:
    return part_of(file.path, _HELDOUT_PERCENT, _CALIBRATION_PERCENT)


def _docstrings(source: str) -> list[str]:
    """Return what the docstrings of a file say, in order, each once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(source)
    except SyntaxError:
        return []  # the test suite keeps some broken files on purpose
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, owners)
    )
    texts = (inspect.cleandoc(text) for text in found if text)
    return [text for text in dict.fromkeys(texts) if len(text) >= _SHORTEST_DOCSTRING]
