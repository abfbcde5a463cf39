"""What a device could be given to run, and how: what is asked for, and every change of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from updraft.devices.budgets.expectation import Expectation, Outlook, Shape, Way
from updraft.devices.catalog.device import PowerMode

# Small changes first.
Kind = Literal["as asked", "power mode", "exits", "drafts", "mode", "bundle", "several"]


@dataclass(frozen=True)
class Demand:
    """What is asked of a device.

    Attributes:
        shape: of a usual answer.
        requests_per_day: None: not known.
    """

    shape: Shape
    requests_per_day: float | None = None


@dataclass(frozen=True)
class Option:
    """A bundle and a way to run it.

    Attributes:
        kind: in what it differs from what is asked for.
    """

    bundle: str
    way: Way
    kind: Kind
    expected: Expectation


class Options:
    """All bundles and ways of working that a device could be given.

    Args:
        outlooks: by the bundle's name, on one device; the first is the one that is asked for.
        mode, power_mode: asked for; by default all layers on the device, in its default mode.

    Raises:
        ValueError: nothing works in the mode that is asked for.
    """

    def __init__(
        self,
        outlooks: Mapping[str, Outlook],
        demand: Demand,
        mode: str = "full",
        power_mode: PowerMode | None = None,
    ) -> None:
        self.demand = demand
        self.device = next(iter(outlooks.values())).device
        first = power_mode or self.device.default_mode
        power_modes = [first, *(other for other in self.device.power_modes if other != first)]
        ways = [
            (bundle, way)
            for bundle, outlook in outlooks.items()
            for power_mode in power_modes
            for way in outlook.ways(power_mode)
        ]
        found = next((entry for entry in ways if entry[1].mode == mode), None)
        if found is None:
            known = ", ".join(dict.fromkeys(way.mode for _, way in ways))
            raise ValueError(f"mode {mode!r} cannot be predicted here; choose from {known}")
        asked_bundle, asked = found
        self.all = [
            Option(
                bundle,
                way,
                _difference(way, asked, same_bundle=bundle == asked_bundle),
                outlooks[bundle].expect(way, demand.shape),
            )
            for bundle, way in ways
        ]
        self.asked = next(option for option in self.all if option.kind == "as asked")


def _difference(way: Way, asked: Way, *, same_bundle: bool) -> Kind:
    changes: list[Kind] = [] if same_bundle else ["bundle"]
    if way.power_mode != asked.power_mode:
        changes.append("power mode")
    if way.mode == "standalone" and asked.mode == "full":
        changes.append("exits")
    elif way.mode != asked.mode:
        changes.append("mode")
    elif same_bundle and way.exit_layer != asked.exit_layer:
        changes.append("exits")
    elif way.draft_length != asked.draft_length:
        changes.append("drafts")
    if len(changes) > 1:
        return "several"
    return changes[0] if changes else "as asked"
