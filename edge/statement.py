"""What is said of a device's budget: with an answer, and when asked for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from updraft.devices.budgets.admission import Admission
from updraft.devices.budgets.budget import UNITS, Budget, Line, LineName
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint


def with_answer(admission: Admission, ledger: Ledger, changed_by: Line | None) -> dict[str, Any]:
    """Return what is left, and the line that changed how the request was worked on."""
    said: dict[str, Any] = {"left": _rounded(admission.left())}
    if changed_by is not None:
        said["changed_by"] = {"line": changed_by.name, "on_exhausted": changed_by.on_exhausted}
    if ledger.fault is not None:
        said["ledger_fault"] = ledger.fault
    return said


def state(
    budget: Budget, admission: Admission, ledger: Ledger, point: OperatingPoint, waiting: int
) -> dict[str, Any]:
    """Return everything, as `GET /v1/budget` shows it.

    Args:
        waiting: requests that wait for room.
    """
    today, left = ledger.today(), _rounded(admission.left())
    return {
        "device": budget.device,
        "lines": [
            {
                "name": name,
                "limit": line.limit,
                "unit": UNITS[name],
                "on_exhausted": line.on_exhausted,
                "window_s": line.window_s,
                "from": str(line.origin),
                "left": left.get(name),
            }
            for name, line in budget.lines.items()
        ],
        "today": {
            "requests": today.requests,
            "tokens": today.tokens,
            **asdict(today.usage),
            "left_s": round(ledger.day_left_s()),
        },
        "reserved": asdict(admission.reserved()),
        "waiting": waiting,
        "point": asdict(point),
        "ledger": {
            "path": None if ledger.path is None else str(ledger.path),
            "fault": ledger.fault,
            "warning": ledger.warning,
        },
    }


def _rounded(left: Mapping[LineName, float]) -> dict[LineName, float]:
    return {name: round(value, 6) for name, value in left.items()}
