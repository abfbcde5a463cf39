"""The plots of `docs/results/optimizer.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from updraft.benchmarks.optimizer.contests import Heat
from updraft.benchmarks.optimizer.plan import BENDERS, CBC, CP_SAT, HIGHS, OURS
from updraft.cli import frontier_plot
from updraft.cli.plot_style import COLOURS, DPI, MARKERS, STYLE

if TYPE_CHECKING:
    from updraft.benchmarks.optimizer.results import Results

_SOLVERS = (OURS, HIGHS, BENDERS, CBC, CP_SAT)
# The budget at which rivals run in every tier.
_SHARE = 0.25
_PROMPTS = 1000


def draw(folder: Path, results: Results) -> list[str]:
    """Draw what there is to draw; returns the names of the files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with plt.style.context(STYLE):
        heats = [
            heat
            for heat in results.heats
            if heat.case.share == _SHARE and heat.contest.prompts == _PROMPTS
        ]
        if heats:
            names.append(_time(folder, heats))
        if results.frontiers:
            names.append("optimizer-frontier.png")
            frontier_plot.draw(folder / names[-1], results.frontiers)
        if results.growth:
            names.append(_growth(folder, results))
    return names


def _time(folder: Path, heats: Sequence[Heat]) -> str:
    """Seconds over the number of experts, one line per solver, one panel per kind."""
    kinds = list(dict.fromkeys(heat.case.kind for heat in heats))
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(3 * len(kinds) + 1.5, 3.5), sharey=True, squeeze=False
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        here = [heat for heat in heats if heat.case.kind == kind]
        for number, name in enumerate(_SOLVERS):
            _solver_line(axes, here, name, number)
        axes.set(title=kind, xlabel="experts", yscale="log")
    panels[0][0].set_ylabel(f"CPU seconds, {_PROMPTS} prompts, energy {_SHARE:.0%}", fontsize=8)
    handles = {
        name: handle
        for axes in panels[0]
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    panels[0][-1].legend(
        handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5),
        title="hollow: out of time", fontsize=7,
    )  # fmt: skip
    return _save(folder, "optimizer-time.png", figure)


def _solver_line(axes: Axes, heats: Sequence[Heat], name: str, number: int) -> None:
    by_size: dict[int, list[Any]] = {}
    for heat in heats:
        if name in heat.outcomes:
            by_size.setdefault(heat.contest.experts, []).append(heat.outcomes[name])
    if not by_size:
        return
    sizes = sorted(by_size)
    seconds = [max(1e-4, median(run.seconds for run in by_size[size])) for size in sizes]
    colour, style = COLOURS[number], "-" if name == OURS else "--"
    axes.plot(sizes, seconds, style, color=colour)
    axes.plot([], [], style + MARKERS[number], color=colour, label=name)
    for size, second in zip(sizes, seconds, strict=True):
        proved = all(run.proved for run in by_size[size])
        axes.plot(
            size, second, MARKERS[number], color=colour,
            markerfacecolor=colour if proved else "white",
        )  # fmt: skip


def _growth(folder: Path, results: Results) -> str:
    """Greedy's seconds, and those of its certificate, over thousands of experts."""
    figure, axes = plt.subplots(figsize=(5, 3.5))
    experts = [each.experts for each in results.growth]
    axes.plot(experts, [g.greedy_s for g in results.growth], "o", color=COLOURS[0], label="greedy")
    axes.plot(
        experts, [g.certificate_s for g in results.growth], "s", color=COLOURS[4],
        label="certificate",
    )  # fmt: skip
    axes.set(xlabel="experts", ylabel="CPU seconds", xscale="log", yscale="log")
    axes.legend()
    return _save(folder, "optimizer-growth.png", figure)


def _save(folder: Path, name: str, figure: Figure) -> str:
    figure.savefig(folder / name, dpi=DPI)
    plt.close(figure)
    return name
