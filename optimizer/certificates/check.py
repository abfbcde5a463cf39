"""Checks a certificate against its problem, exactly, with nothing of what made it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.certificates.check_bounds import Bounds
from updraft.optimizer.certificates.check_claims import (
    Refused,
    above,
    experts_of,
    listed,
    quoted,
    rational,
    refuse,
    show,
)
from updraft.optimizer.certificates.check_document import Asked, read

FORMAT = "updraft-certificate-1"

_OPEN, _IN, _OUT, _DROPPED = range(4)

_State = NDArray[np.int8]


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        reason: why the certificate does not hold; empty if it holds.
        path: the part of the search that fails, as the experts that are out and in there.
        parts: how many parts of the search were found bounded.
        exact: nothing is worth more than the objective, not even within the gap that the
            certificate leaves, for no two worths can be so near each other.
    """

    holds: bool
    reason: str
    path: str
    objective: str
    upper_bound: str
    parts: int
    exact: bool


def check(problem: Mapping[str, Any], certificate: Mapping[str, Any]) -> Verdict:
    """Tell whether `certificate` proves what it claims about `problem`.

    It claims that `selected` keeps every budget and is worth `objective`, and that nothing that
    keeps the budgets is worth more than `upper_bound`. Where answers cost energy, `selected` is
    worth what a routing to it is worth: `assignment`, {prompt: [[expert, share], …]}, then has to
    keep the budget and to be worth `objective`.

    Args:
        problem: the document of the problem, as parsed from JSON or TOML.
        certificate: anything parsed; nonsense does not hold.

    Raises:
        ProblemError: the document lacks what the check needs.
    """
    asked = read(problem)
    claims = certificate if isinstance(certificate, Mapping) else {}
    parts = 0
    try:
        if claims.get("format") != FORMAT:
            refuse(f"this is no certificate of format {FORMAT}")
        objective = rational(claims.get("objective"), "objective")
        upper_bound = rational(claims.get("upper_bound"), "upper_bound")
        _check_selected(asked, claims, objective)
        if upper_bound < objective:
            refuse(f"upper_bound {show(upper_bound)} is below objective {show(objective)}")
        for _ in _bounded_parts(asked, claims, upper_bound):
            parts += 1
    except Refused as refused:
        stated = (claims.get("objective"), claims.get("upper_bound"))
        shown = [number[:80] if isinstance(number, str) else "" for number in stated]
        return Verdict(False, refused.reason, refused.path, shown[0], shown[1], parts, False)
    exact = upper_bound == objective or upper_bound - objective < asked.grid
    return Verdict(True, "", "", str(objective), str(upper_bound), parts, exact)


# The selection.


def _check_selected(asked: Asked, claims: Mapping[str, Any], objective: Fraction) -> None:
    selected = experts_of(asked, claims.get("selected"), "selected")
    names = list(asked.experts)
    for one in selected:
        if asked.closed[one]:
            refuse(f"selected: {names[one]} is too slow to be used")
    for row, taken, limit, scale in zip(
        asked.rows, asked.cost[:, selected].sum(axis=1), asked.limit, asked.row_scale, strict=True
    ):
        if taken > limit:
            more = show(Fraction(int(taken - limit), scale))
            budget = show(Fraction(int(limit), scale))
            refuse(f"selected takes {more} more than the budget of {row}, which is {budget}")
    if asked.energy is None:
        worth = asked.worth_of(selected)
    else:
        worth = _worth_of_routing(asked, claims.get("assignment"), set(selected))
    if worth != objective:
        refuse(f"selected is worth {show(worth)}, not objective {show(objective)}")


def _worth_of_routing(asked: Asked, assignment: Any, selected: set[int]) -> Fraction:
    """Return what a routing is worth whose answers cost energy, once it keeps the budget."""
    assert asked.energy is not None
    if not isinstance(assignment, Mapping):
        refuse("assignment must be an object, for answers cost energy")
    row = asked.rows.index("energy_j")
    left = Fraction(
        int(asked.limit[row]) - sum(int(asked.cost[row, one]) for one in selected),
        asked.row_scale[row],
    )
    capacity, step = asked.layers[0] if asked.layers else (0, 0)
    worth = Fraction(0)
    for prompt, given in assignment.items():
        where = f"assignment: {quoted(prompt)}"
        if prompt not in asked.prompts:
            refuse(f"{where} is no prompt")
        place = asked.prompts[prompt]
        pairs = listed(given, where)
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            refuse(f'{where}: must be a list of [expert, "p/q"]')
        experts = experts_of(asked, [pair[0] for pair in pairs], where)
        shares = [rational(pair[1], f"{where}: a share") for pair in pairs]
        if not selected.issuperset(experts):
            refuse(f"{where}: an expert is not selected")
        if max(shares, default=0) > 1 or sum(shares) > capacity:
            refuse(f"{where}: shares must be at most 1, and {capacity} together")
        for expert, share in zip(experts, shares, strict=True):
            worth += share * step * int(asked.value[place, expert])
            left -= share * Fraction(int(asked.energy[place, expert]), asked.energy_scale)
        if (worth + left).denominator > 10**1000:
            refuse("assignment: its shares are of too many different denominators")
    if left < 0:
        refuse(f"assignment takes {show(-left)} J more than the budget of energy_j")
    return worth / (asked.scale * asked.step_scale)


# The tree.


def _dominated(asked: Asked, claims: Mapping[str, Any]) -> list[int]:
    """Return who can be left out, for another expert is as good and takes no more."""
    better: dict[int, int] = {}
    for pair in listed(claims.get("dominated", []), "dominated"):
        one, other = _dominance(asked, pair)
        if one in better:
            refuse("an expert is dominated twice", f"dominated: {pair[0]} by {pair[1]}")
        better[one] = other
    safe: set[int] = set()
    for first in better:
        chain: list[int] = []
        one = first
        while one in better and one not in safe:
            chain.append(one)
            if len(chain) > len(better):
                refuse("experts dominate each other in a circle", "dominated")
            one = better[one]
        safe.update(chain)
    return list(better)


def _dominance(asked: Asked, pair: Any) -> tuple[int, int]:
    """Return (j, i) once it is sure that i serves no prompt worse than j and takes no more."""
    experts = experts_of(asked, pair, "dominated")
    if len(experts) != 2:
        refuse("dominated: a pair must be two experts")
    one, other = experts
    path = f"dominated: {pair[0]} by {pair[1]}"
    if asked.energy is not None or [capacity for capacity, _ in asked.layers] != [1]:
        refuse("this needs one expert for each prompt, and answers that are free", path)
    if asked.closed[other]:
        refuse(f"{pair[1]} is too slow to be used", path)
    if (asked.value[:, one] > asked.value[:, other]).any():
        refuse(f"{pair[0]} is worth more for a prompt", path)
    if (asked.cost[:, one] < asked.cost[:, other]).any():
        refuse(f"{pair[0]} takes less of a budget", path)
    return one, other


def _bounded_parts(
    asked: Asked, claims: Mapping[str, Any], upper_bound: Fraction
) -> Iterator[None]:
    """Yield for each part of the search that is bounded; refuse at the first that is not."""
    bounds = Bounds(asked, claims, upper_bound)
    root = np.full(len(asked.experts), _OPEN, dtype=np.int8)
    root[asked.closed] = _DROPPED
    root[_dominated(asked, claims)] = _DROPPED
    parts = [root]
    for place, step in enumerate(listed(claims.get("tree"), "tree")):
        if not parts:
            refuse(f"tree goes on at entry {place}, where all parts are done")
        part = parts.pop()
        try:
            overrun = _drop(asked, part)
            if not isinstance(step, Mapping):
                refuse("an entry of the tree must be an object")
            if "leaf" in step:
                if not overrun:
                    _check_leaf(asked, bounds, part, step["leaf"])
                yield
            elif "split" in step:
                [expert] = _undecided(asked, part, [step["split"]])
                parts += [_with(part, expert, _IN), _with(part, expert, _OUT)]
            else:
                for _ in _fixed(asked, bounds, part, step):
                    yield
                parts.append(part)
        except Refused as refused:
            where = refused.path or _path(asked, part)
            refuse(refused.reason, f"{where} (tree entry {place})")
    if parts:
        refuse("tree ends before this part is bounded", _path(asked, parts[-1]))


def _drop(asked: Asked, part: _State) -> bool:
    """Drop who does not fit beside those that are in; tell whether these alone are too many."""
    spent = asked.cost[:, part == _IN].sum(axis=1)
    fits = (spent[:, None] + asked.cost <= asked.limit[:, None]).all(axis=0)
    part[(part == _OPEN) & ~fits] = _DROPPED
    return bool((spent > asked.limit).any())


def _check_leaf(asked: Asked, bounds: Bounds, part: _State, leaf: Any) -> None:
    inside, undecided = part == _IN, part == _OPEN
    if leaf == "all":
        worth = asked.worth_of_all(inside | undecided)
        if worth > bounds.upper_bound:
            refuse(f"what all that may be on here are worth {above(worth, bounds.upper_bound)}")
    else:
        bound = bounds[leaf]
        bound.check(bound.of(inside, undecided), bounds.upper_bound)


def _fixed(asked: Asked, bounds: Bounds, part: _State, step: Mapping[str, Any]) -> Iterator[None]:
    """Yield for each opposite of a fix that its point bounds; then fix all in `part`."""
    fix = step.get("fix")
    if not isinstance(fix, Mapping) or "point" not in step:
        refuse("an entry of the tree must be a leaf, a split, or a fix with its point")
    sides = [listed(fix.get(side, []), f"fix: {side}") for side in ("in", "out")]
    experts = _undecided(asked, part, sides[0] + sides[1])
    bound = bounds[step["point"]]
    total = bound.of(part == _IN, part == _OPEN)
    for place, expert in enumerate(experts):
        opposite = _OUT if place < len(sides[0]) else _IN
        changed = -bound.gain[expert] + (bound.profit[expert] if opposite == _IN else 0)
        try:
            bound.check(total + changed, bounds.upper_bound)
        except Refused as refused:
            refuse(refused.reason, _path(asked, _with(part, expert, opposite)))
        yield
    part[experts[: len(sides[0])]] = _IN
    part[experts[len(sides[0]) :]] = _OUT


def _undecided(asked: Asked, part: _State, given: list[Any]) -> list[int]:
    experts = experts_of(asked, given, "tree")
    for one, name in zip(experts, given, strict=True):
        if part[one] != _OPEN:
            refuse(f"{name} is decided already: it is in, out, dominated, or does not fit")
    return experts


def _with(part: _State, expert: int, side: int) -> _State:
    made = part.copy()
    made[expert] = side
    return made


def _path(asked: Asked, part: _State) -> str:
    ids = np.array(list(asked.experts), dtype=object)
    words = []
    for word, side in (("out", _OUT), ("in", _IN)):
        named = ids[part == side]
        if len(named):
            more = f" and {len(named) - 20} more" if len(named) > 20 else ""
            words.append(f"{word}: {', '.join(named[:20])}{more}")
    return " / ".join(words) or "the whole problem"
