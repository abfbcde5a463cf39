"""Progress of work that reports its stages by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show progress on the error stream while something runs; gone when it is done."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield show_stages(bars)


def show_stages(bars: Progress) -> Callable[[str, int, int], None]:
    """Return what to call with a stage's name, what is done of it, and how much there is.

    Each stage gets a bar when it first reports.
    """
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    return report
