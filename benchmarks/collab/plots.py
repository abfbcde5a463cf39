"""The plots of `docs/results/collab.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from updraft.benchmarks.collab.cells import Cell
from updraft.benchmarks.collab.crowd import Crowd
from updraft.benchmarks.collab.plan import CROWD, NAIVE, Row
from updraft.cli.plot_style import COLOURS, DPI, MARKERS, STYLE


def draw(folder: Path, cells: Sequence[Cell], crowds: Sequence[Crowd]) -> list[str]:
    """Draw what there is to draw; returns the names of the files."""
    mpl.use("Agg")
    greedy = [cell for cell in cells if cell.temperature == 0 and cell.runs and not cell.link.loss]
    names = []
    with plt.style.context(STYLE):
        if greedy:
            names += [_time(folder, greedy), _bytes(folder, greedy)]
        if crowds:
            names.append(_crowd(folder, crowds))
    return names


def _time(folder: Path, cells: Sequence[Cell]) -> str:
    """Seconds per completion over the round trip, one line per row."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    rows = list(dict.fromkeys(cell.row for cell in cells))
    for number, row in enumerate(rows):
        points = sorted(
            (cell.link.round_trip_ms, cell.per_100(lambda run: run.result.total_s).median / 100)
            for cell in cells
            if cell.row == row
        )
        axes.plot(*zip(*points, strict=True), label=row.name, **_look(number, row))
    axes.set(xlabel="round trip, ms", ylabel="seconds per completion", yscale="log")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return _save(folder, "collab-time.png", figure)


def _bytes(folder: Path, cells: Sequence[Cell]) -> str:
    """Bytes up per completion, payload and what the link carried."""
    link = cells[0].link
    here = [cell for cell in cells if cell.link == link and cell.row != NAIVE]
    figure, axes = plt.subplots(figsize=(7, 0.3 * len(here) + 1.2))
    carried = [cell.per_100(lambda run: run.carried.up_bytes).median / 1e5 for cell in here]
    payload = [cell.per_100(lambda run: run.result.uplink_bytes).median / 1e5 for cell in here]
    places = range(len(here))
    axes.barh(places, carried, color=COLOURS[2], label="on the link")
    axes.barh(places, payload, color=COLOURS[4], height=0.4, label="payload")
    axes.set_yticks(places, [cell.row.name for cell in here])
    axes.invert_yaxis()
    axes.set(xlabel=f"kB up per completion, {link.name}")
    axes.legend()
    return _save(folder, "collab-bytes.png", figure)


def _crowd(folder: Path, crowds: Sequence[Crowd]) -> str:
    """Tokens per second, and the cloud's seconds per token, over the number of clients."""
    link = crowds[-1].link
    roomy = [each for each in crowds if each.limit_mib == crowds[0].limit_mib]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5))
    for number, row in enumerate(CROWD):
        here = [each for each in roomy if each.row == row and each.link == link]
        if not here:
            continue
        clients, look = [each.clients for each in here], _look(number, row)
        left.plot(clients, [each.tokens_s for each in here], label=row.name, **look)
        per_token = [each.cloud_s_per_token * 1e3 for each in here]
        right.plot(clients, per_token, label=row.name, **look)
    counts = sorted({each.clients for each in crowds})
    for axes, told in ((left, f"tokens/s, {link.name}"), (right, "cloud CPU ms per token")):
        axes.set(xlabel="clients", ylabel=told, ylim=(0, None), xticks=counts)
    left.legend(fontsize=7)
    return _save(folder, "collab-clients.png", figure)


def _look(number: int, row: Row) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number // len(COLOURS) % len(MARKERS)],
        "linestyle": "-" if row.side == "ours" else "--",
    }


def _save(folder: Path, name: str, figure: Figure) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / name, dpi=DPI)
    plt.close(figure)
    return name
