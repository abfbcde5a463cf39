"""What one run of the benchmark gave: as tables, JSON, Markdown and plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from updraft.benchmarks.budgets.allowance import SHARE, Allowed, spent_j
from updraft.benchmarks.budgets.losses import Loss
from updraft.benchmarks.budgets.plan import ALL_ON, HALF, Cell, Tier
from updraft.benchmarks.budgets.play import Day
from updraft.benchmarks.budgets.policies import OURS
from updraft.benchmarks.budgets.scenario import EmulatedNode, fleet
from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.measures.report import commit, machine, now, write
from updraft.models.card import Table


@dataclass(frozen=True)
class Setting:
    """Where figures come from: without it they cannot be compared."""

    tier: str
    day_s: float
    prompts: int
    seeds: int
    commit: str
    machine: str
    measured: str = field(default_factory=now)

    @classmethod
    def here(cls, tier: Tier) -> Setting:
        return cls(tier.name, tier.day_s, tier.prompts, tier.seeds, commit(), machine())


@dataclass(frozen=True)
class Played:
    """A day, and the cell and the seed that it was played for."""

    cell: Cell
    seed: int
    day: Day


@dataclass
class Results:
    """Everything that one run measured."""

    setting: Setting
    played: list[Played]
    losses: list[Loss]
    allowed: Allowed | None = None
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Requests that were lost with a node, and days of ours without any answer."""
        silent = [
            f"{played.cell.policy}, {played.cell.per_token_ms:g} ms a token, "
            f"power {played.cell.share or 'without limit'}: no prompt was answered"
            for played in self.played
            if played.cell.policy == OURS and played.day.lost == len(played.day.answers)
        ]
        return silent + [
            f"node {loss.node} {loss.how}: {loss.day.lost} requests had no answer"
            for loss in self.losses
            if loss.day.lost
        ]

    def goals(self) -> list[Goal]:
        """Return the figures to reach, with what was reached."""
        ours = [p.day for p in self.played if p.cell.policy == OURS and p.cell.share is not None]
        limits = [day.budgets.power_w or 0.0 for day in ours]
        half = [pair for pair in self._pairs(ALL_ON) if pair[0].cell.share == HALF]
        return [
            Goal(
                "hours within the budget of power", 0.99, "%",
                [float(np.mean(day.hours_in_power)) for day in ours], at_least=True,
            ),
            Goal(
                "hours within the budget of latency", 0.99, "%",
                [float(np.mean(day.hours_in_time)) for day in ours], at_least=True,
            ),
            Goal(
                "energy of the day ÷ budget", 1, "%",
                [
                    day.energy_j / (limit * day.seconds)
                    for day, limit in zip(ours, limits, strict=True)
                ],
            ),
            Goal(
                "quality at half the energy ÷ all on", 0.97, "%",
                [mine.day.quality / max(1e-9, theirs.day.quality) for mine, theirs in half],
                at_least=True,
            ),
            *(
                Goal(
                    f"quality ÷ {rival}", 1, "%",
                    [
                        mine.day.quality / max(1e-9, theirs.day.quality)
                        for mine, theirs in self._pairs(rival)
                    ],
                    at_least=True,
                )
                for rival in self._rivals()
            ),
            Goal(
                "devices over their own energy of the day, in requests", 1, "",
                [self.allowed.over_requests(node) for node in self.allowed.daily_j]
                if self.allowed else [],
            ),
            Goal("requests lost with a node", 0, "", [float(x.day.lost) for x in self.losses]),
            Goal(
                "longest answer on the day a node is lost", 2, "s",
                [loss.longest_s for loss in self.losses],
            ),
            Goal("planning", 1, "s", [p.day.planning_s for p in self.played]),
        ]  # fmt: skip

    def tables(self) -> list[Table]:
        """Return all tables, the figures to reach first."""
        own = [_allowed_table(self.allowed)] if self.allowed else []
        shown = [goal_table(self.goals()), self._sweep(), self._lost(), *own]
        return [*shown, _fleet_table(fleet())]

    def _rivals(self) -> list[str]:
        names = dict.fromkeys(p.cell.policy for p in self.played if p.cell.share is not None)
        return [name for name in names if name != OURS]

    def _pairs(self, rival: str) -> Iterator[tuple[Played, Played]]:
        """Give our days with a rival's at the same budget; all on has no limit of power."""
        theirs = {(p.cell[1:], p.seed): p for p in self.played if p.cell.policy == rival}
        for mine in self.played:
            share = None if rival == ALL_ON else mine.cell.share
            other = theirs.get(((share, mine.cell.per_token_ms), mine.seed))
            if mine.cell.policy == OURS and mine.cell.share is not None and other is not None:
                yield mine, other

    def _sweep(self) -> Table:
        return Table(
            "Energy and delay budgets: planners side by side",
            (
                "ms a token", "power, of all on", "planner", "quality", "power, W", "budget, W",
                "hours in power", "hours in time", "latency, ms: median (p95)", "no answer",
                "nodes that answered",
            ),
            [self._row(p) for p in self.played],
            "Quality: share of the tokens that really follow a prompt which the expert that "
            "answered predicts, given all before them; mean over all prompts of the day, 0 where "
            "there is no answer. Power: all nodes, standby and answers. A rival takes only nodes "
            "with which all prompts are answered within the budget; where there are none, none "
            "is on.",
        )  # fmt: skip

    def _row(self, played: Played) -> tuple[str, ...]:
        cell, day = played.cell, played.day
        spans = [answer.latency_ms for answer in day.answers if not answer.error]
        middle, late = np.percentile(spans, (50, 95)) if spans else (0.0, 0.0)
        limit = day.budgets.power_w
        return (
            f"{cell.per_token_ms:g}",
            "no limit" if cell.share is None else f"{cell.share:.0%}",
            cell.policy,
            f"{day.quality:.3f}",
            f"{day.energy_j / day.seconds:.1f}",
            "" if limit is None else f"{limit:.1f}",
            f"{np.mean(day.hours_in_power):.0%}",
            f"{np.mean(day.hours_in_time):.0%}",
            f"{middle:.0f} ({late:.0f})",
            str(day.lost),
            str(len({answer.node for answer in day.answers if answer.node})),
        )

    def _lost(self) -> Table:
        return Table(
            "A node is lost at noon",
            ("node", "how", "prompts", "without an answer", "moved to another", "longest, s"),
            [
                (
                    loss.node,
                    loss.how,
                    str(len(loss.day.answers)),
                    str(loss.day.lost),
                    str(len(loss.moved)),
                    f"{loss.longest_s:.2f}",
                )
                for loss in self.losses
            ],
            "The busiest node. Longest: of all answers of that day, waiting included.",
        )


def _allowed_table(allowed: Allowed) -> Table:
    spent = spent_j(allowed.day.answers)
    return Table(
        "Devices with a budget of their own for the day",
        ("node", "budget, J", "spent, J", "over, in requests"),
        [
            (
                node,
                f"{limit:.1f}",
                f"{spent.get(node, 0.0):.1f}",
                f"{allowed.over_requests(node):.2f}",
            )
            for node, limit in allowed.daily_j.items()
        ],
        f"{SHARE:.0%} of what each one's answers took on the same day without. Prompts of the day "
        f"without an answer: {allowed.day.lost} of {len(allowed.day.answers)}.",
    )


def _fleet_table(nodes: Sequence[EmulatedNode]) -> Table:
    return Table(
        "The fleet",
        ("node", "expert", "device", "first token, ms", "token, ms", "active, W", "standby, W"),
        [
            (
                node.name,
                node.expert,
                node.device,
                f"{node.first_token_ms:.1f}",
                f"{node.per_token_ms:.1f}",
                f"{node.active_w:.1f}",
                f"{node.standby_w:.1f}",
            )
            for node in nodes
        ],
        "Declared: a 1.1-billion-parameter int4 model, by the performance model and the catalog.",
    )


def to_json(results: Results) -> str:
    """Return all figures for programs."""
    figures: dict[str, Any] = {
        "setting": asdict(results.setting),
        "seconds": results.seconds,
        "faults": results.faults,
        "goals": [goal.as_figures() for goal in results.goals()],
        "days": [
            {
                **p.cell._asdict(),
                "seed": p.seed,
                "quality": p.day.quality,
                "energy_j": p.day.energy_j,
                "budget_w": p.day.budgets.power_w,
                "power_w": p.day.power_w,
                "lost": p.day.lost,
                "plans": p.day.plans,
                "planning_s": p.day.planning_s,
                "gap": p.day.gap,
                "agreement": float(np.mean([answer.agreement for answer in p.day.answers])),
                "nodes": Counter(answer.node for answer in p.day.answers if answer.node),
            }
            for p in results.played
        ],
        "allowed": None
        if results.allowed is None
        else {
            "daily_j": dict(results.allowed.daily_j),
            "spent_j": spent_j(results.allowed.day.answers),
            "lost": results.allowed.day.lost,
        },
        "losses": [
            {"node": x.node, "how": x.how, "lost": x.day.lost, "longest_s": x.longest_s}
            for x in results.losses
        ],
    }
    return json.dumps(figures, indent=1)


def save(results: Results, folder: Path) -> list[str]:
    """Write tables, figures and plots; returns the names of the files."""
    from updraft.benchmarks.budgets.plots import draw  # noqa: PLC0415  # needs the bench extra

    plots = draw(folder, results)
    write(folder / "budgets.json", to_json(results) + "\n")
    write(folder / "budgets.md", _to_markdown(results, plots))
    return ["budgets.md", "budgets.json", *plots]


def _to_markdown(results: Results, plots: Sequence[str]) -> str:
    setting = results.setting
    verdict = "No request was lost with a node." if not results.faults else "**Failed:**"
    return "\n".join(
        [
            "# Budgets, measured",
            "",
            f"Days of {setting.prompts} mixed prompts in {setting.day_s:g} s each, on a loopback "
            "fleet of emulated devices: real processes and real experts, at the pace and the power "
            f"that each device declares. {setting.seeds} day(s) of prompts, the same for every "
            f"planner. Commit {setting.commit[:12]}, {setting.machine}, {setting.measured}, "
            f"{results.seconds:.0f} s. Written by `updraft bench budgets --tier {setting.tier}`.",
            "",
            verdict,
            *(f"- {fault}" for fault in results.faults),
            "",
            *(f"![{name}]({name})\n" for name in plots),
            *(table.markdown() + "\n" for table in results.tables()),
        ]
    )
