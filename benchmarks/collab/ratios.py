"""Ours against CE-CoLLM, and the figures to reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from updraft.benchmarks.collab.agreement import Agreement
from updraft.benchmarks.collab.cells import Cell
from updraft.benchmarks.collab.crowd import Crowd
from updraft.benchmarks.collab.plan import CLOUD, LOSSLESS, NEAR, THETAS, Row
from updraft.benchmarks.collab.stage import Run
from updraft.benchmarks.collab.tables import Target, sampling_name
from updraft.models.card import Table

_FAR_MS = 50


@dataclass(frozen=True)
class Ratio:
    """One of our rows over CE-CoLLM at one θ, on one link at one temperature.

    Attributes:
        nearest: of all θ, this one's agreement is nearest to ours.
    """

    ours: Cell
    theirs: Cell
    nearest: bool
    time: float
    payload_up: float
    interface_up: float
    cloud: float


def compare(cells: Sequence[Cell], agreements: Sequence[Agreement]) -> list[Ratio]:
    """Compare each of our cells with CE-CoLLM at each θ, prompt by prompt the same work."""
    agrees = {(each.row, each.temperature): each.same_codec for each in agreements}
    found = []
    for ours in cells:
        if ours.row.side != "ours" or not ours.runs:
            continue
        rivals = [
            cell
            for cell in cells
            if cell.row in THETAS
            and cell.runs
            and (cell.link, cell.temperature) == (ours.link, ours.temperature)
        ]
        own = agrees.get((ours.row, ours.temperature), 1.0)
        distance = {r.row: abs(agrees.get((r.row, r.temperature), 1.0) - own) for r in rivals}
        # Of equally near ones the strictest: what agrees always is compared with what always asks.
        nearest = min(distance, key=lambda row: (distance[row], -row.theta), default=None)
        found += [
            Ratio(
                ours,
                theirs,
                theirs.row == nearest,
                _over(ours, theirs, lambda run: run.result.total_s),
                _over(ours, theirs, lambda run: run.result.uplink_bytes),
                _over(ours, theirs, lambda run: run.carried.up_bytes),
                _over(ours, theirs, lambda run: run.result.cloud_s),
            )
            for theirs in rivals
        ]
    return found


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """Ours over CE-CoLLM's."""
    rows = [
        (
            each.ours.row.name,
            f"{each.ours.link.name}, {sampling_name(each.ours.temperature)}",
            f"{each.theirs.row.theta:.1f}" + (" (nearest)" if each.nearest else ""),
            f"**{each.time:.2f}**" if each.nearest else f"{each.time:.2f}",
            f"{each.payload_up:.2f}",
            f"{each.interface_up:.2f}",
            f"{each.cloud:.2f}",
        )
        for each in ratios
    ]
    return Table(
        "Ours over CE-CoLLM's",
        ("row", "link", "θ", "time", "payload up", "interface up", "cloud seconds"),
        rows,
        "Below 1 ours is less. Nearest: the θ whose agreement with the whole model is nearest to "
        "ours; medians of the repeats.",
    )


def targets(
    ratios: Sequence[Ratio], agreements: Sequence[Agreement], crowds: Sequence[Crowd]
) -> list[Target]:
    """Set what was seen beside the figures to reach."""
    near = [r for r in ratios if r.nearest and r.ours.link == NEAR]
    far = [r for r in ratios if r.nearest and r.ours.link.round_trip_ms >= _FAR_MS]
    found = []
    for temperature in (0.0, 0.8):
        sampling = sampling_name(temperature)
        same = [a.identical for a in agreements if _is_ours(a.row, a.temperature, temperature)]
        found.append(_at_least(f"lossless: same texts as `cloud`, {sampling}", 1.0, same))
        for where, those, limit in (("2 ms/31 Mbit/s", near, 0.7), ("RTT ≥ 50 ms", far, 0.35)):
            times = [r.time for r in _of(those, LOSSLESS, temperature)]
            found.append(_at_most(f"lossless time, {where}, {sampling}", limit, times))
        clouds = [r.cloud for r in _of(near, LOSSLESS, temperature)]
        found.append(_at_most(f"lossless cloud seconds, {sampling}", 1.02, clouds))
        for wire, limit in (("int8", 0.82), ("int6", 0.62)):
            sizes = [
                r.payload_up
                for r in near
                if (r.ours.row.mode, r.ours.row.wire) == ("lossless", wire)
                and r.ours.temperature == temperature
            ]
            found.append(_at_most(f"lossless payload up, {wire}, {sampling}", limit, sizes))
    return [*found, *_crowd_targets(crowds)]


def _crowd_targets(crowds: Sequence[Crowd]) -> list[Target]:
    cloud, gain = [], []
    roomy = [each for each in crowds if each.limit_mib == crowds[0].limit_mib]
    for each in roomy:
        if each.row != LOSSLESS or each.clients != 16:
            continue
        for other in roomy:
            if other.link != each.link:
                continue
            if other.row == CLOUD and other.clients == 16:
                cloud.append(each.cloud_s_per_token / other.cloud_s_per_token)
            if other.row == LOSSLESS and other.clients == 1:
                gain.append(each.tokens_s / other.tokens_s)
    return [
        _at_most("16 clients: lossless cloud CPU seconds over cloud-only's", 0.35, cloud),
        _at_least("16 clients: lossless tokens/s over one client's", 4.0, gain),
    ]


def _over(ours: Cell, theirs: Cell, figure: Callable[[Run], float]) -> float:
    below = theirs.per_100(figure).median
    return ours.per_100(figure).median / below if below else float("inf")


def _is_ours(row: Row, temperature: float, wanted: float) -> bool:
    return row.mode == "lossless" and temperature == wanted


def _of(ratios: Sequence[Ratio], row: Row, temperature: float) -> list[Ratio]:
    return [r for r in ratios if r.ours.row == row and r.ours.temperature == temperature]


def _at_most(what: str, limit: float, seen: Sequence[float]) -> Target:
    worst = max(seen, default=None)
    return Target(what, f"≤ {limit:g}", worst, worst is not None and worst <= limit)


def _at_least(what: str, limit: float, seen: Sequence[float]) -> Target:
    worst = min(seen, default=None)
    return Target(what, f"≥ {limit:g}", worst, worst is not None and worst >= limit)
