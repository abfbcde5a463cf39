"""The tables of `docs/results/collab.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from updraft.benchmarks.collab.agreement import Agreement, Drafting
from updraft.benchmarks.collab.blackout import Stricken
from updraft.benchmarks.collab.cells import Cell
from updraft.benchmarks.collab.constants import Constants, Passes
from updraft.benchmarks.collab.crowd import Crowd
from updraft.benchmarks.collab.reference import LEAST_DISTINCT_TRIGRAMS
from updraft.benchmarks.collab.replay import TOLERANCE, Replay
from updraft.benchmarks.collab.wire import Link
from updraft.models.card import Table

_MB = 1e6


def sampling_name(temperature: float) -> str:
    """Return how a temperature is called in tables."""
    return "greedy" if temperature == 0 else f"T = {temperature:g}"


def cost_tables(cells: Sequence[Cell]) -> list[Table]:
    """One table of seconds and one of bytes per link and temperature."""
    groups: dict[tuple[Link, float], list[Cell]] = {}
    for cell in cells:
        if cell.runs:
            groups.setdefault((cell.link, cell.temperature), []).append(cell)
    tables = []
    for (link, temperature), group in groups.items():
        where = f"{link.name}, {sampling_name(temperature)}"
        tables += [_seconds(where, group), _bytes(where, group)]
    return tables


def _seconds(where: str, cells: Sequence[Cell]) -> Table:
    rows = []
    for cell in cells:
        total = cell.per_100(lambda run: run.result.total_s)
        edge = cell.per_100(lambda run: run.result.edge_s)
        cloud = cell.per_100(lambda run: run.result.cloud_s)
        idle = cell.per_100(lambda run: run.result.total_s - run.result.edge_s)
        comm = total.median - edge.median - cloud.median
        rows.append(
            (
                cell.row.name,
                str(len(cell.repeats[0])),
                f"**{total.show()}**",
                edge.show(),
                cloud.show(),
                f"{comm:,.1f}" if cell.row.serial else "",
                idle.show(),
                f"{cell.per_token(lambda run: run.result.stalls):.1%}",
                f"{cell.per_100(lambda run: run.result.cloud_calls).median:,.0f}",
                f"{cell.per_100(lambda run: run.result.stalls).median:,.0f}",
            )
        )
    return Table(
        f"Seconds per 100 prompts: {where}",
        ("row", "prompts", "total", "edge", "cloud", "comm", "edge idle", "waited", "calls",
         "stalls"),
        rows,
        "Median of the repeats (least to most). Edge and cloud: inside the forward passes. Comm: "
        "total - edge - cloud, where the sides take turns; else they overlap, and edge idle, "
        "total - edge, says how long the edge did nothing. Waited: stalls per token.",
    )  # fmt: skip


def _bytes(where: str, cells: Sequence[Cell]) -> Table:
    rows = [
        (
            cell.row.name,
            *(
                f"{cell.per_100(figure).median / _MB:,.3f}"
                for figure in (
                    lambda run: run.result.uplink_bytes,
                    lambda run: run.carried.up_bytes,
                    lambda run: run.result.downlink_bytes,
                    lambda run: run.carried.down_bytes,
                )
            ),
        )
        for cell in cells
    ]
    return Table(
        f"Megabytes per 100 prompts: {where}",
        ("row", "payload up", "interface up", "payload down", "interface down"),
        rows,
        "Interface: what the emulated link carried, with framing, TCP and IP headers and copies of "
        "lost segments, without acknowledgements.",
    )


def agreement_table(agreements: Sequence[Agreement], tried: int, chosen: int) -> Table:
    """Whose tokens are the whole model's."""
    rows = [
        (
            found.row.name,
            sampling_name(found.temperature),
            f"{found.completions}",
            f"**{found.same_codec:.2%}**",
            f"{found.no_codec:.2%}",
            f"{found.identical:.1%}",
            "none" if found.first_divergence is None else f"{found.first_divergence:.0f}",
            f"{found.waited:.1%}",
        )
        for found in agreements
    ]
    return Table(
        "Agreement with the whole model",
        ("row", "sampling", "completions", "agrees", "agrees, no codec", "same text as `cloud`",
         "first other token", "waited"),
        rows,
        "Agrees: the whole model, forced along the row's own text, chooses the same token after "
        "the same prefix, with the row's codec at the split and with none. Same text: equal to "
        f"`cloud` with the row's codec. Prompts: {chosen} of the {tried} held-out ones that were "
        "tried; left out are those whose greedy completion repeats itself (less than "
        f"{LEAST_DISTINCT_TRIGRAMS:.0%} of its trigrams distinct).",
    )  # fmt: skip


def constants_table(constants: Mapping[Link, Constants]) -> Table:
    """The constants of the time model, as they were beside each link's rows."""
    figures: dict[str, Callable[[Constants], str]] = {
        "t_e, a draft: layers below the split, exit, codec": lambda c: _ms(c.edge_s),
        "t_e in the engine, with the link's thread beside": lambda c: _ms(c.streaming_edge_s),
        "a step of the engine besides t_e, without a link": lambda c: _ms(c.edge_overhead_s),
        "t_f, from one streamed token to the next": lambda c: _ms(c.whole_s),
        "t_v(k), above the split, by k": lambda c: _by_count(c.upper),
        "its straight line": lambda c: _line(c.upper),
        "t_v(k), all layers, by k": lambda c: _by_count(c.whole),
        "its straight line, all layers": lambda c: _line(c.whole),
        "R, as emulated": lambda c: _ms(c.round_trip_s),
        "question and answer over loopback, besides": lambda c: _ms(c.exchange_s),
        "start of a cloud-only session, besides": lambda c: _ms(c.start_s),
        "a prompt's position below the split": lambda c: _ms(c.edge_prefill_s),
        "a prompt's position above it": lambda c: _ms(c.upper_prefill_s),
    }
    sizes = next(iter(constants.values())).state_bytes
    payload = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())
    return Table(
        "Constants of the time model, ms",
        ("constant", *(link.name for link in constants)),
        [(what, *(show(each) for each in constants.values())) for what, show in figures.items()],
        "Means, all but R over loopback; each column measured before, between and after the "
        f"repeats over that link. Payload of a position, bytes: {payload}.",
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _by_count(passes: Passes) -> str:
    return ", ".join(f"{k}: {seconds * 1e3:.2f}" for k, seconds in passes.by_count.items())


def _line(passes: Passes) -> str:
    return f"{_ms(passes.first_s)} × (1 + {passes.growth:.3f} (k - 1))"


def drafting_table(drafting: Sequence[Drafting]) -> Table:
    """α and m."""
    rows = []
    for found in drafting:
        sampling = sampling_name(found.temperature)
        if found.degenerate:
            sampling += ", prompts left out"
        rows.append((sampling, "all (α)", f"{found.positions:,}", f"**{found.acceptance:.1%}**"))
        rows += [
            (
                sampling,
                f"{b.above:.1f} to {b.above + 0.1:.1f}",
                f"{b.drafts:,}",
                f"{b.confirmed:.1%}",
            )
            for b in found.by_confidence
        ]
    return Table(
        "Acceptance of the split's exit along the whole model's own output",
        ("sampling", "calibrated confidence", "positions", "confirmed (m)"),
        rows,
    )


def replay_table(replays: Sequence[Replay], notes: Mapping[str, str]) -> Table:
    """The time model beside what was measured."""
    rows = [
        (
            each.cell.row.name,
            f"{each.cell.link.name}, {sampling_name(each.cell.temperature)}",
            f"{each.measured_s * 1e3:,.0f}",
            f"{each.predicted_s * 1e3:,.0f}",
            f"**{each.ratio:.2f}**" if each.is_apart else f"{each.ratio:.2f}",
            f"{each.simulated_s / each.measured_s:.2f}" if each.simulated_s else "",
            f"{each.rate:.1%}",
            f"{each.wait_s * 1e3:.1f}",
            notes.get(each.cell.row.name, "not explained") if each.is_apart else "",
        )
        for each in replays
    ]
    apart = sum(each.is_apart for each in replays)
    return Table(
        "The time model, replayed",
        ("row", "link", "measured, ms", "formula, ms", "formula ÷ measured",
         "event by event ÷ measured", "waits per token", "each by the formula, ms", "why apart"),
        rows,
        f"Per completion. {apart} of {len(replays)} are more than {TOLERANCE:.0%} apart (bold). "
        "Waits: requests of `threshold`; where the edge speculates, positions of these texts at "
        "which the split's exit says another token than the whole model. Event by event: the same "
        "constants, played along the text's own confidences, with the waits where the edge stops "
        "drafting because its drafts are unlikely to hold.",
    )  # fmt: skip


def crowd_table(crowds: Sequence[Crowd]) -> Table:
    """Many clients at once."""
    alone = {(each.row, each.link): each for each in crowds if each.clients == 1}
    roomy = max(each.limit_mib for each in crowds)
    rows = []
    for each in crowds:
        one = alone.get((each.row, each.link))
        rows.append(
            (
                each.row.name + ("" if each.limit_mib == roomy else ", little memory"),
                each.link.name,
                str(each.clients),
                f"{each.makespan_s:.2f}",
                f"{each.tokens_s:,.0f}",
                f"{each.tokens_s / one.tokens_s:.1f}" if one else "",
                f"{each.p50_ms:.1f}",
                f"{each.p95_ms:.1f}",
                f"{each.cloud_busy_s:.2f}",
                f"{each.cloud_s_per_token * 1e3:.3f}",
                f"{each.coordinator_cpu_s:.2f}",
                f"{each.positions_per_pass:.1f}",
                f"{each.sessions_per_pass:.1f}",
                f"{each.spilled}, {each.evicted}",
                f"{each.context_mib:.0f} of {each.limit_mib}",
                f"{each.resident_mib:.0f}",
                str(each.different),
            )
        )
    return Table(
        "Many clients at once",
        ("row", "link", "clients", "makespan, s", "tokens/s", "× one", "p50, ms", "p95, ms",
         "cloud busy, s", "cloud CPU per token, ms", "coordinator CPU, s", "positions per pass",
         "sessions per pass", "spilled, evicted",
         "context, MiB", "RSS, MiB", "other texts"),
        rows,
        "Greedy; each client a process with a link of its own. p50, p95: between two tokens of a "
        "client; tokens that one verdict confirms come together. Cloud busy: inside the forward "
        "passes; cloud CPU: their processor time, without what other processes took meanwhile. "
        "Spilled: sessions whose KV was given up for others' and computed again; evicted: "
        "whose inputs were too. Context: the most since the coordinator started, of its limit. "
        "Other texts: completions unlike those of one client alone. All clients share the cores "
        "that the coordinator does not have.",
    )  # fmt: skip


def blackout_table(stricken: Sequence[Stricken], seconds: float) -> Table:
    """Generations through a blackout."""
    rows = [
        (
            each.row.name,
            "cut" if each.cut else "held",
            f"{each.total_s:.2f}",
            f"{each.longest_gap_s:.2f}",
            str(each.unverified),
            "yes" if each.identical else "no",
        )
        for each in stricken
    ]
    return Table(
        f"Generations through a blackout of {seconds:g} s",
        ("row", "connections", "total, s", "longest gap, s", "tokens decoded alone",
         "final text that of `cloud`"),
        rows,
        "Greedy, fp16 wire, default deadlines; the link goes dark after a quarter of the tokens. "
        "Cut: connections are reset too.",
    )  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A figure to reach, and what was seen; nothing seen: it was not measured in this tier."""

    what: str
    wanted: str
    seen: float | None
    is_met: bool


def target_table(targets: Sequence[Target]) -> Table:
    """Figures to reach beside those seen."""
    rows = [
        (
            target.what,
            target.wanted,
            "not measured" if target.seen is None else f"**{target.seen:.3g}**",
            "" if target.seen is None else ("yes" if target.is_met else "no"),
        )
        for target in targets
    ]
    return Table("Figures to reach", ("figure", "wanted", "seen", "reached"), rows)
