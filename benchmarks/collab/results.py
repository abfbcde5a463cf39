"""What one run of the benchmark gave: as tables, JSON, Markdown and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from updraft.benchmarks.collab import tables
from updraft.benchmarks.collab.agreement import Agreement, Drafting
from updraft.benchmarks.collab.blackout import Stricken
from updraft.benchmarks.collab.cells import Cell
from updraft.benchmarks.collab.constants import Constants
from updraft.benchmarks.collab.crowd import Crowd
from updraft.benchmarks.collab.plan import Case, Tier
from updraft.benchmarks.collab.ratios import compare, ratio_table, targets
from updraft.benchmarks.collab.replay import Replay
from updraft.benchmarks.collab.stage import Run
from updraft.benchmarks.collab.wire import Link
from updraft.benchmarks.measures.report import Context, write
from updraft.models.card import Table

NOTES = "collab-notes.json"


@dataclass
class Results:
    """Everything that one run measured.

    Attributes:
        left_out: rows that could not be measured, and why.
        faults: what was to be exact and is not.
    """

    context: Context
    tier: Tier
    left_out: dict[Case, str]
    agreements: list[Agreement]
    drafting: list[Drafting]
    prompts: int
    tried: int
    constants: dict[Link, Constants] = field(default_factory=dict)
    replays: list[Replay] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    crowds: list[Crowd] = field(default_factory=list)
    stricken: list[Stricken] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    shallow: Results | None = None

    def tables(self, notes: dict[str, str]) -> list[Table]:
        """Return all tables, the figures to reach first."""
        ratios = compare(self.cells, self.agreements)
        found = [
            tables.target_table(targets(ratios, self.agreements, self.crowds)),
            ratio_table(ratios),
            tables.agreement_table(self.agreements, self.tried, self.prompts),
            *tables.cost_tables(self.cells),
        ]
        if self.crowds:
            found.append(tables.crowd_table(self.crowds))
        if self.stricken:
            found.append(tables.blackout_table(self.stricken, self.tier.blackout_s))
        found += [
            tables.constants_table(self.constants),
            tables.drafting_table(self.drafting),
            tables.replay_table(self.replays, notes),
        ]
        if self.shallow is not None:
            found += [
                replace(table, title=f"{table.title}; split after the first exit")
                for table in self.shallow.tables(notes)
            ]
        return found


def left_out(results: Results) -> list[str]:
    """Return which rows were left out, and why, in a line each."""
    return [
        f"{row.name}, {tables.sampling_name(temperature)}: {why}"
        for (row, temperature), why in results.left_out.items()
    ]


def save(results: Results, folder: Path) -> list[str]:
    """Write tables, figures and plots; returns the names of the files."""
    from updraft.benchmarks.collab.plots import draw  # noqa: PLC0415  # needs the bench extra

    plots = draw(folder, results.cells, results.crowds)
    write(folder / "collab.json", to_json(results) + "\n")
    write(folder / "collab.md", _to_markdown(results, read_notes(folder), plots))
    return ["collab.md", "collab.json", *plots]


def read_notes(folder: Path) -> dict[str, str]:
    """Return why rows are apart from the time model, as people have written it down."""
    path = folder / NOTES
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def to_json(results: Results) -> str:
    """Return all figures for programs."""
    return json.dumps(
        {
            "context": asdict(results.context),
            "tier": results.tier.name,
            "seconds": results.seconds,
            "left_out": [
                {"row": row.name, "temperature": temperature, "why": why}
                for (row, temperature), why in results.left_out.items()
            ],
            "faults": results.faults,
            "constants": [
                {"link": asdict(link)} | asdict(constants)
                for link, constants in results.constants.items()
            ],
            "drafting": [asdict(each) for each in results.drafting],
            "agreement": [asdict(each) for each in results.agreements],
            "cells": [_cell_figures(cell) for cell in results.cells if cell.runs],
            "crowds": [asdict(each) for each in results.crowds],
            "blackouts": [asdict(each) for each in results.stricken],
            "shallow": results.shallow and json.loads(to_json(results.shallow)),
            "replay": [
                {
                    "row": each.cell.row.name,
                    "link": each.cell.link.name,
                    "temperature": each.cell.temperature,
                    "predicted_s": each.predicted_s,
                    "simulated_s": each.simulated_s,
                    "measured_s": each.measured_s,
                }
                for each in results.replays
            ],
        },
        ensure_ascii=False,
        indent=1,
    )


def _cell_figures(cell: Cell) -> dict[str, Any]:
    figures = {
        name: asdict(cell.per_100(partial(_of_result, name)))
        for name in ("total_s", "edge_s", "cloud_s", "cloud_calls", "cloud_positions", "stalls",
                     "judged", "agreed", "uplink_bytes", "downlink_bytes")
    }  # fmt: skip
    return {
        "row": asdict(cell.row),
        "link": asdict(cell.link),
        "temperature": cell.temperature,
        "prompts": len(cell.repeats[0]),
        "repeats": len(cell.repeats),
        "new_tokens": cell.new_tokens,
        "per_100_prompts": {
            **figures,
            "carried_up_bytes": asdict(cell.per_100(lambda run: run.carried.up_bytes)),
            "carried_down_bytes": asdict(cell.per_100(lambda run: run.carried.down_bytes)),
        },
    }


def _of_result(name: str, run: Run) -> float:
    return float(getattr(run.result, name))


def _to_markdown(results: Results, notes: dict[str, str], plots: Sequence[str]) -> str:
    context, tier = results.context, results.tier
    verdict = "Everything that is to be exact is exact." if not results.faults else "**Failed:**"
    return "\n".join(
        [
            "# Collaborative decoding, measured",
            "",
            f"Bundle `{context.bundle}` {context.fingerprint[:12]}, {context.prompts}, up to "
            f"{tier.max_tokens} new tokens; {context.cores}; the link is a proxy in a process of "
            f"its own. Seed: {context.seed}. Commit {context.commit[:12]}, {context.machine}, "
            f"{context.measured}, {results.seconds:.0f} s. Written by `updraft bench collab --tier "
            f"{tier.name}`.",
            "",
            verdict,
            *(f"- {fault}" for fault in results.faults),
            "",
            *(f"- Left out: {told}." for told in left_out(results)),
            "",
            *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in plots),
            "",
            *(table.markdown() for table in results.tables(notes)),
        ]
    )
