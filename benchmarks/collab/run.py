"""`updraft bench collab`: measure all rows in one run, and write what came of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from updraft.benchmarks.collab.agreement import Agreements
from updraft.benchmarks.collab.blackout import Stricken, measure_blackouts
from updraft.benchmarks.collab.cells import Cell, Prompt, measure_leg, payload_faults
from updraft.benchmarks.collab.constants import Constants, measure_constants
from updraft.benchmarks.collab.crowd import Clients, Crowd, measure_crowd
from updraft.benchmarks.collab.plan import CROWD, LOSSLESS, STRICKEN, Case, Leg, Row, Tier
from updraft.benchmarks.collab.replay import replay
from updraft.benchmarks.collab.results import Results
from updraft.benchmarks.collab.simulation import Draft
from updraft.benchmarks.collab.stage import Run, Stage, split_at_first_exit
from updraft.benchmarks.collab.wire import LOOPBACK, Link
from updraft.benchmarks.measures.bench import bundle_prompts
from updraft.benchmarks.measures.report import Context, commit, machine
from updraft.models.bundle import Bundle

_SEED = "the prompt's number"
_CONSTANT_PROMPTS = 4

T = TypeVar("T")


class Measurement:
    """One run of all rows."""

    def __init__(self, stage: Stage, tier: Tier, progress: Progress) -> None:
        self._stage = stage
        self._tier = tier
        self._progress = progress
        self._agreements = Agreements(stage, tier.max_tokens)

    def run(self, context: Context) -> Results:
        """Measure everything."""
        started = perf_counter()
        stage, tier = self._stage, self._tier
        temperatures = sorted({t for leg in tier.legs for t in leg.temperatures})
        cases = [(row, temperature) for temperature in temperatures for row in tier.rows]
        left_out = {case: why for case in cases if (why := stage.refusal(*case)) is not None}
        cases = [case for case in cases if case not in left_out]
        rows = {row for row, _ in cases}
        prompts, tried = self._agreements.choose_prompts(
            bundle_prompts(stage.bundle)[1], self._prompts_wanted(), self._track
        )
        agreements, drafting = self._agreements.measure(
            cases, prompts[: tier.agreement_prompts], self._track
        )
        results = Results(context, tier, left_out, agreements, drafting, len(prompts), tried)
        for leg in tier.legs:
            self._measure_leg(results, leg, cases, prompts)
        results.replays = replay(results.cells, results.constants, self._drafts)
        results.crowds = self._crowds(rows, prompts)
        results.stricken = self._blackouts(rows, prompts)
        results.faults = self._faults(results, prompts)
        results.seconds = perf_counter() - started
        return results

    def _measure_leg(
        self, results: Results, leg: Leg, cases: Sequence[Case], prompts: Sequence[Prompt]
    ) -> None:
        """Measure the rows over one link, and the constants in between.

        A machine that others use too is not equally fast all the time.
        """
        stage, tier = self._stage, self._tier
        texts = [prompt.text for prompt in prompts[:_CONSTANT_PROMPTS]]
        constants: list[Constants] = []

        def beside() -> None:
            measured = measure_constants(stage, leg.link, texts, tier.max_tokens, tier.samples)
            constants.append(measured)

        results.cells += measure_leg(
            stage, leg, cases, prompts, tier.max_tokens, self._track, beside
        )
        results.constants[leg.link] = Constants.mean(constants)

    def _drafts(self, cell: Cell, run: Run) -> list[Draft]:
        return self._agreements.drafts(cell.row, run, cell.temperature)

    def _prompts_wanted(self) -> int:
        tier = self._tier
        return max(tier.agreement_prompts, *(leg.prompts for leg in tier.legs))

    def _crowds(self, rows: Collection[Row], prompts: Sequence[Prompt]) -> list[Crowd]:
        tier, stage = self._tier, self._stage
        if not tier.clients:
            return []
        each, together = tier.client_prompts, tier.client_completions
        own = [
            [prompts[(i * each + j) % len(prompts)] for j in range(max(each, together))]
            for i in range(max(tier.clients))
        ]
        stage.shape(LOOPBACK)
        texts = {
            prompt.number: self._agreements.text("fp16", prompt, 0.0)
            for part in own
            for prompt in part
        }
        plan = [
            (link, count, row)
            for link in tier.client_links
            for count in tier.clients
            for row in CROWD
            if row in rows
        ]
        found = []
        most = max(tier.clients)
        with closing(Clients(stage.bundle, stage.cores, most)) as clients:
            for link, count, row in self._track(plan, "many clients"):
                stage.shape(link)
                exact = texts if row.mode in ("cloud", "lossless") else {}
                parts = [part[: max(each, together // count)] for part in own[:count]]
                found.append(measure_crowd(stage, clients, row, parts, exact, tier.max_tokens))
            if LOSSLESS in rows:
                with closing(Stage(stage.bundle, tier.tight_mib)) as tight:
                    tight.shape(tier.client_links[0])
                    parts = [part[:each] for part in own]
                    found.append(
                        measure_crowd(tight, clients, LOSSLESS, parts, texts, tier.max_tokens)
                    )
        return found

    def _blackouts(self, rows: Collection[Row], prompts: Sequence[Prompt]) -> list[Stricken]:
        tier, stage = self._tier, self._stage
        chosen = prompts[: tier.blackout_prompts]
        stage.shape(LOOPBACK)
        texts = [self._agreements.text("fp16", prompt, 0.0) for prompt in chosen]
        stage.shape(tier.client_links[0])
        struck = [row for row in STRICKEN if row in rows]
        if not chosen:
            return []
        return measure_blackouts(
            stage, struck, chosen, texts, tier.blackout_s, tier.max_tokens, self._track
        )

    def _faults(self, results: Results, prompts: Sequence[Prompt]) -> list[str]:
        """Return what was to be exact and is not."""
        width = self._stage.bundle.manifest.architecture.width
        faults = [fault for cell in results.cells for fault in payload_faults(cell, width)]
        self._stage.shape(LOOPBACK)
        for cell in results.cells:
            if cell.row.mode not in ("lossless", "cloud"):
                continue
            for runs in cell.repeats:
                for run, prompt in zip(runs, prompts, strict=False):
                    text = self._agreements.text(cell.row.wire, prompt, cell.temperature)
                    if tuple(run.result.tokens) != text:
                        faults.append(
                            f"{cell.row.name}, {cell.link.name}, prompt {prompt.number}: "
                            "another text than `cloud`'s"
                        )
        faults += [
            f"{each.row.name}: {each.different} of {each.clients} clients' texts are others than "
            "one client's"
            for each in results.crowds
            if each.different
        ]
        return faults

    def _track(self, items: Sequence[T], told: str) -> Iterator[T]:
        task = self._progress.add_task(told, total=len(items))
        for item in items:
            yield item
            self._progress.advance(task)


def measure(bundle: Bundle, tier: Tier, console: Console) -> Results:
    """Measure everything that a tier asks for."""
    with TemporaryDirectory() as folder:
        results = _measure(bundle, tier, console)
        if tier.shallow is not None:
            shallow = split_at_first_exit(bundle, Path(folder))
            results.shallow = _measure(shallow, tier.shallow, console)
            results.faults += results.shallow.faults
            results.seconds += results.shallow.seconds
    return results


def _measure(bundle: Bundle, tier: Tier, console: Console) -> Results:
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, closing(Stage(bundle)) as stage:
        context = Context(
            commit=commit(),
            machine=machine(),
            cores=str(stage.cores),
            bundle=f"{bundle.manifest.name} ({bundle.manifest.quantization.weights})",
            fingerprint=bundle.fingerprint,
            prompts=bundle_prompts(bundle)[0],
            seed=_SEED,
            quick=tier.name == "quick",
        )
        return Measurement(stage, tier, progress).run(context)


def over(tier: Tier, links: Sequence[Link]) -> Tier:
    """Return a tier that measures over other links; over those new to it, as over its first."""
    known = {leg.link: leg for leg in tier.legs}
    legs = tuple(known.get(link, replace(tier.legs[0], link=link)) for link in links)
    return replace(tier, legs=legs, client_links=tuple(links)[:1])
