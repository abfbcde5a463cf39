"""Read a file of budgets, and say everything that is wrong with it at once."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from updraft.config.key_lines import Keys, key_lines
from updraft.config.syntax import parse_toml
from updraft.devices.budgets.budget import LINES, UNITS, Line, LineName, OnExhausted, Origin
from updraft.devices.budgets.budget_file import BudgetFile, Scope
from updraft.devices.budgets.contradictions import contradictions
from updraft.devices.budgets.lines import (
    DEFAULTS,
    LONGEST_WINDOW_S,
    SHARED,
    SHORTEST_WINDOW_S,
    USELESS,
    WINDOW_S,
)
from updraft.devices.budgets.quantity import EXAMPLES, parse, show
from updraft.devices.budgets.resolve import Lifted, loops
from updraft.devices.catalog.device import Device
from updraft.errors import ConfigError

_LARGEST = 1 << 20
_ACTIONS: tuple[OnExhausted, ...] = get_args(OnExhausted)
_SECTIONS = ("fleet", "total", "group", "device")
_BELONGS = {"inherits": "a group or a device", "model": "a device"}


def read_budgets(path: Path, catalog: Mapping[str, Device]) -> BudgetFile:
    """Read a file of budgets.

    Args:
        catalog: by id; what `model` may name.

    Raises:
        ConfigError: with every fault: file, line, section and key, what to write instead.
    """
    return parse_budgets(_text_of(path), str(path), catalog)


def parse_budgets(text: str, path: str, catalog: Mapping[str, Device]) -> BudgetFile:
    """Do what `read_budgets` does, of a text that is at hand.

    Args:
        path: what the text is called.

    Raises:
        ConfigError: with every fault.
    """
    return _Reader(text, path, catalog).read()


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(content) > _LARGEST:
        raise ConfigError([f"{path}: is larger than {show(_LARGEST, 'B')}: no file of budgets"])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: not TOML: this is no UTF-8 text"]) from error


class _Fault(NamedTuple):
    line: int
    text: str


class _Reader:
    """Reads section by section; what cannot be read is noted and left out."""

    def __init__(self, text: str, path: str, catalog: Mapping[str, Device]) -> None:
        self._path = path
        self._catalog = catalog
        self._values, syntax = parse_toml(text)
        self._lines = key_lines(text)
        self._faults = [_Fault(line, f"{path}:{line}: {message}") for line, message in syntax]

    def read(self) -> BudgetFile:
        for key in self._values.keys() - {*_SECTIONS}:
            self._unknown((key,), _SECTIONS, "belongs into a section, as [device.<name>]")
        file = BudgetFile(
            self._path,
            self._single("fleet"),
            self._single("total"),
            self._named("group"),
            self._named("device"),
        )
        self._check_references(file)
        for (origin, name), message in contradictions(file, self._catalog).items():
            self._note((*origin.section.split(".", 1), name), message)
        if self._faults:
            raise ConfigError([fault.text for fault in sorted(set(self._faults))])
        return file

    def _note(self, keys: Keys, message: str) -> None:
        line = self._line(keys)
        self._faults.append(_Fault(line, f"{self._path}:{line}: {_dotted(keys)}: {message}"))

    def _line(self, keys: Keys) -> int:
        while keys and keys not in self._lines:
            keys = keys[:-1]
        return self._lines.get(keys, 1)

    def _unknown(self, keys: Keys, known: Iterable[str], misplaced: str = "") -> None:
        close = difflib.get_close_matches(keys[-1], [*known], n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        if misplaced and keys[-1] in LINES:
            hint = misplaced
        self._note(keys, f"unknown key; {hint}")

    def _single(self, section: str) -> Scope:
        value = self._values.get(section, {})
        if not isinstance(value, dict):
            self._note((section,), f"a section is needed, [{section}]; found {_shown(value)}")
            value = {}
        return self._scope((section,), value)

    def _named(self, kind: str) -> dict[str, Scope]:
        table = self._values.get(kind, {})
        if not isinstance(table, dict):
            self._note((kind,), f"each {kind} is a section [{kind}.<name>]; found {_shown(table)}")
            return {}
        found = {}
        for name, value in table.items():
            if name in (*LINES, "inherits", "model") or not isinstance(value, dict):
                said = f"a {kind} needs a name: write this below [{kind}.<name>]"
                self._note((kind, name), said)
            elif not name or not name.isprintable():
                self._note((kind, name), f"{name!r} is no name that can be typed and read")
            else:
                found[name] = self._scope((kind, name), value)
        return found

    def _scope(self, keys: Keys, table: dict[str, Any]) -> Scope:
        kind = keys[0]
        words = {"group": ("inherits",), "device": ("inherits", "model")}.get(kind, ())
        names = SHARED if kind == "total" else LINES
        origin = Origin(self._path, self._line(keys), ".".join(keys))
        lines: dict[LineName, Line | Lifted] = {}
        texts: dict[str, str] = {}
        for key, value in table.items():
            here = (*keys, key)
            if key in words:
                if isinstance(value, str):
                    texts[key] = value
                else:
                    self._note(here, f"a name in quotes is needed; found {_shown(value)}")
            elif key in names:
                line = self._entry(here, key, value, origin.section)
                if line is not None:
                    lines[key] = line
            elif key in _BELONGS:
                self._note(here, f"does not belong here: only {_BELONGS[key]} can have it")
            else:
                said = f"adds up to nothing; all devices together have {', '.join(names)}"
                self._unknown(here, [*names, *words], said)
        return Scope(origin, lines, texts.get("inherits"), texts.get("model"))

    def _entry(self, keys: Keys, name: LineName, value: Any, section: str) -> Line | Lifted | None:
        origin = Origin(self._path, self._line(keys), section)
        if value is False and section not in ("fleet", "total"):
            return Lifted(origin)
        if isinstance(value, bool):
            said = (
                "true is no limit" if value else "nothing is inherited here that false could lift"
            )
            self._note(keys, f'{said}; write one, as "{_example(name)}"')
            return None
        if not isinstance(value, dict):
            limit = self._amount(keys, value, UNITS[name])
            window_s = WINDOW_S if name == "average_power" else None
            return Line(name, limit, DEFAULTS[name], origin, window_s) if limit else None
        known = ["limit", "on_exhausted", *(["window"] if name == "average_power" else [])]
        for key in value.keys() - {*known}:
            self._unknown((*keys, key), known)
        window_s = self._window((*keys, "window"), value) if "window" in known else None
        action = self._action((*keys, "on_exhausted"), name, value, section)
        if "limit" not in value:
            self._note(keys, f'limit is missing; write {{ limit = "{_example(name)}", … }}')
            return None
        limit = self._amount((*keys, "limit"), value["limit"], UNITS[name])
        return Line(name, limit, action, origin, window_s) if limit else None

    def _amount(self, keys: Keys, value: Any, unit: str) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            self._note(keys, f"a number with a unit in quotes is needed; found {_shown(value)}")
            return None
        try:
            return parse(str(value), unit)
        except ValueError as error:
            self._note(keys, str(error))
            return None

    def _action(
        self, keys: Keys, name: LineName, table: dict[str, Any], section: str
    ) -> OnExhausted:
        action = table.get("on_exhausted", DEFAULTS[name])
        if action not in _ACTIONS:
            close = difflib.get_close_matches(str(action), _ACTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(_ACTIONS)}"
            self._note(keys, f"{_shown(action)} is no action; {hint}")
            return DEFAULTS[name]
        if (name, action) in USELESS:
            useful = [known for known in _ACTIONS if (name, known) not in USELESS]
            said = f"{action!r} does not keep {name}: {USELESS[name, action]}"
            self._note(keys, f"{said}; choose from {', '.join(useful)}")
        elif section == "total" and "on_exhausted" in table:
            self._note(keys, "is for devices; what all spend together is planned, by who serves")
        return cast("OnExhausted", action)

    def _window(self, keys: Keys, table: dict[str, Any]) -> float:
        milliseconds = self._amount(keys, table["window"], "ms") if "window" in table else None
        if milliseconds is None:
            return WINDOW_S
        if not SHORTEST_WINDOW_S <= milliseconds / 1000 <= LONGEST_WINDOW_S:
            self._note(keys, f"{_shown(table['window'])} lies outside 1 s to 24 h")
        return milliseconds / 1000

    def _check_references(self, file: BudgetFile) -> None:
        for kind, scopes in (("group", file.groups), ("device", file.devices)):
            for name, scope in scopes.items():
                keys = (kind, name)
                if scope.inherits is not None and scope.inherits not in file.groups:
                    self._no_such((*keys, "inherits"), "group", scope.inherits, file.groups)
                if scope.model is not None and scope.model not in self._catalog:
                    self._no_such((*keys, "model"), "model", scope.model, self._catalog)
        for loop in loops({name: group.inherits for name, group in file.groups.items()}):
            places = [f"{name} (line {self._line(('group', name, 'inherits'))})" for name in loop]
            circle = " inherits ".join([*places, loop[0]])
            self._note(("group", loop[0], "inherits"), f"goes in a circle: {circle}")

    def _no_such(self, keys: Keys, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1)
        if what == "group" and name in self._values.get("device", {}):
            hint = "that is a device; only groups are inherited from"
        elif close:
            hint = f"did you mean {close[0]!r}?"
        else:
            hint = f"known are {', '.join(names) or 'none'}"
        self._note(keys, f"there is no {what} {_shown(name)}; {hint}")


def _example(name: LineName) -> str:
    return EXAMPLES[UNITS[name]]


def _dotted(keys: Keys) -> str:
    """Write keys as TOML has them: in quotes where they need some."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(key if bare.fullmatch(key) else json.dumps(key) for key in keys)


def _shown(value: Any) -> str:
    """Show a value as TOML has it, about and shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = repr(value)
    except ValueError:  # whole numbers may be too long to be written
        return "a number"
    return text if len(text) <= 60 else f"{text[:60]}…"
