"""What one run of the benchmark gave: as tables, JSON, Markdown and plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from updraft.benchmarks.engine.contenders import TO_REACH, UPDRAFT, Contender
from updraft.benchmarks.engine.figures import Figure, figure_table, figures_of
from updraft.benchmarks.engine.plan import PROMPT_TOKENS, SEED, Case, Tier
from updraft.benchmarks.engine.samples import Series
from updraft.benchmarks.measures.report import Spread, commit, machine, now, write
from updraft.models.card import Table

_EXACT = ("Updraft", "Updraft, bare loop, cut", "Updraft, bare loop, whole")


@dataclass(frozen=True)
class Setting:
    """Where figures come from: without it they cannot be compared.

    Attributes:
        load: processes that wanted a core, on average over the minute before.
    """

    tier: str
    commit: str
    machine: str
    threads: int
    load: float
    energy: str
    seed: int = SEED
    prompt_tokens: int = PROMPT_TOKENS
    measured: str = field(default_factory=now)

    @classmethod
    def here(cls, tier: Tier, threads: int, load: float, energy: str) -> Setting:
        return cls(tier.name, commit(), machine(), threads, load, energy)


@dataclass
class CaseResults:
    """One shape.

    Attributes:
        series: by the contender's name.
        predicted_bytes: memory of ours, as said before it is loaded.
        left_out: what could not be measured, and why.
    """

    case: Case
    series: dict[str, Series] = field(default_factory=dict)
    predicted_bytes: int | None = None
    left_out: list[str] = field(default_factory=list)

    def of(self, contender: Contender) -> Series | None:
        """Return a contender's samples, if it was measured."""
        found = self.series.get(contender.name)
        return found if found is not None and found.samples else None

    @property
    def measured(self) -> list[Series]:
        """The contenders that were measured, as planned."""
        return [series for series in self.series.values() if series.samples]

    @property
    def faults(self) -> list[str]:
        """What was to be exact and is not: one model, cut or whole, says the same."""
        texts = {
            name: [sample.answer.tokens for sample in self.series[name].samples]
            for name in _EXACT
            if name in self.series
        }
        told = []
        for name, said in texts.items():
            reference = texts.get(UPDRAFT.name, said)
            pairs = zip(said, reference, strict=False)
            if different := sum(ours != theirs for ours, theirs in pairs):
                told.append(
                    f"{self.case.shape.name}: {name} decoded {different} of {len(said)} texts "
                    f"otherwise than {UPDRAFT.name}"
                )
        return told

    def figures(self) -> list[Figure]:
        """Return the figures to reach, with what was seen."""
        return figures_of(self.case.shape, self.of, TO_REACH, self.predicted_bytes)


@dataclass
class Results:
    """Everything that one run measured."""

    setting: Setting
    cases: Sequence[CaseResults]
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """What was to be exact and is not."""
        return [fault for case in self.cases for fault in case.faults]

    @property
    def left_out(self) -> list[str]:
        """What could not be measured, and why."""
        return [f"{case.case.shape.name}: {told}" for case in self.cases for told in case.left_out]

    def tables(self) -> list[Table]:
        """Return the figures to reach, then a table for each shape."""
        reached = [figure for case in self.cases for figure in case.figures()]
        return [figure_table(reached), *(_table(case, self.setting) for case in self.cases)]


def save(results: Results, folder: Path) -> list[str]:
    """Write tables, figures and plots; returns the names of the files."""
    from updraft.benchmarks.engine.plots import draw  # noqa: PLC0415  # needs the bench extra

    plots = draw(folder, results.cases)
    write(folder / "engine.json", to_json(results) + "\n")
    write(folder / "engine.md", _to_markdown(results, plots))
    return ["engine.md", "engine.json", *plots]


def to_json(results: Results) -> str:
    """Return all figures for programs."""
    found: dict[str, Any] = {
        "setting": asdict(results.setting),
        "seconds": results.seconds,
        "left_out": results.left_out,
        "faults": results.faults,
        "figures": [figure.as_json() for case in results.cases for figure in case.figures()],
        "cases": [
            {
                "shape": asdict(case.case.shape),
                "weights": "random",
                "tokens": case.case.tokens,
                "rounds": case.case.rounds,
                "predicted_bytes": case.predicted_bytes,
                "contenders": [_series_json(series) for series in case.measured],
            }
            for case in results.cases
        ],
    }
    return json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)


def _series_json(series: Series) -> dict[str, Any]:
    values = {
        "decode_tokens_per_s": series.decode_rates,
        "prefill_tokens_per_s": series.prefill_rates,
        "first_token_s": series.first_token_s,
        "cold_first_token_s": series.cold_s,
        "peak_bytes": series.peak_bytes,
        "joules_per_token": series.joules_per_token,
        "share_of_bandwidth": series.bound_shares,
        "bandwidth_bytes_per_s": [sample.bandwidth for sample in series.samples],
        "cpu_s": [sample.answer.cpu_s for sample in series.samples],
    }
    return {
        "name": series.contender.name,
        "weights": series.contender.weights,
        "versions": series.versions,
        "weight_bytes_per_token": series.weight_bytes,
        "spread": {name: asdict(Spread.of(each)) for name, each in values.items() if each},
        "samples": values,
    }


def _table(results: CaseResults, setting: Setting) -> Table:
    case = results.case
    rows = []
    for series in results.measured:
        cold, peak, joules = (
            Spread.of(each) for each in (series.cold_s, series.peak_bytes, series.joules_per_token)
        )
        rows.append(
            (
                series.contender.name,
                series.contender.weights,
                Spread.of(series.decode_rates).show(),
                Spread.of(series.prefill_rates).show(digits=0),
                Spread.of(series.first_token_s).show(1e3, 0),
                f"{peak.median / 1e6:,.0f}" if peak.n else "",
                f"{cold.median:.2f}" if cold.n else "",
                f"{joules.median:.3f}" if joules.n else "",
                f"{series.weight_bytes / 1e6:,.1f}",
                f"{Spread.of(series.bound_shares).median:.0%}",
            )
        )
    read = [sample.bandwidth for series in results.measured for sample in series.samples]
    return Table(
        f"{case.shape.name}: random weights, {setting.threads} threads",
        ("runtime", "weights", "decode tok/s", "prefill tok/s", "first token, ms", "peak MB",
         "cold start, s", "J/token", "MB/token", "of bandwidth"),
        rows,
        f"Medians (quartiles) over {case.rounds} rounds, in which every runtime decodes one text "
        f"after another: a prompt of {PROMPT_TOKENS} tokens, new in each round, and "
        f"{case.tokens} new tokens, batch 1, greedy; the others are stopped meanwhile. Peak: "
        "resident memory of a fresh process, mapped files counted. Cold start: from the start of "
        "the process to its first token, files in the page cache. MB/token: weights that one "
        "token reads; of bandwidth: that times tokens per second, over what "
        f"{setting.threads} threads read just before, {Spread.of(read).show(1e-9)} GB/s. "
        f"Energy: {setting.energy}.",
    )  # fmt: skip


def _to_markdown(results: Results, plots: Sequence[str]) -> str:
    setting = results.setting
    verdict = "All that is to be exact is exact." if not results.faults else "**Failed:**"
    versions = {
        f"{package} {number}"
        for case in results.cases
        for series in case.measured
        for package, number in series.versions.items()
    }
    return "\n".join(
        [
            "# The decoding engine, measured beside others",
            "",
            "Random weights of published shapes: speed and memory are those of the models, what "
            "they say is not. All runtimes run in turn in the same run, from the same weights, "
            "each in a process of its own that is stopped while others compute. "
            f"The machine's load before was {setting.load:.1f}. "
            f"Seed {setting.seed}. Commit {setting.commit[:12]}, {setting.machine}, "
            f"{setting.measured}, {results.seconds:.0f} s. Written by `updraft bench engine "
            f"--tier {setting.tier}`.",
            "",
            f"{', '.join(sorted(versions))}.",
            "",
            verdict,
            *(f"- {fault}" for fault in results.faults),
            "",
            *(f"- Left out: {told}." for told in results.left_out),
            "",
            *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})" for name in plots),
            "",
            *(table.markdown() for table in results.tables()),
        ]
    )
