"""Source code of the running interpreter's standard library, split by file for training."""

from __future__ import annotations

import hashlib
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["train", "calibration", "heldout"]

# Share of files, in percent, kept away from training. `calibration` chooses thresholds;
# `heldout` is only ever measured on.
HELDOUT_PERCENT = 5
CALIBRATION_PERCENT = 3

_SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "__pycache__",
    "encodings",
    "pydoc_data",
    "encoded_modules",
    "cjkencodings",
}
_MAX_LINE_CHARS = 1000
_MAX_DIGIT_SHARE = 0.2
_MIN_CHARS = 64


@dataclass(frozen=True)
class SourceFile:
    """One Python source file of the corpus.

    Attributes:
        path: POSIX path below the standard library's folder.
        text: the whole file.
        is_test: the file belongs to a test package (easier to predict than library code).
    """

    path: str
    text: str
    is_test: bool


def part_of(
    path: str, heldout: int = HELDOUT_PERCENT, calibration: int = CALIBRATION_PERCENT
) -> Part:
    """Say which part of the corpus a file belongs to; depends on its path and the shares alone.

    Args:
        heldout: share of the files in percent.
        calibration: share of the files in percent.
    """
    bucket = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") % 100
    if bucket < heldout:
        return "heldout"
    if bucket < heldout + calibration:
        return "calibration"
    return "train"


def read_licence(root: Path | None = None) -> str:
    """Return the licence that the standard library comes with, where it lies beside it."""
    path = (root or _library()) / "LICENSE.txt"
    if not path.is_file():
        return "PSF License Agreement: https://docs.python.org/3/license.html\n"
    return path.read_text(encoding="utf-8")


def read_standard_library(root: Path | None = None) -> list[SourceFile]:
    """Read the standard library's Python files, each distinct content once, in path order.

    Data tables, encodings, third-party packages and files that are not UTF-8 are left out.

    Args:
        root: the library's folder; the running interpreter's by default.
    """
    root = root or _library()
    files: list[SourceFile] = []
    seen: set[bytes] = set()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED_FOLDERS & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # the test suite keeps some files in other encodings on purpose
        if not _is_code(text):
            continue
        digest = hashlib.sha256(re.sub(r"\s+", " ", text).encode()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        is_test = any(part in {"test", "tests", "idle_test"} for part in relative.parts)
        files.append(SourceFile(relative.as_posix(), text, is_test))
    return files


def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _is_code(text: str) -> bool:
    if len(text) < _MIN_CHARS or max(map(len, text.splitlines())) > _MAX_LINE_CHARS:
        return False
    digits = sum(character.isdigit() for character in text)
    return digits <= _MAX_DIGIT_SHARE * len(text)
