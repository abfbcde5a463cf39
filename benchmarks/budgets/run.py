"""`updraft bench budgets`: play all days in one run, on the same fleet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.budgets.allowance import Allowed, allowances
from updraft.benchmarks.budgets.day import HOURS, Arrival, arrivals, asked_of
from updraft.benchmarks.budgets.losses import LOSSES, Loss, busiest
from updraft.benchmarks.budgets.plan import ALL_ON, HALF, Cell, Tier
from updraft.benchmarks.budgets.play import Budgets, Day, play
from updraft.benchmarks.budgets.policies import OURS
from updraft.benchmarks.budgets.results import Played, Results, Setting
from updraft.benchmarks.budgets.stage import Stage
from updraft.models.shipped import shipped_family


def measure(tier: Tier, console: Console) -> Results:
    """Play every day of a tier."""
    started = perf_counter()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="updraft-budgets-") as name,
        Progress(*columns, console=console) as progress,
    ):
        with closing(Stage(_made(Path(name), "days"))) as stage:
            results = _measure(tier, stage, progress)
        results.allowed = _allowed(tier, results, Path(name), progress)
    results.seconds = perf_counter() - started
    return results


def _allowed(tier: Tier, results: Results, folder: Path, progress: Progress) -> Allowed:
    """Play the day of the first seed again, with a budget of its own for each node."""
    normal = next(p for p in results.played if p.cell[:2] == (OURS, HALF))
    daily_j = allowances(normal.day)
    task = progress.add_task("devices with budgets of their own", total=1)
    with closing(Stage(_made(folder, "allowances"), daily_j, tier.day_s)) as stage:
        day = arrivals(asked_of(shipped_family()), tier.day_s, tier.prompts, normal.seed)
        found = _play(stage, normal.cell, normal.day.budgets.power_w, day, tier.day_s)
    progress.advance(task)
    return Allowed(daily_j, found)


def _made(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _measure(tier: Tier, stage: Stage, progress: Progress) -> Results:
    prompts = asked_of(shipped_family())
    played: list[Played] = []
    losses: list[Loss] = []
    seeds = range(tier.seeds)
    per_seed = len(list(tier.references())) + len(list(tier.cells())) + len(LOSSES)
    task = progress.add_task("days", total=tier.seeds * per_seed)
    for seed in seeds:
        day = arrivals(prompts, tier.day_s, tier.prompts, seed)
        full_w: dict[float, float] = {}
        for cell in (*tier.references(), *tier.cells()):
            progress.update(task, description=f"{cell.policy}, {_told(cell)}")
            power_w = None if cell.share is None else cell.share * full_w[cell.per_token_ms]
            found = _play(stage, cell, power_w, day, tier.day_s)
            if cell.policy == ALL_ON:
                full_w[cell.per_token_ms] = found.energy_j / found.seconds
            played.append(Played(cell, seed, found))
            progress.advance(task)
        normal = next(p for p in played if p.seed == seed and p.cell[:2] == (OURS, HALF))
        node = busiest(normal.day)
        if node is None:  # which the results say
            continue
        for how, (lose, mend) in LOSSES.items():
            progress.update(task, description=f"node {node} {how}")
            power_w = normal.day.budgets.power_w
            found = _play(stage, normal.cell, power_w, day, tier.day_s, partial(lose, stage, node))
            mend(stage, node)
            losses.append(Loss(how, node, found))
            progress.advance(task)
    return Results(Setting.here(tier), played, losses)


def _play(
    stage: Stage,
    cell: Cell,
    power_w: float | None,
    day: Sequence[Arrival],
    day_s: float,
    at_noon: Callable[[], None] | None = None,
) -> Day:
    return play(
        stage, cell.policy, Budgets(power_w, day_s / HOURS, cell.per_token_ms), day, day_s, at_noon
    )


def _told(cell: Cell) -> str:
    power = "no limit" if cell.share is None else f"{cell.share:.0%} of the power"
    return f"{power}, {cell.per_token_ms:g} ms a token"
