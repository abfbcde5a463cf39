"""Which lines hold for a device: the nearest of its own, its groups' and the fleet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from updraft.devices.budgets.budget import LINES, Line, LineName, Origin


@dataclass(frozen=True)
class Lifted:
    """Written in place of a limit: what is inherited here does not hold."""

    origin: Origin


Lines = Mapping[LineName, Line | Lifted]


def nearest(scopes: Sequence[Lines]) -> dict[LineName, Line | Lifted]:
    """Return, for each line, what the nearest scope says that says anything of it.

    A line holds as a whole: limit, what happens at its end, and window come from one place.

    Args:
        scopes: nearest first.
    """
    return {
        name: next(scope[name] for scope in scopes if name in scope)
        for name in LINES
        if any(name in scope for scope in scopes)
    }


def limits(lines: Lines) -> dict[LineName, Line]:
    """Return the lines that limit something, those that were lifted left out."""
    return {name: line for name, line in lines.items() if isinstance(line, Line)}


def lineage(start: str | None, inherits: Mapping[str, str | None]) -> list[str]:
    """Return the groups that something inherits from, nearest first, each once.

    Args:
        start: the group that it names itself.
        inherits: for each group, the one that it names; one that does not exist ends the list.
    """
    found: list[str] = []
    while start is not None and start in inherits and start not in found:
        found.append(start)
        start = inherits[start]
    return found


def loops(inherits: Mapping[str, str | None]) -> list[list[str]]:
    """Return the loops of groups that inherit from each other, each once."""
    found: dict[frozenset[str], list[str]] = {}
    for name in inherits:
        chain = lineage(name, inherits)
        if inherits[chain[-1]] == name:
            found.setdefault(frozenset(chain), chain)
    return list(found.values())
