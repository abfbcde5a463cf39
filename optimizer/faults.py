"""Faults of a problem, collected so that its user sees them all at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError

EXACT = 2.0**53
_MOST_LISTED = 10
_MOST_SHOWN = 60
_MOST_LINE = 400
_MOST_BITS = 256


class Faults:
    """What is wrong with a problem: the first few in words, the others counted."""

    def __init__(self) -> None:
        self._listed: list[str] = []
        self._more = 0
        self._unread = False

    @property
    def full(self) -> bool:
        """Whether another fault would only be counted."""
        return len(self._listed) >= _MOST_LISTED

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._listed)

    def add(self, fault: str) -> None:
        """Note a fault: its place and what is wrong there."""
        if self.full:
            self._more += 1
        else:
            self._listed.append(_one_line(fault))

    def add_matrix(self, numbers: NDArray[np.float64], place: Callable[[int, int], str]) -> None:
        """Note every number of a matrix that is not finite, negative or too large to be exact.

        Args:
            place: tells row and column, counted from 0, to people.
        """
        # Comparisons with NaN are false.
        good = (numbers >= 0) & (numbers < EXACT)
        if good.all():
            return
        bad = np.argwhere(~good)
        listed = bad[: _MOST_LISTED - len(self._listed)]
        for row, column in listed:
            self.add(f"{place(row, column)}: {wrong_number(float(numbers[row, column]))}")
        self._more += len(bad) - len(listed)

    def stop(self) -> None:
        """Note that what follows the last fault is not looked at."""
        self._unread = True

    def raise_any(self, source: str = "") -> None:
        """Raise what was found, if anything was.

        Args:
            source: where all of it is, such as the name of a file.

        Raises:
            ProblemError: with one line per fault.
        """
        if not self._listed:
            return
        lines = list(self._listed)
        if self._unread:
            lines.append("there may be more: the rest was not read")
        elif self._more:
            lines.append(f"and {self._more} more")
        raise ProblemError([f"{source}: {line}" if source else line for line in lines])


def wrong_number(number: float) -> str:
    """Say what is wrong with a number; nothing if it is finite, >= 0 and exact."""
    if 0 <= number < EXACT:
        return ""
    if EXACT <= number < float("inf"):
        return f"{shown(number)} is 2**53 or more, where whole numbers are no longer exact"
    return f"{shown(number)} is not a number >= 0"


def _one_line(fault: str) -> str:
    """Names in a fault are anybody's: no line breaks, nothing that a terminal obeys."""
    kept = fault if len(fault) <= _MOST_LINE else fault[:_MOST_LINE] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in kept)


def wrong_value(value: Any) -> str:
    """Say what is wrong with what should be a number >= 0; nothing if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{shown(value)} is not a number >= 0"
    return wrong_number(value)


def shown(value: Any) -> str:
    """Show a value as JSON has it, if that is short."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    # Python refuses to write out integers of thousands of digits.
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(float(value))
    return json.dumps(value, default=str)


def quoted(text: str) -> str:
    """Show a text in quotes, without line breaks and not too long."""
    if len(text) > _MOST_SHOWN:
        text = text[: _MOST_SHOWN - 1] + "…"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say which of the known words was probably meant, or list them."""
    words = list(known)
    if close := difflib.get_close_matches(word, words, n=1):
        return f"did you mean {quoted(close[0])}?"
    if not words:
        return "none is known"
    listed = [quoted(known_word) for known_word in words[:_MOST_LISTED]]
    return f"known are {', '.join(listed)}" + (", …" if len(words) > _MOST_LISTED else "")
