"""The budget of one device: its lines, where each comes from, and what happens at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

LineName = Literal[
    "energy_per_request",
    "energy_per_day",
    "average_power",
    "first_token",
    "per_token",
    "uplink_per_day",
    "cloud_tokens_per_hour",
    "memory",
]
LINES: tuple[LineName, ...] = get_args(LineName)
OnExhausted = Literal["standalone", "shallower_exits", "refuse", "queue"]
# The unit of a line's limit in code; files may use any unit of the same kind.
UNITS: Mapping[LineName, str] = {
    "energy_per_request": "J",
    "energy_per_day": "J",
    "average_power": "W",
    "first_token": "ms",
    "per_token": "ms",
    "uplink_per_day": "B",
    "cloud_tokens_per_hour": "tokens",
    "memory": "B",
}


@dataclass(frozen=True)
class Origin:
    """Where a line was written.

    Attributes:
        section: `fleet`, `group.<name>` or `device.<name>`.
    """

    file: str
    line: int
    section: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} [{self.section}]"


@dataclass(frozen=True)
class Line:
    """One limit.

    Attributes:
        limit: in the unit that `UNITS` gives for `name`.
        on_exhausted: what the agent does when keeping the limit needs it.
        window_s: seconds over which `average_power` is averaged; None for the other lines.
    """

    name: LineName
    limit: float
    on_exhausted: OnExhausted
    origin: Origin
    window_s: float | None = None


@dataclass(frozen=True)
class Budget:
    """Everything that limits one device; a line that is not there is not limited.

    Attributes:
        device: the name under which the file knows it.
        model: id of the catalog's entry, where the file names it.
    """

    device: str
    lines: Mapping[LineName, Line]
    model: str | None = None

    def limit(self, name: LineName) -> float | None:
        """Return a line's limit; None where there is none."""
        line = self.lines.get(name)
        return None if line is None else line.limit
