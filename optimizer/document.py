"""Problems as documents: what JSON or TOML hold, and what certificates are checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import numpy as np

from updraft.optimizer.faults import EXACT, Faults, quoted, shown, suggestion, wrong_value
from updraft.optimizer.problem import (
    Budgets,
    Expert,
    Ineligible,
    LatencyMode,
    Matrix,
    Problem,
    Prompt,
    cell_place,
    expert_place,
    prompt_place,
)

_AMOUNTS = ("energy_j", "latency_ms", "resources")
_KEYS = {
    "": (
        "experts",
        "prompts",
        "quality",
        "budgets",
        "top_k",
        "rank_weights",
        "latency_mode",
        "ineligible",
        "query_energy_j",
    ),
    "expert": ("id", *_AMOUNTS),
    "prompt": ("id", "category", "weight"),
    "budgets": _AMOUNTS,
}


def problem_of(document: Any) -> Problem:
    """Make a problem of a document.

    Args:
        document: as parsed from JSON or TOML; its matrices may also be float64 arrays.

    Raises:
        ProblemError: with the place of every fault: first of those in the form of the document
            and its numbers, then of what does not fit together.
    """
    reader = _Reader()
    problem = reader.read(document)
    reader.faults.raise_any()
    return Problem(**problem)


def document_of(problem: Problem) -> dict[str, Any]:
    """Return the document of a problem: what `problem_of` reads back."""
    document: dict[str, Any] = {
        "experts": [
            {
                "id": expert.id,
                "energy_j": expert.energy_j,
                "latency_ms": dict(expert.latency_ms),
                "resources": dict(expert.resources),
            }
            for expert in problem.experts
        ],
        "prompts": [
            {"id": prompt.id, "category": prompt.category, "weight": prompt.weight}
            for prompt in problem.prompts
        ],
        "quality": problem.quality.tolist(),
        "budgets": {
            "latency_ms": dict(problem.budgets.latency_ms),
            "resources": dict(problem.budgets.resources),
        },
        "top_k": len(problem.rank_weights),
        "rank_weights": list(problem.rank_weights),
        "latency_mode": problem.latency_mode,
        "ineligible": problem.ineligible,
    }
    if problem.budgets.energy_j is not None:
        document["budgets"]["energy_j"] = problem.budgets.energy_j
    if problem.query_energy_j is not None:
        document["query_energy_j"] = problem.query_energy_j.tolist()
    return document


class _Reader:
    """Reads a document part by part; what cannot be read is noted and replaced by a stand-in."""

    def __init__(self) -> None:
        self.faults = Faults()

    def read(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, Mapping):
            self.faults.add(
                f"a problem is an object with experts, prompts, …, not {shown(document)}"
            )
            return {}
        self._unknown_keys("", document)
        experts = tuple(
            self._expert(number, entry)
            for number, entry in enumerate(self._list(document, "experts"))
        )
        prompts = tuple(
            self._prompt(number, entry)
            for number, entry in enumerate(self._list(document, "prompts"))
        )
        problem = {
            "experts": experts,
            "prompts": prompts,
            "budgets": self._budgets(document.get("budgets", {})),
            "rank_weights": self._rank_weights(document, len(experts)),
            "latency_mode": self._choice(document, "latency_mode", get_args(LatencyMode)),
            "ineligible": self._choice(document, "ineligible", get_args(Ineligible)),
            "quality": None,
        }
        if "quality" not in document:
            self.faults.add("quality is missing: one row per prompt, one column per expert")
        for name in ("quality", "query_energy_j"):
            # Without its rows and columns a matrix cannot be judged.
            if name in document and experts and prompts:
                problem[name] = self._matrix(name, document[name], prompts, experts)
        return problem

    def _expert(self, number: int, entry: Any) -> Expert:
        if not isinstance(entry, Mapping):
            self.faults.add(
                f"expert {number + 1}: {shown(entry)} is no object with id, energy_j, …"
            )
            return Expert("", 0.0)
        id_ = self._id("expert", number, entry)
        place = expert_place(number, id_)
        self._unknown_keys("expert", entry, place)
        if "energy_j" not in entry:
            self.faults.add(f"{place}: energy_j is missing")
        return Expert(
            id_,
            self._number(f"{place}: energy_j", entry.get("energy_j", 0.0)),
            self._numbers(place, "latency_ms", entry),
            self._numbers(place, "resources", entry),
        )

    def _prompt(self, number: int, entry: Any) -> Prompt:
        if not isinstance(entry, Mapping):
            self.faults.add(
                f"prompt {number + 1}: {shown(entry)} is no object with id, category, …"
            )
            return Prompt("", "")
        id_ = self._id("prompt", number, entry)
        place = prompt_place(number, id_)
        self._unknown_keys("prompt", entry, place)
        return Prompt(
            id_,
            self._text(f"{place}: category", entry.get("category", "")),
            self._number(f"{place}: weight", entry.get("weight", 1.0)),
        )

    def _budgets(self, entry: Any) -> Budgets:
        if not isinstance(entry, Mapping):
            self.faults.add(f"budgets: an object with energy_j, … is expected, not {shown(entry)}")
            return Budgets()
        self._unknown_keys("budgets", entry, "budgets")
        energy_j = None
        if "energy_j" in entry:
            energy_j = self._number("budgets: energy_j", entry["energy_j"])
        return Budgets(
            energy_j,
            self._numbers("budgets", "latency_ms", entry),
            self._numbers("budgets", "resources", entry),
        )

    def _rank_weights(self, document: Mapping[str, Any], experts: int) -> tuple[float, ...]:
        given = document.get("rank_weights")
        top_k = document.get("top_k", len(given) if isinstance(given, list) else 1)
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            self.faults.add(f"top_k: {shown(top_k)} is no whole number >= 1")
            return (1.0,)
        if top_k > max(experts, 1):
            self.faults.add(f"top_k: {shown(top_k)} is more than the {experts} experts")
            return (1.0,)
        if given is None:
            return (1.0,) * top_k
        if not isinstance(given, list):
            self.faults.add(f"rank_weights: a list is expected, not {shown(given)}")
            return (1.0,)
        if len(given) != top_k:
            self.faults.add(f"rank_weights: {len(given)} of them, but top_k is {top_k}")
        return tuple(
            self._number(f"rank_weights: number {rank + 1}", weight)
            for rank, weight in enumerate(given)
        )

    def _choice(self, document: Mapping[str, Any], key: str, known: Sequence[str]) -> str:
        value = document.get(key, known[0])
        if value not in known:
            self.faults.add(f"{key}: {shown(value)} is unknown; choose from {', '.join(known)}")
        return cast("str", value)

    def _matrix(
        self, name: str, value: Any, prompts: Sequence[Prompt], experts: Sequence[Expert]
    ) -> Matrix | None:
        """Convert at once; look cell by cell only where that finds a fault."""
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, list):
            self.faults.add(f"{name}: a list of rows is expected, not {shown(value)}")
            return None
        if len(value) != len(prompts):
            self.faults.add(f"{name}: {len(value)} rows, but there are {len(prompts)} prompts")
        matrix = _fast_matrix(value, len(experts))
        if matrix is not None:
            return matrix
        for row, (cells, prompt) in enumerate(zip(value, prompts, strict=False)):
            if not isinstance(cells, list):
                self.faults.add(f"{name} row {row + 1}: a list is expected, not {shown(cells)}")
                continue
            if len(cells) != len(experts):
                self.faults.add(
                    f"{name} row {row + 1} (prompt {quoted(prompt.id)}): {len(cells)} numbers, "
                    f"but there are {len(experts)} experts"
                )
            for column, (cell, expert) in enumerate(zip(cells, experts, strict=False)):
                if fault := wrong_value(cell):
                    place = cell_place(name, row, column, prompt.id, expert.id)
                    self.faults.add(f"{place}: {fault}")
        return None

    def _list(self, document: Mapping[str, Any], key: str) -> list[Any]:
        value = document.get(key)
        if isinstance(value, list) and value:
            return value
        if key not in document:
            self.faults.add(f"{key}: missing; a list of objects is expected")
        elif isinstance(value, list):
            self.faults.add(f"{key}: there is none; at least one is needed")
        else:
            self.faults.add(f"{key}: a list of objects is expected, not {shown(value)}")
        return []

    def _id(self, kind: str, number: int, entry: Mapping[str, Any]) -> str:
        place = f"{kind} {number + 1}"
        if "id" not in entry:
            self.faults.add(f"{place}: id is missing")
            return ""
        return self._text(f"{place}: id", entry["id"])

    def _text(self, place: str, value: Any) -> str:
        if not isinstance(value, str):
            self.faults.add(f"{place}: a text is expected, not {shown(value)}")
            return ""
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.faults.add(f"{place}: {quoted(value)} is not valid Unicode")
            return ""
        return value

    def _numbers(self, place: str, key: str, entry: Mapping[str, Any]) -> dict[str, float]:
        table = entry.get(key, {})
        if not isinstance(table, Mapping):
            self.faults.add(f"{place}: {key}: numbers by name are expected, not {shown(table)}")
            return {}
        return {
            self._text(f"{place}: {key}", name): self._number(f"{place}: {key}.{name}", value)
            for name, value in table.items()
        }

    def _number(self, place: str, value: Any) -> float:
        if fault := wrong_value(value):
            self.faults.add(f"{place}: {fault}")
            return 0.0
        return float(value)

    def _unknown_keys(self, kind: str, entry: Mapping[str, Any], place: str = "") -> None:
        for key in entry:
            if key not in _KEYS[kind]:
                where = f"{place}: " if place else ""
                hint = suggestion(str(key), _KEYS[kind])
                self.faults.add(f"{where}unknown key {quoted(str(key))}; {hint}")


def _fast_matrix(rows: list[Any], columns: int) -> Matrix | None:
    """Convert a matrix in which nothing is wrong; None of any other."""
    if not all(isinstance(row, list) and len(row) == columns for row in rows):
        return None
    kinds: set[type] = set()
    for row in rows:
        kinds.update(map(type, row))
    # numpy would take true for 1 and "0.5" for 0.5.
    if bool in kinds or not all(issubclass(kind, int | float) for kind in kinds):
        return None
    try:
        matrix = np.array(rows, dtype=np.float64)
    except OverflowError:
        return None
    return matrix if ((matrix >= 0) & (matrix < EXACT)).all() else None
