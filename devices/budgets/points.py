"""The operating points worth choosing from: none is better than another in every respect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from updraft.devices.budgets.expectation import MODES, Coordinator, Outlook, Shape, Way
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.catalog.device import Device, PowerMode
from updraft.devices.correction import Correction
from updraft.devices.workload import Workload


def operating_points(
    device: Device,
    workload: Workload,
    *,
    prompt_tokens: int,
    new_tokens: int,
    agreement: Mapping[int, float],
    modes: Collection[str] = MODES,
    power_modes: Sequence[PowerMode] | None = None,
    coordinator: Coordinator | None = None,
    correction: Correction | None = None,
) -> list[OperatingPoint]:
    """Return the ways in which a device can work, predicted, the best in quality first.

    Args:
        prompt_tokens, new_tokens: of the answers that the points are for. The energy and the
            uplink of a prompt are spread over its new tokens, so that `token_j` × new tokens is
            what an answer takes.
        agreement: for each exit, the share of tokens that agree with the full depth.
        modes: that may be chosen: some of `full`, `lossless`, `cloud`, `standalone`.
        power_modes: that may be chosen; by default those that can be entered without a reboot.
        coordinator: without one, `lossless` and `cloud` are left out.
        correction: what this device's measurements have taught.
    """
    outlook = Outlook(device, workload, agreement, coordinator, correction or Correction())
    shape = Shape(prompt_tokens, new_tokens)
    allowed = switchable(device) if power_modes is None else power_modes
    points = [
        _point(outlook, way, shape)
        for power_mode in allowed
        for way in outlook.ways(power_mode)
        if way.mode in modes
    ]
    return sorted(undominated(points), key=lambda point: (-point.quality, point.token_j))


def switchable(device: Device) -> tuple[PowerMode, ...]:
    """Return the power modes that a device changes between while it runs, the default first."""
    default = device.default_mode
    if default.needs_reboot:
        return (default,)
    return tuple(mode for mode in device.power_modes if not mode.needs_reboot)


def undominated(points: Iterable[OperatingPoint]) -> list[OperatingPoint]:
    """Leave out points that another one equals or betters in every respect (Pareto)."""
    kept: list[OperatingPoint] = []
    for point in points:
        if not any(_as_good(other, point) for other in kept):
            kept = [other for other in kept if not _as_good(point, other)]
            kept.append(point)
    return kept


def _as_good(one: OperatingPoint, other: OperatingPoint) -> bool:
    return all(a <= b for a, b in zip(_costs(one), _costs(other), strict=True))


def _costs(point: OperatingPoint) -> tuple[float, ...]:
    return (
        -point.quality,
        point.first_token_ms,
        point.token_ms,
        point.token_j,
        point.power_w,
        point.token_uplink_bytes,
        point.token_cloud,
    )


def _point(outlook: Outlook, way: Way, shape: Shape) -> OperatingPoint:
    found = outlook.expect(way, shape)
    return OperatingPoint(
        mode=way.mode,
        exit_layer=way.exit_layer,
        draft_length=way.draft_length,
        power_mode=way.power_mode.name,
        quality=found.quality,
        first_token_ms=found.first_token_ms.value,
        token_ms=found.token_ms.value,
        token_j=found.energy_j.value / shape.new_tokens,
        power_w=found.power_w,
        token_uplink_bytes=found.uplink_bytes / shape.new_tokens,
        token_cloud=found.cloud_tokens / shape.new_tokens,
    )
