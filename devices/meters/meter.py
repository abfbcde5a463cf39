"""What every meter offers: a reading of watts or of joules, and how it came about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Energy:
    """Energy spent, and how that is known.

    Attributes:
        joules: above the idle baseline.
        method: for people: what was read, on which rail, above which baseline.
    """

    joules: float
    method: str


class Span(Protocol):
    """A stretch of time whose energy is asked for: one request."""

    def end(self, busy_s: float) -> Energy:
        """Close the stretch; once.

        Args:
            busy_s: seconds of it that this request spent computing; a modelled meter, and a
                meter that several requests share, need it.
        """
        ...


class Meter(Protocol):
    """Measures what a device draws.

    Attributes:
        method: how, in words; stands in every answer.
        idle_w: the baseline that is subtracted.
    """

    @property
    def method(self) -> str: ...

    @property
    def idle_w(self) -> float: ...

    def begin(self, busy_s: Callable[[], float] | None = None) -> Span:
        """Start a stretch; stretches may overlap, from any thread. Costs microseconds.

        Args:
            busy_s: returns the seconds that this request has computed so far; called from any
                thread. Where requests overlap, they share energy by it; without it a request is
                taken to compute all the time.
        """
        ...

    def power_w(self) -> float | None:
        """Return what the device draws now, idle included; None where nothing can tell."""
        ...

    def close(self) -> None:
        """Stop sampling; idempotent."""
        ...
