"""The plot of `updraft optimize frontier`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from updraft.cli.plot_style import DPI, STYLE
from updraft.optimizer.frontier import FrontierPoint

# Okabe and Ito: told apart with any colour vision.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7")
_MARKERS = "osv^Dx"


def draw(path: Path, points: Sequence[FrontierPoint]) -> None:
    """Draw quality over the share of each budget, one panel per axis, one line per method."""
    mpl.use("Agg")
    axes_of_budget = list(dict.fromkeys(point.axis for point in points))
    methods = list(dict.fromkeys(point.method for point in points))
    with plt.style.context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(axes_of_budget),
            figsize=(5 * len(axes_of_budget), 3.8),
            sharey=True,
            squeeze=False,
        )
        for axis, panel in zip(axes_of_budget, panels[0], strict=True):
            for number, method in enumerate(methods):
                line = [p for p in points if (p.axis, p.method) == (axis, method)]
                panel.plot(
                    [100 * point.share for point in line],
                    [point.quality for point in line],
                    label=method,
                    color=_COLOURS[number % len(_COLOURS)],
                    marker=_MARKERS[number % len(_MARKERS)],
                    markersize=4,
                    zorder=3 + len(methods) - number,  # the first on top
                )
            panel.set(xlabel=f"budget of {axis}, % of what all experts take")
        panels[0][0].set(ylabel="quality, summed over prompts")
        panels[0][-1].legend(fontsize=8)
        figure.savefig(path, dpi=DPI)
        plt.close(figure)
