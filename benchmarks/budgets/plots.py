"""The plots of `docs/results/budgets.md`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from updraft.benchmarks.budgets.day import HOURS
from updraft.benchmarks.budgets.plan import ALL_ON, HALF
from updraft.benchmarks.budgets.policies import OURS
from updraft.cli.plot_style import COLOURS, DPI, MARKERS, STYLE

if TYPE_CHECKING:
    from updraft.benchmarks.budgets.results import Results


def draw(folder: Path, results: Results) -> list[str]:
    """Draw quality over energy, and the power of a day; returns the names of the files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        return [_sweep(folder, results), _day(folder, results)]


def _sweep(folder: Path, results: Results) -> str:
    """Quality over the energy that was really used: a panel per budget of latency."""
    limits = list(dict.fromkeys(p.cell.per_token_ms for p in results.played))
    figure, panels = plt.subplots(
        1, len(limits), figsize=(4 * len(limits) + 2, 3.8), sharey=True, squeeze=False
    )
    planners = list(dict.fromkeys(p.cell.policy for p in results.played))
    for axes, limit in zip(panels[0], limits, strict=True):
        for number, planner in enumerate(sorted(planners, key=lambda name: name != OURS)):
            days = [
                p.day
                for p in results.played
                if p.cell.policy == planner
                and p.cell.per_token_ms == limit
                and (p.cell.share is not None or planner == ALL_ON)
            ]
            days.sort(key=lambda day: day.energy_j / day.seconds)
            axes.plot(
                [day.energy_j / day.seconds for day in days],
                [day.quality for day in days],
                MARKERS[number] + ("-" if planner == OURS else "--"),
                color=COLOURS[number],
                label=planner,
            )
        axes.set(title=f"{limit:g} ms a token", xlabel="power used, W")
    panels[0][0].set_ylabel("quality of the answers")
    panels[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return _save(folder, "budgets-sweep.png", figure)


def _day(folder: Path, results: Results) -> str:
    """The power of each hour under ours at half the energy, with its budget."""
    day = next(p.day for p in results.played if p.cell[:2] == (OURS, HALF))
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.bar(range(HOURS), day.power_w, color=COLOURS[2], width=0.8)
    assert day.budgets.power_w is not None, "half the energy is a budget"
    axes.axhline(day.budgets.power_w, color=COLOURS[5], label="budget")
    axes.set(xlabel="hour of the compressed day", ylabel="power of the fleet, W")
    axes.legend()
    return _save(folder, "budgets-day.png", figure)


def _save(folder: Path, name: str, figure: Figure) -> str:
    figure.savefig(folder / name, dpi=DPI)
    plt.close(figure)
    return name
