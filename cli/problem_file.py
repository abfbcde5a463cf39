"""Selection problems from files: JSON, TOML, tables in CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from updraft.cli.input_file import MEBIBYTE, open_input, too_large
from updraft.cli.quality_file import QualityTable, read_quality
from updraft.errors import ProblemError
from updraft.optimizer.document import problem_of
from updraft.optimizer.faults import Faults, quoted, suggestion
from updraft.optimizer.problem import Problem

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# TOML is read some twenty times as slowly as JSON.
_MOST_BYTES = {".json": 256 * MEBIBYTE, ".toml": 16 * MEBIBYTE}
_ADVICE = "give the matrix of qualities as CSV, with --quality"


@dataclass(frozen=True)
class Source:
    """Where a problem comes from.

    Attributes:
        path: a problem as JSON or TOML, or a table as CSV, whose experts then cost nothing.
        quality: a table in place of the matrix in `path`.
        energy_j: in place of the budget of energy in `path`.
        cost_is_energy: take what an answer costs in the table for joules.
    """

    path: Path
    quality: Path | None = None
    energy_j: float | None = None
    cost_is_energy: bool = False


def read_problem(source: Source) -> tuple[dict[str, Any], Problem]:
    """Read a problem, as a document (with arrays where a table gave them) and checked.

    Raises:
        ProblemError: with the file and the place of each fault.
    """
    if source.path.suffix.lower() == ".csv":
        if source.quality is not None:
            raise ProblemError([f"{source.path}: is a table already; --quality gives another"])
        table = read_quality(source.path)
        document = _document_of(table)
        _add_cost(document, table, source.path, source.cost_is_energy)
    else:
        document = _read_document(source.path)
        if source.quality is not None:
            table = read_quality(source.quality)
            table = _use(document, table, source.quality)
            _add_cost(document, table, source.quality, source.cost_is_energy)
        elif source.cost_is_energy:
            raise ProblemError(["--answer-cost-as needs a table that has costs: give --quality"])
    budgets = document.setdefault("budgets", {})
    if source.energy_j is not None and isinstance(budgets, dict):
        budgets["energy_j"] = source.energy_j
    try:
        return document, problem_of(document)
    except ProblemError as error:
        raise ProblemError([f"{source.path}: {fault}" for fault in error.faults]) from error


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Read a JSON object; a key that stands twice in one object is refused.

    Args:
        advice: what to do about a file that is too large.

    Raises:
        ProblemError: with the line and column of what is no JSON.
    """
    text = _read_text(path, _MOST_BYTES[".json"], advice)
    try:
        document = json.loads(text, object_pairs_hook=_without_repetition)
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}: column {error.colno}"
        raise ProblemError([f"{place}: not JSON: {error.msg}"]) from error
    except (ValueError, RecursionError) as error:
        raise ProblemError([f"{path}: not JSON: {error}"]) from error
    if not isinstance(document, dict):
        raise ProblemError([f"{path}: a JSON object is expected at the top"])
    return document


def _read_document(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return read_json(path, _ADVICE)
    if suffix != ".toml":
        raise ProblemError([f"{path}: what it holds is unknown: name it .json, .toml or .csv"])
    text = _read_text(path, _MOST_BYTES[suffix], _ADVICE)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # The message of a syntax error ends with line and column.
        raise ProblemError([f"{path}: not TOML: {error}"]) from error


def _read_text(path: Path, most_bytes: int, advice: str) -> str:
    with open_input(path, most_bytes, advice) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise too_large(path, "what it gives", most_bytes, advice)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ProblemError([f"{path}:{line}: byte {column} is not valid UTF-8"]) from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(twice)} stands twice in one object")
    return found


def _document_of(table: QualityTable) -> dict[str, Any]:
    """Make a problem of a table alone: experts that cost nothing to keep on, no budgets."""
    return {
        "experts": [{"id": expert, "energy_j": 0.0} for expert in table.experts],
        "prompts": _prompts_of(table),
        "quality": table.quality,
    }


def _prompts_of(table: QualityTable) -> list[dict[str, Any]]:
    categories = table.categories or ("",) * len(table.prompts)
    weights = table.weights or (1.0,) * len(table.prompts)
    return [
        {"id": prompt, "category": category, "weight": weight}
        for prompt, category, weight in zip(table.prompts, categories, weights, strict=True)
    ]


def _use(document: dict[str, Any], table: QualityTable, path: Path) -> QualityTable:
    """Put a table's qualities in a document, in the order of its experts and prompts.

    What the document does not name is left out; without prompts it takes those of the table.
    """
    document.setdefault("prompts", _prompts_of(table))
    faults = Faults()
    chosen = []
    for kind, known in (("prompt", table.prompts), ("expert", table.experts)):
        place = {name: number for number, name in enumerate(known)}
        ids = _ids(document.get(f"{kind}s"))
        for name in ids:
            if name not in place:
                faults.add(f"{path}: no {kind} {quoted(name)}; {suggestion(name, known)}")
        chosen.append([place.get(name, 0) for name in ids])
    faults.raise_any()
    at = np.ix_(*chosen)
    document["quality"] = table.quality[at]
    cost = None if table.cost is None else table.cost[at]
    return QualityTable((), (), document["quality"], cost=cost)


def _ids(entries: Any) -> list[str]:
    """Return the ids in a document, as far as they are any; what is wrong is found later."""
    if not isinstance(entries, Sequence):
        return []
    ids = (entry.get("id") for entry in entries if isinstance(entry, Mapping))
    return [id_ for id_ in ids if isinstance(id_, str)]


def _add_cost(
    document: dict[str, Any], table: QualityTable, path: Path, cost_is_energy: bool
) -> None:
    if not cost_is_energy:
        return
    if table.cost is None:
        raise ProblemError([f"{path}: has no costs of answers, so --answer-cost-as has no use"])
    document["query_energy_j"] = table.cost
