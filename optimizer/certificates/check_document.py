"""A problem's document in whole numbers, as the checker of certificates reads it for itself.

Every number means the shortest decimal that reads back as the same double, so all is whole over
known scales: int64 where no sum can overflow, else Python's own integers. Nothing here comes from
the solver: a mistake there cannot repeat itself here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError

# Whole numbers: int64 or, where sums might overflow, objects that are Python's integers.
Whole = NDArray[Any]

ROOM = 2**62
_MOST = 2**53

_Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked: maximise worth such that `cost` keeps `limit`.

    Attributes:
        experts, prompts: index by id.
        rows: name of each budget that limits a sum.
        cost, limit: (K, N) and (K,), in 1/row_scale[k] of the user's unit.
        closed: (N,), experts that may not be used at all.
        value: (P, N), weighted quality, 0 where ineligible, in 1/scale.
        layers: (capacity, step): the `capacity` best of a prompt count `step`/`step_scale` each.
        energy: (P, N), weighted energy of answers, in 1/energy_scale; None: they are free.
    """

    experts: dict[str, int]
    prompts: dict[str, int]
    rows: tuple[str, ...]
    cost: Whole
    limit: Whole
    row_scale: tuple[int, ...]
    closed: NDArray[np.bool_]
    value: Whole
    scale: int
    layers: tuple[tuple[int, int], ...]
    step_scale: int
    energy: Whole | None
    energy_scale: int

    @cached_property
    def grid(self) -> Fraction:
        """What any two worths differ by is a whole multiple of this; 0 where that is not so."""
        if self.energy is not None:
            return Fraction(0)
        common = 0
        for values in self.value:
            common = gcd(common, int(np.gcd.reduce(values)))
            if common == 1:
                break
        steps = gcd(*(step for _, step in self.layers))
        return Fraction(common * steps, self.scale * self.step_scale)

    @cached_property
    def _ranking(self) -> tuple[NDArray[np.intp], Whole]:
        order = np.argsort(self.value, axis=1)[:, ::-1]
        return order, np.take_along_axis(self.value, order, axis=1)

    def worth_of_all(self, allowed: NDArray[np.bool_]) -> Fraction:
        """Return what all `allowed` are worth, answers free; quick to ask again and again."""
        order, ranked = self._ranking
        there = allowed[order]
        place = there.cumsum(axis=1)
        return self._sum(int(ranked[there & (place <= most)].sum()) for most, _ in self.layers)

    def worth_of(self, selected: list[int]) -> Fraction:
        """Return what `selected` are worth, answers free."""
        ranked = np.sort(self.value[:, selected], axis=1)[:, ::-1]
        return self._sum(int(ranked[:, :most].sum()) for most, _ in self.layers)

    def _sum(self, by_layer: Any) -> Fraction:
        total = sum(step * best for (_, step), best in zip(self.layers, by_layer, strict=True))
        return Fraction(total, self.scale * self.step_scale)


def read(document: Mapping[str, Any]) -> Asked:
    """Read a parsed JSON or TOML document.

    Raises:
        ProblemError: something that the check needs is missing or makes no sense.
    """
    if not isinstance(document, Mapping):
        raise ProblemError(["a problem is an object with experts, prompts and quality"])
    experts, prompts = _entries(document, "experts"), _entries(document, "prompts")
    shape = len(prompts), len(experts)
    ranks, step_scale = whole(_rank_weights(document, len(experts)))
    steps = ranks - np.append(ranks[1:], 0)
    layers = tuple((place, int(step)) for place, step in enumerate(steps, 1) if step > 0)
    weights = _numbers([prompt.get("weight", 1) for prompt in prompts], shape[:1], "weight")
    terms = len(prompts) * len(ranks)
    quality = _numbers(document.get("quality"), shape, "quality")
    value, scale = _weighted(quality, weights, terms)
    mode = _choice(document, "latency_mode", ("parallel", "serial"))
    ineligible = _choice(document, "ineligible", ("lenient", "strict"))
    rows, slow = _budgets(_mapping(document, "budgets"), experts, mode)
    closed = np.zeros(len(experts), dtype=bool)
    for category, experts_slow in slow.items():
        if ineligible == "strict":
            closed |= experts_slow
        matches = [prompt.get("category", "") == category for prompt in prompts]
        value[np.ix_(matches, experts_slow)] = 0
    value[:, closed] = 0
    energy, energy_scale = None, 1
    if document.get("query_energy_j") is not None and "energy_j" in rows:
        if len(layers) > 1:
            raise ProblemError(["query_energy_j needs rank_weights that are all the same"])
        answers = _numbers(document["query_energy_j"], shape, "query_energy_j")
        energy, energy_scale = _weighted(answers, weights, terms)
    numbers = [row for row, _ in rows.values()]
    table = np.array(numbers) if numbers else np.zeros((0, len(experts) + 1), dtype=np.int64)
    return Asked(
        experts=_ids(experts, "experts"),
        prompts=_ids(prompts, "prompts"),
        rows=tuple(rows),
        cost=table[:, :-1],
        limit=table[:, -1],
        row_scale=tuple(row_scale for _, row_scale in rows.values()),
        closed=closed,
        value=value,
        scale=scale,
        layers=layers,
        step_scale=step_scale,
        energy=energy,
        energy_scale=energy_scale,
    )


def _entries(document: Mapping[str, Any], name: str) -> _Entries:
    made = document.get(name)
    if not isinstance(made, list) or not all(isinstance(entry, Mapping) for entry in made):
        raise ProblemError([f"{name} must be a list of objects"])
    return made


def _ids(entries: _Entries, name: str) -> dict[str, int]:
    made = {entry["id"]: n for n, entry in enumerate(entries) if isinstance(entry.get("id"), str)}
    if len(made) < len(entries):
        raise ProblemError([f"{name} must have ids that are strings, each its own"])
    return made


def _mapping(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    made = document.get(name)
    if made is not None and not isinstance(made, Mapping):
        raise ProblemError([f"{name} must be an object"])
    return made or {}


def _choice(document: Mapping[str, Any], name: str, known: tuple[str, str]) -> str:
    made = document.get(name, known[0])
    if made not in known:
        raise ProblemError([f"{name} must be one of {', '.join(known)}"])
    return str(made)


def _numbers(given: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        made = np.array(given)
    except (ValueError, OverflowError):  # ragged or huge
        made = np.array(None)
    if made.shape != shape or made.dtype.kind not in "iuf":
        raise ProblemError([f"{name} must be {' × '.join(map(str, shape))} numbers"])
    if made.size and not (made.min() >= 0 and made.max() <= _MOST):
        raise ProblemError([f"{name}: every number must be from 0 to 2^53"])
    return made.astype(np.float64, copy=False)


def _rank_weights(document: Mapping[str, Any], experts: int) -> NDArray[np.float64]:
    given = document.get("rank_weights")
    top_k = document.get("top_k", len(given) if isinstance(given, list) else 1)
    if type(top_k) is not int or top_k < 1:
        raise ProblemError(["top_k must be a whole number from 1"])
    if given is None:
        return np.ones(min(top_k, max(experts, 1)))
    made = _numbers(given, (top_k,), "rank_weights")
    if (made[1:] > made[:-1]).any():
        raise ProblemError(["rank_weights must not increase"])
    return made


def _budgets(
    budgets: Mapping[str, Any], experts: _Entries, mode: str
) -> tuple[dict[str, tuple[Whole, int]], dict[str, NDArray[np.bool_]]]:
    """Return by name the row of each budget, its limit last, and by category who is too slow."""
    rows, slow = {}, {}
    if budgets.get("energy_j") is not None:
        taken = [expert.get("energy_j") for expert in experts]
        rows["energy_j"] = _row(_taken(taken, budgets["energy_j"], "energy_j"))
    for field in ("latency_ms", "resources"):
        for name, limit in _mapping(budgets, field).items():
            taken = [_mapping(expert, field).get(name) for expert in experts]
            numbers = _taken(taken, limit, f"{field}.{name}")
            if field == "resources" or mode == "serial":
                rows[f"{field}.{name}"] = _row(numbers)
            else:
                slow[name] = numbers[:-1] > numbers[-1]
    return rows, slow


def _taken(taken: list[Any], limit: Any, name: str) -> NDArray[np.float64]:
    return _numbers([*taken, limit], (len(taken) + 1,), f"{name} of all experts and its budget")


def _row(numbers: NDArray[np.float64]) -> tuple[Whole, int]:
    made, scale = whole(numbers)
    return roomy(made, len(made)), scale


def whole(numbers: NDArray[np.float64]) -> tuple[Whole, int]:
    """Return whole numbers and the scale to divide them by."""
    flat = numbers.ravel()
    largest = float(flat.max(initial=0))
    # No two decimals of up to 15 digits are the same double, so the one found is the shortest.
    for decimals in range(16):
        scale = 10.0**decimals
        if largest * scale >= 1e15:
            break
        for some in (flat[:1000], flat):
            made = np.rint(some * scale)
            if (made / scale != some).any():
                break
        else:
            return made.astype(np.int64).reshape(numbers.shape), 10**decimals
    most = max(decimals for _, decimals in map(_decimal, flat.tolist()))
    exact = np.fromiter(
        (digits * 10 ** (most - decimals) for digits, decimals in map(_decimal, flat.tolist())),
        dtype=object,
        count=flat.size,
    )
    return exact.reshape(numbers.shape), 10**most


def _decimal(number: float) -> tuple[int, int]:
    """Return digits and decimals: 0.25 is (25, 2)."""
    digits, _, power = repr(number).partition("e")
    before, _, after = digits.partition(".")
    return int(before + after), len(after) - int(power or 0)


def roomy(numbers: Whole, times: int) -> Whole:
    """Choose int64 if `times` as much as the largest of `numbers` is no overflow."""
    largest = int(numbers.max(initial=0))
    return numbers.astype(np.int64 if largest * times < ROOM else object, copy=False)


def _weighted(
    numbers: NDArray[np.float64], weights: NDArray[np.float64], terms: int
) -> tuple[Whole, int]:
    """Multiply rows by weights, such that `terms` of the largest add up without overflow."""
    made, scale = whole(numbers)
    factors, factor_scale = whole(weights)
    roomed = roomy(made, terms * int(factors.max(initial=0)))
    return roomed * factors[:, None], scale * factor_scale
