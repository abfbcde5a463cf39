"""Results: sections of tables and figures, as Markdown, JSON and on a terminal."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table as RichTable

from updraft.models.card import Table

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "docs" / "results"


def now() -> str:
    """Return the moment, for the head of results."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Section:
    """One part of a benchmark's results.

    Attributes:
        key: its name in the JSON.
        figures: the same figures as the tables, and more, for programs.
        failures: what was to be exact and is not; any of them fails the benchmark.
    """

    key: str
    tables: Sequence[Table]
    figures: dict[str, Any]
    failures: Sequence[str] = ()


@dataclass(frozen=True)
class Context:
    """Where figures come from: without it they cannot be compared."""

    commit: str
    machine: str
    cores: str
    bundle: str
    fingerprint: str
    prompts: str
    seed: str
    quick: bool
    measured: str = field(default_factory=now)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of n values."""

    n: int
    q1: float
    median: float
    q3: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        q1, median, q3 = np.percentile(values, (25, 50, 75)) if len(values) else (0.0, 0.0, 0.0)
        return cls(len(values), float(q1), float(median), float(q3))

    def show(self, scale: float = 1, digits: int = 1) -> str:
        """Return `median (q1 to q3)`, each times `scale`."""
        low, middle, high = (
            f"{scale * value:,.{digits}f}" for value in (self.q1, self.median, self.q3)
        )
        return f"{middle} ({low} to {high})"


def terminal(table: Table) -> RichTable:
    """Render a table for a terminal."""
    shown = RichTable(title=table.title, caption=table.note or None, title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(name, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*(cell.replace("**", "").replace("`", "") for cell in row))
    return shown


def write(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def save(name: str, page: str, figures: Mapping[str, Any], folder: Path = RESULTS) -> None:
    """Write a page and its figures as `NAME.md` and `NAME.json`."""
    write(folder / f"{name}.md", page)
    write(folder / f"{name}.json", json.dumps(figures, indent=1) + "\n")


def where() -> dict[str, str]:
    """Return commit, machine and moment: without them figures cannot be compared."""
    return {"commit": commit(), "machine": machine(), "measured": now()}


def commit() -> str:
    """Return the commit of the working tree, so far as it is known."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def machine() -> str:
    """Return architecture, processor and system; Linux keeps the name in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    processor = next(names, platform.processor() or "unknown processor")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{platform.machine()}, {processor}, {platform.system()}, {python}"
