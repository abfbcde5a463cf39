"""Tool calls out of a text that is still being written."""

from __future__ import annotations

import re
from typing import NamedTuple

from updraft.edge.api.dialect import Dialect

# A head that is longer is no head.
_LONGEST_HEAD = 512


class Said(NamedTuple):
    """Text that is part of no call."""

    text: str


class Called(NamedTuple):
    """The beginning of a call."""

    call: int
    id: str
    name: str


class Argued(NamedTuple):
    """A piece of a call's arguments, as the model writes them."""

    call: int
    text: str


Piece = Said | Called | Argued


class CallReader:
    """Takes the text of an answer piece by piece, and tells calls from what is said.

    Args:
        opened: the text begins within a call.

    Attributes:
        calls: those that have begun.
    """

    def __init__(self, dialect: Dialect, opened: bool) -> None:
        self.calls = 0
        self._dialect = dialect
        self._held = ""
        self._state = self._between if opened else self._text
        self._fresh = True
        self._depth = 0
        self._in_string = self._escaped = False
        # No tool's name has a character that JSON escapes.
        name, value = r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*', re.escape(dialect.arguments)
        self._head = re.compile(rf'{name}"{value}"\s*:\s*')

    def push(self, text: str) -> list[Piece]:
        """Take a piece of text and return what is certain now."""
        self._held += text
        pieces: list[Piece] = []
        while (piece := self._state()) is not None:
            if piece:
                pieces.append(piece)
        return pieces

    def finish(self) -> list[Piece]:
        """Return what was kept back, when the text has ended."""
        held, self._held = self._held, ""
        if not held or (self.calls and held.isspace()):
            return []
        return [Said(held)] if self._state in (self._text, self._in_head) else []

    # Each state returns a piece, or nothing to be said (an empty tuple) and to be asked again, or
    # None for more text.

    def _text(self) -> Piece | tuple[()] | None:
        begins, mark = self._held.lstrip(), self._dialect.mark
        if self._fresh and not self._dialect.opening and begins:
            if begins.startswith("{"):
                self._held, self._state, self._fresh = begins, self._in_head, False
                return ()
            self._fresh = mark.startswith(begins[: len(mark)])
        if (at := self._held.find(mark)) >= 0:
            said, self._held = self._held[:at], self._held[at + len(mark) :]
            self._state, self._fresh = self._between, False
            return self._saying(said)
        if self._fresh and not self._dialect.opening:
            return None
        keep = _overlap(self._held, mark)
        said = self._held[: len(self._held) - keep]
        if not said or (self.calls and said.isspace()):
            return None
        self._held = self._held[len(said) :]
        return Said(said)

    def _saying(self, said: str) -> Said | tuple[()]:
        # White space between calls belongs to their marks.
        return () if not said or (self.calls and said.isspace()) else Said(said)

    def _between(self) -> tuple[()] | None:
        closing = self._dialect.closing
        ignored = " \t\r\n" + ("[,]" if self._dialect.array else "")
        self._held = self._held.lstrip(ignored)
        if closing and self._held.startswith(closing):
            self._held, self._state = self._held[len(closing) :], self._text
            return ()
        if not self._held or (closing and closing.startswith(self._held)):
            return None
        self._state = self._in_head
        return ()

    def _in_head(self) -> Piece | tuple[()] | None:
        if (found := self._head.match(self._held)) is not None:
            self._held, self._state = self._held[found.end() :], self._in_arguments
            self.calls += 1
            self._depth, self._in_string, self._escaped = 0, False, False
            return Called(self.calls - 1, self._dialect.new_id(), found[1])
        if self._held.startswith("{") and len(self._held) < _LONGEST_HEAD:
            return None
        self._state = self._text  # it was no call
        self._fresh = False
        said, self._held = self._held, ""
        return Said(said)

    def _in_arguments(self) -> Piece | None:
        if not self._held:
            return None
        for at, character in enumerate(self._held):
            if self._ends(character):
                taken, self._held = self._held[: at + 1], self._held[at + 1 :]
                self._state = self._after
                return Argued(self.calls - 1, taken)
        taken, self._held = self._held, ""
        return Argued(self.calls - 1, taken)

    def _ends(self, character: str) -> bool:
        """Follow the arguments by one character; whether they end with it."""
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._in_string = False
            return False
        if character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth == 0
        return False

    def _after(self) -> tuple[()] | None:
        """Skip the end of the object that holds the arguments."""
        self._held = self._held.lstrip()
        if not self._held:
            return None
        self._held = self._held.removeprefix("}")
        # A text that is a call has nothing after it.
        self._state = self._between if self._dialect.opening else self._text
        return ()


def _overlap(text: str, mark: str) -> int:
    """Return the length of the longest end of a text that a mark begins with."""
    sizes = range(min(len(text), len(mark) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(mark[:size])), 0)
