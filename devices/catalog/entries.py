"""Reads the data files of devices: those that ship, and the user's own over them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from updraft.config import describe_faults, place_of, read_toml
from updraft.devices.catalog.device import Device
from updraft.devices.workload import Precision
from updraft.errors import ConfigError

_SHIPPED = Path(__file__).parent


def load_catalog(extra: Path | None = None) -> dict[str, Device]:
    """Return every known device by its id.

    Args:
        extra: a TOML file, or a folder of them, each with one device. An id that ships takes the
            shipped figures where the file is silent; a new id needs them all.

    Raises:
        ConfigError: with every fault of every file: file, line, key, and what to write instead.
    """
    values = {file.stem: read_toml(file)[1] for file in sorted(_SHIPPED.glob("*.toml"))}
    catalog = {id_: Device.model_validate(found) for id_, found in values.items()}
    faults: list[str] = []
    origin: dict[str, Path] = {}
    for file in _files(extra):
        try:
            device = _read(file, values)
            if device.id in origin:
                raise ConfigError([f"{file}: id: {device.id!r} stands in {origin[device.id]} too"])
            catalog[device.id] = device
            origin[device.id] = file
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return catalog


def find(catalog: Mapping[str, Device], id: str) -> Device:  # noqa: A002  the field's name
    """Return a device of the catalog.

    Raises:
        ConfigError: it is not there; names the closest one.
    """
    if id in catalog:
        return catalog[id]
    close = difflib.get_close_matches(id, catalog, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(catalog))}"
    raise ConfigError([f"device {id!r} is not in the catalog; {hint}"])


def _files(extra: Path | None) -> list[Path]:
    if extra is None:
        return []
    if not extra.is_dir():
        return [extra]
    files = sorted(extra.glob("*.toml"))
    if not files:
        raise ConfigError([f"{extra}: holds no .toml file with a device"])
    return files


def _read(file: Path, shipped: Mapping[str, dict[str, Any]]) -> Device:
    text, given = read_toml(file)
    id_ = str(given.get("id"))
    try:
        device = Device.model_validate(_over(shipped.get(id_, {}), given))
    except ValidationError as error:
        faults = describe_faults(Device, error, file, text)
        if id_ not in shipped and any(fault["type"] == "missing" for fault in error.errors()):
            close = difflib.get_close_matches(id_, shipped, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            where = place_of(file, text, ["id"])
            faults.append(f"{where}: id: {id_!r} does not ship, so all figures are needed{hint}")
        raise ConfigError(faults) from error
    if found := _contradictions(device, given):
        raise ConfigError(
            [f"{place_of(file, text, keys)}: {'.'.join(keys)}: {why}" for keys, why in found]
        )
    return device


def _contradictions(device: Device, given: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """Return keys of the file and what is wrong with them beside the other figures."""
    found = [
        (["ops_per_s"], f"{precision} is missing; what no unit multiplies is unpacked first")
        for precision in get_args(Precision)
        if precision not in device.ops_per_s
    ]
    names: list[str] = []
    for number, mode in enumerate(device.power_modes):
        keys = ["power_modes", str(number)]
        if mode.name in names:
            found.append(([*keys, "name"], f"a second mode is called {mode.name!r}"))
        names.append(mode.name)
        if mode.active_w < device.idle_w:
            draw = f"power mode {mode.name!r} draws {mode.active_w:g} W while decoding"
            place = [*keys, "active_w"] if "power_modes" in given else ["idle_w"]
            found.append((place, f"{draw}, less than the {device.idle_w:g} W of idle_w"))
    return found


def _over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay tables over tables, key by key; any other value replaces."""
    merged = dict(base)
    for key, value in given.items():
        below = merged.get(key)
        tables = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _over(merged[key], value) if tables else value
    return merged
