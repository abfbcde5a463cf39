"""The plots of `docs/results/engine.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from updraft.benchmarks.measures.report import Spread
from updraft.cli.plot_style import COLOURS, DPI, MARKERS, STYLE

if TYPE_CHECKING:
    from updraft.benchmarks.engine.results import CaseResults

_OURS, _THEIRS = COLOURS[4], COLOURS[7]


def draw(folder: Path, cases: Sequence[CaseResults]) -> list[str]:
    """Draw bars and a roofline for each shape; returns the names of the files."""
    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    with plt.style.context(STYLE):
        for case in cases:
            if case.measured:
                names += [_bars(folder, case), _roofline(folder, case)]
    return names


def _bars(folder: Path, results: CaseResults) -> str:
    """Decode tokens per second, one bar each, with quartiles."""
    series = results.measured[::-1]
    spreads = [Spread.of(each.decode_rates) for each in series]
    figure, axes = plt.subplots(figsize=(7, 0.35 * len(series) + 1.2))
    axes.barh(
        [each.contender.name for each in series],
        [spread.median for spread in spreads],
        xerr=[
            [spread.median - spread.q1 for spread in spreads],
            [spread.q3 - spread.median for spread in spreads],
        ],
        color=[_OURS if each.contender.is_ours else _THEIRS for each in series],
    )
    axes.set(xlabel="decoded tokens per second; quartiles", title=results.case.shape.name)
    return _save(folder, f"engine-decode-{results.case.shape.name}.png", figure)


def _roofline(folder: Path, results: CaseResults) -> str:
    """Tokens per second over the bytes that one reads, below what the memory gives."""
    figure, axes = plt.subplots(figsize=(6, 4))
    series = results.measured
    megabytes = [each.weight_bytes / 1e6 for each in series]
    reads = [sample.bandwidth for each in series for sample in each.samples]
    line = np.geomspace(min(megabytes) / 1.5, max(megabytes) * 1.5, 50)
    spread = Spread.of(reads)
    axes.plot(line, spread.median / 1e6 / line, color=COLOURS[0], label="bound by memory reads")
    axes.fill_between(
        line, spread.q1 / 1e6 / line, spread.q3 / 1e6 / line, color=COLOURS[7], alpha=0.3
    )
    for number, each in enumerate(series):
        axes.plot(
            each.weight_bytes / 1e6,
            Spread.of(each.decode_rates).median,
            MARKERS[number % len(MARKERS)],
            color=COLOURS[number % (len(COLOURS) - 1)],
            markersize=8 if each.contender.is_ours else 5,
            linestyle="none",
            label=each.contender.name,
        )
    axes.set(
        xscale="log", yscale="log", xlabel="MB of weights read per token",
        ylabel="tokens per second", title=results.case.shape.name,
    )  # fmt: skip
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return _save(folder, f"engine-roofline-{results.case.shape.name}.png", figure)


def _save(folder: Path, name: str, figure: mpl.figure.Figure) -> str:
    figure.savefig(folder / name, dpi=DPI)
    plt.close(figure)
    return name
