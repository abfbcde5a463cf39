"""Amounts with a unit, as people write and read them: `20 kJ`, `1.5 GB`, `500 tokens`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

# What each unit is in the unit that the code uses for its kind, which stands first.
_SCALES: Mapping[str, Mapping[str, str]] = {
    "energy": {"J": "1", "mJ": "1e-3", "kJ": "1e3", "MJ": "1e6"}
    | {"mWh": "3.6", "Wh": "3600", "kWh": "3.6e6"},
    "power": {"W": "1", "mW": "1e-3", "kW": "1e3"},
    "time": {
        "ms": "1",
        "us": "1e-3",
        "µs": "1e-3",
        "μs": "1e-3",
        "s": "1e3",
        "min": "6e4",
        "h": "3.6e6",
    },
    "size": {"B": "1", "kB": "1e3", "MB": "1e6", "GB": "1e9", "TB": "1e12"}
    | {"KiB": str(1 << 10), "MiB": str(1 << 20), "GiB": str(1 << 30), "TiB": str(1 << 40)},
    "count": {"tokens": "1", "token": "1"},
}
_NOUNS = {
    "energy": "an energy",
    "power": "a power",
    "time": "a time",
    "size": "a size",
    "count": "a number of tokens",
}
# In which units amounts are shown, small first; the rest is only read.
_SHOWN = {
    "J": ("mJ", "J", "kJ", "MJ"),
    "W": ("mW", "W", "kW"),
    "ms": ("µs", "ms", "s"),
    "B": ("B", "kB", "MB", "GB", "TB"),
    "tokens": ("tokens",),
}
_BINARY = ("TiB", "GiB", "MiB", "KiB")
EXAMPLES = {"J": "20 kJ", "W": "15 W", "ms": "300 ms", "B": "2 GB", "tokens": "500 tokens"}
# Nothing that a device does comes near, in any unit.
_MOST = 1e18
_QUANTITY = re.compile(r"([+-]?[0-9](?:_?[0-9])*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)\s*(.*)")


class _Unit(NamedTuple):
    kind: str
    scale: Decimal


_UNITS = {
    name: _Unit(kind, Decimal(scale))
    for kind, scales in _SCALES.items()
    for name, scale in scales.items()
}


def parse(text: str, unit: str) -> float:
    """Read an amount.

    Args:
        unit: of the result: J, W, ms, B or tokens. The text may use any unit of the same kind.

    Raises:
        ValueError: no number, no unit, one of another kind, not above 0; with what to write.
    """
    kind, said = _UNITS[unit].kind, f'"{_clipped(text)}"'
    if comma := re.fullmatch(r"\s*([0-9]+),([0-9]+\s*\w*)\s*", text):
        better = _clipped(f"{comma[1]}.{comma[2]}")
        raise ValueError(f'{said} has a comma; write "{better}"')
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{said} is no number with a unit; write it as "{EXAMPLES[unit]}"')
    number, name = match[1], match[2]
    found = _UNITS.get(name)
    if found is None:
        raise ValueError(f"{said} {_about_unit(_clipped(number), name, unit)}")
    if found.kind != kind:
        raise ValueError(
            f'{said} is {_NOUNS[found.kind]} where {_NOUNS[kind]} is needed, as "{EXAMPLES[unit]}"'
        )
    value = float(Decimal(number) * found.scale)
    if value <= 0:
        raise ValueError(f"{said} must lie above 0")
    if value > _MOST:
        raise ValueError(f"{said} is more than any device could use")
    if kind == "count" and value != int(value):
        raise ValueError(f"{said} must be a whole number")
    return value


def show(value: float, unit: str, digits: int | None = None, like: float | None = None) -> str:
    """Write an amount in the unit that reads best.

    Args:
        value: finite, in `unit`: J, W, ms, B or tokens.
        digits: significant ones; None keeps all, so that `parse` gives the same value back.
        like: another value, whose unit is to be used.
    """
    exact = Decimal(repr(float(value)))
    if digits is not None and exact:
        exact = round(exact, digits - 1 - exact.adjusted())
    elif unit == "B" and exact % 1000 and abs(exact) < _MOST:
        # A power of two says more in its own units: 4 GiB, not 4.294967296 GB.
        for name in _BINARY:
            if exact % _UNITS[name].scale == 0:
                return f"{_plain(exact / _UNITS[name].scale)} {name}"
    names, size = _SHOWN[unit], exact if like is None else Decimal(repr(float(like)))
    fitting = [name for name in names if abs(size) >= _UNITS[name].scale]
    name = fitting[-1] if fitting else (names[0] if size else unit)
    return f"{_plain(exact / _UNITS[name].scale)} {name}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _clipped(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _about_unit(number: str, name: str, unit: str) -> str:
    known = _SCALES[_UNITS[unit].kind]
    if not name:
        usual = _SHOWN[unit][1:3] or _SHOWN[unit]
        return "has no unit; write " + " or ".join(f'"{number} {u}"' for u in usual)
    # A line says itself what its amount is per.
    bare = name.partition("/")[0].strip()
    same = [candidate for candidate in known if candidate.lower() == bare.lower()]
    close = [bare] if bare in known else same or difflib.get_close_matches(bare, known, n=1)
    if close:
        meant = " or ".join(f'"{number} {u}"' for u in close)
        return f"has an unknown unit; did you mean {meant}?"
    return f"has an unknown unit; known are {', '.join(known)}"
