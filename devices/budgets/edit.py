"""Change one line of a file of budgets, and leave everything else as people wrote it."""

from __future__ import annotations

from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from updraft.config.key_lines import Keys, key_places
from updraft.config.toml import tomllib
from updraft.devices.budgets.budget import Line, LineName, OnExhausted
from updraft.devices.budgets.budget_file import BudgetFile
from updraft.devices.budgets.lines import DEFAULTS, WINDOW_S
from updraft.errors import ConfigError


def with_line(
    text: str,
    file: BudgetFile,
    device: str,
    name: LineName,
    limit: str | None,
    on_exhausted: OnExhausted | None = None,
) -> str:
    """Return a file's text with another limit for a device.

    What happens at the end of the line, and its window, stay what they were unless given, also
    where they were inherited.

    Args:
        text: that `file` was read from.
        limit: as it is to be written; None lifts what is inherited.

    Raises:
        ConfigError: the file does not know the device, or is written so that it must be edited by
            hand.
    """
    before = file.lines(device).get(name)
    wanted = tomllib.loads(text)
    section = wanted["device"][device]
    value = _value(section.get(name), before, limit, on_exhausted)
    edits = (_set,) if name in section else (_inserted, _set)
    section[name] = tomllib.loads(f"value = {value}")["value"]
    for edit in edits:
        # Nothing but this one line may come out another, whatever the library does.
        changed = edit(text, ("device", device, name), value)
        if changed is not None and _parsed(changed) == wanted:
            return changed
    by_hand = f"device.{device}.{name} must be edited by hand: {name} = {value}"
    raise ConfigError([f"{file.path}: {by_hand}"])


def _value(own: Any, before: Any, limit: str | None, on_exhausted: OnExhausted | None) -> str:
    """Write the value in TOML: short where it says nothing but the limit."""
    if limit is None:
        return "false"
    entries = {"limit": limit}
    if isinstance(own, dict):
        entries |= {key: own[key] for key in own if key != "limit"}
    elif own is None and isinstance(before, Line):
        if before.on_exhausted != DEFAULTS[before.name]:
            entries["on_exhausted"] = before.on_exhausted
        if before.window_s not in (None, WINDOW_S):
            entries["window"] = f"{before.window_s:g} s"
    if on_exhausted is not None:
        entries["on_exhausted"] = on_exhausted
    if len(entries) == 1 and not isinstance(own, dict):
        return f'"{limit}"'
    return "{ " + ", ".join(f'{key} = "{entry}"' for key, entry in entries.items()) + " }"


def _set(text: str, keys: Keys, value: str) -> str | None:
    """Put the value in place of the one that stands there, or where the library finds room."""
    try:
        document = tomlkit.parse(text)
        table: Any = document
        for key in keys[:-1]:
            table = table[key]
        old, new = table.get(keys[-1]), tomlkit.value(value)
        if isinstance(old, dict) and isinstance(new, dict):
            old.update(new)
        else:
            table[keys[-1]] = new
        return tomlkit.dumps(document)
    except TOMLKitError:
        return None


def _inserted(text: str, keys: Keys, value: str) -> str | None:
    """Write a new line behind the last one of the device's section, before comments that follow."""
    lines = text.split("\n")
    places = key_places(text)
    headers = [place for place in places if lines[place.line - 1].lstrip().startswith("[")]
    own = next((place.line for place in headers if place.keys == keys[:-1]), None)
    if own is None:
        return None
    end = next((place.line for place in headers if place.line > own), len(lines) + 1)
    last = max(place.line for place in places if own <= place.line < end)
    line = f"{keys[-1]} = {value}"
    return "\n".join([*lines[:last], line + "\r" * lines[last - 1].endswith("\r"), *lines[last:]])


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None
