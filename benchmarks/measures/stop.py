"""STOP on the task of its paper: complete the line of code that a prompt begins.

Sun et al., "When Neural Code Completion Models Size up the Situation" (ICSE 2024). Everything
runs in one process, so that what counts is layers and their time, not the way to the cloud.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from time import perf_counter
from typing import NamedTuple

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.edge.stopping import Stopping
from updraft.models.bundle import Bundle
from updraft.models.card import Table
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.sequence import Sequence as ModelSequence
from updraft.models.stop import at_line_start, first_line
from updraft.models.tokenizer import Tokenizer

_THETA = 0.8
_STOP_AT = (0.95, 0.98, 0.995, 0.999)
_NEVER = 2.0
_MAX_LINE_TOKENS = 48
_TIMED_DECISIONS = 20_000
_WORD = re.compile(r"\w+|[^\w\s]")


class Setup(NamedTuple):
    """One row of the tables; above 1, `theta` takes no exit and `stop_at` never stops."""

    name: str
    theta: float = _NEVER
    stop_at: float = _NEVER
    escalates: bool = False

    @property
    def without_stop(self) -> Setup:
        """The row that shows what the completions would have been."""
        return _EXITS if self.theta <= 1 else _FULL


_FULL = Setup("full depth")
_EXITS = Setup(f"exits, θ = {_THETA:g}", _THETA)
_SETUPS = (
    _FULL,
    *(Setup(f"STOP at {at:g} alone", stop_at=at) for at in _STOP_AT),
    _EXITS,
    *(Setup(f"exits, STOP at {at:g}, abstain", _THETA, at) for at in _STOP_AT),
    *(Setup(f"exits, STOP at {at:g}, escalate", _THETA, at, escalates=True) for at in _STOP_AT),
)


class Task(NamedTuple):
    """A prompt, and the line with which its author went on."""

    prompt: str
    line: bytes


class Completion(NamedTuple):
    """What became of one task.

    Attributes:
        line: None where it did not end.
        text: what was written, whole line or not.
        stopped: STOP was decided; `broken_off`: and nobody else went on.
        exit_layers: layers up to the exit of each token, summed.
        layer_positions: layers that were run, catch-up included.
        compute_s: inside the runtime, the prompt left out.
    """

    line: bytes | None
    text: bytes
    tokens: int
    stopped: bool
    broken_off: bool
    exit_layers: int
    layer_positions: int
    compute_s: float


@dataclass(frozen=True)
class Score:
    """One setup over all tasks.

    Attributes:
        skipped: layers fewer than full depth runs, per token that full depth writes; `after` it
            with the layers of tokens that left early and were caught up later.
        time_ratio: seconds of computing ÷ those of full depth.
        rate_ratio: tokens per second of computing ÷ those of full depth.
        precision: of the stopped, those that would have come out wrong; None: none was stopped.
        recall: of those that would have come out wrong, the stopped.
        shown: completions that were not broken off.
        accepted: of those shown, the ones that are the author's line.
        kept_right: of those broken off after a token or more, those right so far.
        rouge: mean ROUGE-L over all, each as far as it goes, and over those shown.
    """

    tokens: float
    skipped: float
    skipped_after: float
    time_ratio: float
    rate_ratio: float
    seconds_per_right: float
    stopped: float
    precision: float | None
    recall: float
    right: float
    shown: float
    accepted: float
    kept_right: float | None
    rouge: float
    rouge_shown: float


def measure(bench: Bench) -> Section:
    """Complete the line of each of the bundle's prompts in every setup."""
    tasks = read_tasks(bench.bundle)[:: max(1, 240 // bench.plan.stop_prompts)]
    if not (tasks and bench.bundle.manifest.stop_rules):
        return Section("stop", [], {})
    found = complete_tasks(
        bench.engine.model,
        bench.engine.tokenizer,
        bench.track(tasks, "STOP"),
    )
    scores = score_setups(tasks, found)
    decision_us = _time_decision(bench.bundle)
    return Section(
        key="stop",
        tables=[_cost(scores, len(tasks)), _quality(scores, decision_us)],
        figures={
            "prompts": len(tasks),
            "decision_us": decision_us,
            "rows": [setup._asdict() | vars(score) for setup, score in scores.items()],
        },
    )


def read_tasks(bundle: Bundle) -> list[Task]:
    """Return the bundle's held-out prompts whose authors' lines end within the completion."""
    path = bundle.path("prompts.jsonl")
    rows = map(json.loads, path.read_text("utf-8").splitlines()) if path.is_file() else ()
    lines = ((row["prompt"], first_line(row.get("completion", "").encode())) for row in rows)
    return [Task(prompt, line) for prompt, line in lines if line is not None]


def complete_tasks(
    model: Model, tokenizer: Tokenizer, tasks: Iterable[Task]
) -> dict[Setup, list[Completion]]:
    """Complete each line in every setup before the next line, so that drift hits all alike."""
    found: dict[Setup, list[Completion]] = {setup: [] for setup in _SETUPS}
    for task in tasks:
        sequence = model.new_sequence()
        tokens = tokenizer.encode(task.prompt)
        sequence.append(tokens[:-1])
        sequence.advance(model.top)
        for setup in _SETUPS:
            sequence.truncate(len(tokens) - 1)
            sequence.append(tokens[-1:])
            found[setup].append(_complete(sequence, tokenizer, task.prompt, setup))
    return found


def score_setups(tasks: Sequence[Task], found: dict[Setup, list[Completion]]) -> dict[Setup, Score]:
    """Score every setup beside full depth, and beside itself without STOP."""
    return {
        setup: _score(tasks, found[setup], found[setup.without_stop], found[_FULL])
        for setup in _SETUPS
    }


def rouge_l(text: bytes, reference: bytes) -> float:
    """Return the F1 of the longest common subsequence of words and signs."""
    one, other = (_WORD.findall(t.decode(errors="replace")) for t in (text, reference))
    if not one or not other:
        return float(one == other)
    row = [0] * (len(other) + 1)
    for a in one:
        diagonal = 0
        for j, b in enumerate(other, start=1):
            above = row[j]
            row[j] = diagonal + 1 if a == b else max(above, row[j - 1])
            diagonal = above
    return 2 * row[-1] / (len(one) + len(other))


def _complete(
    sequence: ModelSequence, tokenizer: Tokenizer, prompt: str, setup: Setup
) -> Completion:
    model, manifest = sequence.model, sequence.model.bundle.manifest
    stopping = Stopping(manifest, setup.stop_at, at_line_start(prompt))
    looks = min(setup.theta, setup.stop_at) <= 1
    stopped, exit_layers, written, count = False, 0, b"", 0
    before, started_s = _layer_positions(sequence), sequence.busy_s
    room = manifest.architecture.context_length - sequence.length
    while count < min(room, _MAX_LINE_TOKENS):
        taken = model.top
        for entry in manifest.edge_exits if looks else ():
            sequence.advance(entry.layer)
            confidence = sequence.look(entry.layer)
            if stopping.stops(entry.layer, sequence.probability):
                stopped, taken = True, entry.layer
                break
            if confidence >= setup.theta:
                taken = entry.layer
                break
        if stopped and not setup.escalates:
            exit_layers += taken
            break
        if stopped:
            looks, taken = False, model.top
        if taken == model.top:
            sequence.advance(taken)
            sequence.look(taken)
        exit_layers += taken
        token = sequence.pick(Sampling(), sequence.length)
        piece = tokenizer.bytes_of(token)
        written += piece
        count += 1
        stopping.take(piece)
        if token == tokenizer.end_of_text or first_line(written) is not None:
            break
        sequence.append([token])
    return Completion(
        line=first_line(written),
        text=first_line(written) or written,
        tokens=count,
        stopped=stopped,
        broken_off=stopped and not setup.escalates,
        exit_layers=exit_layers,
        layer_positions=_layer_positions(sequence) - before,
        compute_s=sequence.busy_s - started_s,
    )


def _layer_positions(sequence: ModelSequence) -> int:
    """Return layers times the positions that each has processed."""
    return sum(
        (partition.entry.last - partition.entry.first) * sequence.done(partition.entry.last)
        for partition in sequence.model.partitions
    )


def _score(
    tasks: Sequence[Task],
    ours: Sequence[Completion],
    without_stop: Sequence[Completion],
    full: Sequence[Completion],
) -> Score:
    def total(completions: Sequence[Completion], name: str) -> float:
        return float(sum(getattr(completion, name) for completion in completions))

    wrong = [c.line != task.line for c, task in zip(without_stop, tasks, strict=True)]
    stopped = [c.stopped for c in ours]
    caught = sum(w and s for w, s in zip(wrong, stopped, strict=True))
    pairs = list(zip(ours, tasks, strict=True))
    right = sum(c.line == task.line for c, task in pairs)
    shown = [(c, task) for c, task in pairs if not c.broken_off]
    broken = [(c, task) for c, task in pairs if c.broken_off and c.tokens]
    written, seconds = total(full, "tokens"), total(ours, "compute_s")
    rate = total(ours, "tokens") / seconds
    return Score(
        tokens=total(ours, "tokens") / len(tasks),
        skipped=(total(full, "exit_layers") - total(ours, "exit_layers")) / written,
        skipped_after=(total(full, "layer_positions") - total(ours, "layer_positions")) / written,
        time_ratio=seconds / total(full, "compute_s"),
        rate_ratio=rate / (written / total(full, "compute_s")),
        seconds_per_right=seconds / max(1, right),
        stopped=fmean(stopped),
        precision=caught / sum(stopped) if any(stopped) else None,
        recall=caught / max(1, sum(wrong)),
        right=right / len(tasks),
        shown=len(shown) / len(tasks),
        accepted=right / max(1, len(shown)),
        kept_right=_mean(task.line.startswith(c.text) for c, task in broken),
        rouge=fmean(rouge_l(c.text, task.line) for c, task in pairs),
        rouge_shown=_mean(rouge_l(c.text, task.line) for c, task in shown) or 0.0,
    )


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return fmean(found) if found else None


def _time_decision(bundle: Bundle) -> float:
    """Return the microseconds that one token costs to follow: a decision at an exit, and on."""
    stopping = Stopping(bundle.manifest, _NEVER, fresh=True)
    layer = bundle.manifest.stop_rules[-1].layer
    started = perf_counter()
    for _ in range(_TIMED_DECISIONS):
        stopping.stops(layer, 0.5)
        stopping.take(b" x")
    return round(1e6 * (perf_counter() - started) / _TIMED_DECISIONS, 2)


def _table(
    title: str,
    scores: dict[Setup, Score],
    columns: dict[str, Callable[[Setup, Score], str]],
    note: str,
) -> Table:
    rows = [
        (setup.name, *(show(setup, score) for show in columns.values()))
        for setup, score in scores.items()
    ]
    return Table(title, ("setup", *columns), rows, note)


def _cost(scores: dict[Setup, Score], prompts: int) -> Table:
    return _table(
        "STOP: what a line costs",
        scores,
        {
            "tokens written": lambda _, s: f"{s.tokens:.1f}",
            "layers skipped": lambda _, s: f"{s.skipped:.2f}",
            "skipped after catch-up": lambda _, s: f"{s.skipped_after:.2f}",
            "computing ÷ full depth": lambda _, s: f"{s.time_ratio:.2f}",
            "tokens/s ÷ full depth": lambda _, s: f"{s.rate_ratio:.2f}",
            "ms per right line": lambda _, s: f"{1e3 * s.seconds_per_right:.0f}",
        },
        f"{prompts} held-out prompts, each completed greedily to the end of its line, in one "
        "process. Layers skipped: per token that full depth writes, tokens that STOP spares "
        "included. After catch-up: less the layers that tokens which left early still went "
        "through for the sake of later ones. Computing: seconds inside the runtime, the pass over "
        "the prompt left out, as is the cloud's when the rest is escalated.",
    )


def _quality(scores: dict[Setup, Score], decision_us: float) -> Table:
    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    return _table(
        "STOP: what is stopped, and what is left",
        scores,
        {
            "stopped": lambda u, s: share(s.stopped if u.stop_at <= 1 else None),
            "precision": lambda _, s: share(s.precision),
            "recall": lambda u, s: share(s.recall if u.stop_at <= 1 else None),
            "right lines": lambda _, s: share(s.right),
            "shown": lambda _, s: share(s.shown),
            "right of those shown": lambda _, s: share(s.accepted),
            "broken off, right so far": lambda _, s: share(s.kept_right),
            "ROUGE-L": lambda _, s: f"{s.rouge:.3f}",
            "ROUGE-L of those shown": lambda _, s: f"{s.rouge_shown:.3f}",
        },
        "Right: the author's line, byte for byte. Precision and recall of STOP against lines that "
        "come out wrong without it. ROUGE-L over words and signs; a line that was broken off "
        f"counts as far as it goes. Following one token costs {decision_us:g} µs.",
    )
