"""The lines on which the keys of a TOML file stand; parsers do not tell."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from updraft.config.toml import tomllib

_TOKEN = re.compile(
    r"""
    (?P<space>[^\S\n]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<quoted>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    | (?P<mark>[\[\]{}=,])
    | (?P<bare>[^\s\#"'\[\]{}=,]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Below this depth nothing is told apart; configuration is never so deep.
_DEEPEST = 50

Keys = tuple[str, ...]


class Place(NamedTuple):
    """A key below all keys above it, and its line, counted from 1.

    Tables in an array are counted from 0: `("mode", "0", "name")`.
    """

    keys: Keys
    line: int


def key_lines(text: str) -> dict[Keys, int]:
    """Return where each key and each table is first written.

    Args:
        text: valid TOML; of other text what can be told.
    """
    lines: dict[Keys, int] = {}
    for keys, line in key_places(text):
        for end in range(1, len(keys) + 1):
            lines.setdefault(keys[:end], line)
    return lines


def key_places(text: str) -> list[Place]:
    """Return headers and keys in the order they are written, dotted, quoted, inline ones too."""
    return _Walk(text).places


class _Token(NamedTuple):
    kind: str
    word: str
    line: int


class _Walk:
    """One pass over a text, which needs not be TOML throughout: every step moves on."""

    def __init__(self, text: str) -> None:
        self.places: list[Place] = []
        self._tables_of: Counter[Keys] = Counter()
        self._tokens: list[_Token] = []
        line = 1
        for found in _TOKEN.finditer(text):
            if found.lastgroup != "space":
                self._tokens.append(_Token(str(found.lastgroup), found[0], line))
            line += found[0].count("\n")
        self._tokens.append(_Token("newline", "\n", line))
        self._at = 0
        table: Keys = ()
        while self._at < len(self._tokens):
            if self._is("["):
                table = self._header()
            elif not self._is("\n"):
                self._pair(table, 0)
            self._skip_line()

    def _is(self, *words: str) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at].word in words

    def _skip_line(self) -> None:
        while self._at < len(self._tokens) and not self._is("\n"):
            self._at += 1
        self._at += 1

    def _header(self) -> Keys:
        line, opening = self._tokens[self._at].line, self._at
        while self._is("["):
            self._at += 1
        is_one_of_many = self._at - opening > 1
        # A table below one of many belongs to the last of them.
        keys: Keys = ()
        for part in self._key():
            if keys in self._tables_of:
                keys = (*keys, str(self._tables_of[keys] - 1))
            keys = (*keys, part)
        if is_one_of_many:
            self._tables_of[keys] += 1
            keys = (*keys, str(self._tables_of[keys] - 1))
        self.places.append(Place(keys, line))
        return keys

    def _key(self) -> list[str]:
        parts: list[str] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "bare":
                parts.extend(part for part in token.word.split(".") if part)
            elif token.kind == "quoted":
                parts.append(_unquoted(token.word))
            else:
                break
            self._at += 1
        return parts

    def _pair(self, table: Keys, depth: int) -> None:
        line = self._tokens[self._at].line
        keys = (*table, *self._key())
        if self._is("="):
            self.places.append(Place(keys, line))
            self._at += 1
            self._value(keys, depth)

    def _value(self, keys: Keys, depth: int) -> None:
        if depth < _DEEPEST and self._is("{", "["):
            is_array = self._is("[")
            self._at += 1
            number = 0
            while self._at < len(self._tokens) and not self._is("}", "]"):
                start = self._at
                if is_array and not self._is("\n", ","):
                    self._value((*keys, str(number)), depth + 1)
                    number += 1
                elif not is_array and not self._is("\n", ","):
                    self._pair(keys, depth + 1)
                self._at += self._at == start
            self._at += 1
            return
        while self._at < len(self._tokens) and not self._is("\n", ",", "}", "]"):
            self._at += 1


def _unquoted(word: str) -> str:
    try:
        return str(tomllib.loads(f"key = {word}")["key"])
    except ValueError:
        return word
