"""A device as the text of a data file."""

from __future__ import annotations

import json
from typing import Any

from updraft.devices.catalog.device import Device


def device_text(device: Device) -> str:
    """Return TOML that `load_catalog` reads as the same device."""
    values = device.model_dump(mode="json", exclude_none=True)
    # Tables come after all else: a key behind one would belong to it.
    plain = {key: value for key, value in values.items() if not _is_table(value)}
    parts = [_lines(plain)]
    for key, value in values.items():
        if isinstance(value, dict):
            parts.append(f"[{key}]\n{_lines(value)}")
        elif _is_table(value):
            parts += [f"[[{key}]]\n{_lines(table)}" for table in value]
    return "\n".join(parts)


def _is_table(value: Any) -> bool:
    several = isinstance(value, list) and any(isinstance(one, dict) for one in value)
    return several or isinstance(value, dict)


def _lines(values: dict[str, Any]) -> str:
    # JSON's strings, numbers and lists are TOML's as well.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
