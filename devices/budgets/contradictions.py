"""Limits that cannot all be meant: one can never be reached because of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from updraft.devices.budgets.budget import UNITS, Budget, Line, Origin
from updraft.devices.budgets.budget_file import BudgetFile
from updraft.devices.budgets.lines import SHARED
from updraft.devices.budgets.quantity import show
from updraft.devices.budgets.resolve import limits
from updraft.devices.catalog.device import Device


def contradictions(
    file: BudgetFile, catalog: Mapping[str, Device]
) -> dict[tuple[Origin, str], str]:
    """Return what is wrong, by the line's place and name; what many devices inherit stands once."""
    found: dict[tuple[Origin, str], str] = {}
    sections = [file.each, *file.groups.values(), *file.devices.values()]
    for scope in sections:
        budget = Budget(scope.origin.section, limits(file.resolved(scope)), scope.model)
        for line, message in [
            *_request_above_day(budget),
            *_above_total(budget, file.total()),
            *_above_board(budget, catalog),
        ]:
            found.setdefault((line.origin, line.name), message)
    return found


def _request_above_day(budget: Budget) -> Iterator[tuple[Line, str]]:
    request, day = budget.lines.get("energy_per_request"), budget.lines.get("energy_per_day")
    if request and day and request.limit > day.limit:
        yield (
            request,
            f"{_limit(request)} for one request is more than energy_per_day, {_limit(day)} "
            f"({day.origin}), lets {budget.device} spend in a day",
        )


def _above_total(budget: Budget, total: Budget) -> Iterator[tuple[Line, str]]:
    for name in SHARED:
        own, all_ = budget.lines.get(name), total.lines.get(name)
        if own and all_ and own.limit > all_.limit:
            yield (
                own,
                f"{_limit(own)} for one device is more than {_limit(all_)} for all together "
                f"({all_.origin})",
            )


def _above_board(budget: Budget, catalog: Mapping[str, Device]) -> Iterator[tuple[Line, str]]:
    device, memory = catalog.get(budget.model or ""), budget.lines.get("memory")
    if device and memory and memory.limit > device.memory_bytes:
        has = show(device.memory_bytes, "B")
        yield memory, f"{_limit(memory)} is more than {device.name}, {budget.device}, has: {has}"


def _limit(line: Line) -> str:
    return show(line.limit, UNITS[line.name])
