"""A file of budgets, read and checked: who inherits what from whom."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from updraft.devices.budgets.budget import Budget, Line, LineName, Origin
from updraft.devices.budgets.resolve import Lifted, Lines, limits, lineage, nearest
from updraft.errors import ConfigError


@dataclass(frozen=True)
class Scope:
    """One section as it is written.

    Attributes:
        inherits: the group that it names.
        model: id of the catalog's entry; only devices have one.
    """

    origin: Origin
    lines: Lines = field(default_factory=dict)
    inherits: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class BudgetFile:
    """Budgets of devices; each line is the nearest of device, groups and fleet.

    Attributes:
        path: as it was given.
        each: `[fleet]`, what every device gets that says nothing else.
        together: `[total]`, what all devices may spend together.
    """

    path: str
    each: Scope
    together: Scope
    groups: Mapping[str, Scope]
    devices: Mapping[str, Scope]

    def budget(self, device: str) -> Budget:
        """Return what limits a device.

        Raises:
            ConfigError: the file does not know the device.
        """
        return Budget(device, limits(self.lines(device)), self.devices[device].model)

    def fleet(self) -> Budget:
        """Return what limits each device that the file says nothing else of."""
        return Budget("fleet", limits(self.each.lines))

    def total(self) -> Budget:
        """Return what limits all devices together."""
        return Budget("total", limits(self.together.lines))

    def lines(self, device: str) -> dict[LineName, Line | Lifted]:
        """Return each line that the file has for a device, lifted ones too.

        Raises:
            ConfigError: the file does not know the device.
        """
        if device not in self.devices:
            close = difflib.get_close_matches(device, self.devices, n=1)
            known = ", ".join(self.devices) or "none"
            hint = f"did you mean {close[0]!r}?" if close else f"known are {known}"
            raise ConfigError([f"{self.path}: there is no device {device!r}; {hint}"])
        return self.resolved(self.devices[device])

    def resolved(self, scope: Scope) -> dict[LineName, Line | Lifted]:
        """Return what holds in a section: its own lines, then its groups', then the fleet's."""
        inherits = {name: group.inherits for name, group in self.groups.items()}
        groups = [self.groups[name].lines for name in lineage(scope.inherits, inherits)]
        return nearest([scope.lines, *groups, self.each.lines])
