"""Measure what a gate that is trained once loses against gates trained anew for every selection.

python -m updraft.benchmarks.gate            five seeds, some minutes
python -m updraft.benchmarks.gate --quick    one seed
python -m updraft.benchmarks.gate --json     every row, for programs

The exit code is 1 when a gate retrained in the same way is more than 1% better for any selection,
or when the mean regret against the best of all gates is above 1% in any setting. Worst cases
against gates that maximise the reward are reported, not judged: see docs/gate.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, combinations
from time import perf_counter

import numpy as np
from rich.console import Console

from updraft.benchmarks.gate.prompts import Matrix, Prompts, draw_prompts
from updraft.benchmarks.gate.results import Row, Trained, failures_of, gate_table, regret_table
from updraft.benchmarks.measures.report import Section, terminal
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.fit import fit_gate, score, start_head, train_head
from updraft.optimizer.gate.gate import Gate, Layer, apply, masked_softmax

EXPERTS = 6
SEEDS = (0, 1, 2, 3, 4)
_PROMPTS = (4_000, 4_000)
# More gains the gates that maximise the reward nothing; measured on other seeds.
_REWARD_ITERATIONS = 40
# How sharply the gate that is tuned further follows the one that it starts from.
_TUNED_TEMPERATURE = 0.25
_TABLE_WIDTH = 150


@dataclass(frozen=True)
class Setting:
    """What the gate sees of a prompt, and with what head.

    Attributes:
        ridge: of the gates that learn probabilities, `reward_ridge` of those that maximise the
            reward: about the best for each kind, found on other seeds.
    """

    name: str
    features: Callable[[Prompts], Matrix]
    hidden: int
    ridge: float
    reward_ridge: float


def _text(width: int) -> Callable[[Prompts], Matrix]:
    return lambda prompts: TextFeatures(width=width).encode(prompts.texts).astype(np.float64)


def _state(prompts: Prompts) -> Matrix:
    return prompts.state


SETTINGS = (
    Setting("text: 512 hashed n-grams, linear", _text(512), 0, 3.0, 0.1),
    Setting("state: 64 numbers, linear", _state, 0, 0.1, 0.03),
    Setting("state: 64 numbers, 16 hidden", _state, 16, 0.03, 0.01),
    Setting("poor text: 16 hashed n-grams, linear", _text(16), 0, 0.1, 0.03),
)


def measure(seeds: Sequence[int]) -> list[Row]:
    """Return one row per setting, seed and selection of two experts or more."""
    return _measure(seeds)[0]


def section(seeds: Sequence[int]) -> Section:
    """Return tables, figures, and what failed."""
    rows, trained = _measure(seeds)
    figures = {
        "rows": [{**asdict(row), "regret": row.regret} for row in rows],
        "trained": [asdict(gate) for gate in trained],
    }
    return Section(
        "gate", [regret_table(rows), gate_table(rows, trained)], figures, failures_of(rows)
    )


def _measure(seeds: Sequence[int]) -> tuple[list[Row], list[Trained]]:
    trials = [_Trial(setting, seed) for seed in seeds for setting in SETTINGS]
    rows = [row for trial in trials for row in trial.rows()]
    return rows, [trial.trained() for trial in trials]


class _Trial:
    """One setting with one seed: prompts, and the gate trained once."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting, self.seed = setting, seed
        self.training, self.held = draw_prompts(seed, EXPERTS, _PROMPTS)
        self.seen, self.new = setting.features(self.training), setting.features(self.held)
        started = perf_counter()
        self.gate = self._fit(range(EXPERTS))
        self.seconds = perf_counter() - started

    def trained(self) -> Trained:
        scores = score(self.gate, self.new, self.held.answers)
        errors = np.abs(self.gate.quality(self.new) - self.held.truth).max(axis=1)
        return Trained(
            self.setting.name,
            self.seed,
            float(scores.ece.mean()),
            float(scores.log_loss.mean()),
            float(errors.mean()),
            self.seconds,
        )

    def rows(self) -> Iterator[Row]:
        sizes = range(2, EXPERTS + 1)
        for selected in chain.from_iterable(combinations(range(EXPERTS), n) for n in sizes):
            yield self._row(selected)

    def _row(self, selected: tuple[int, ...]) -> Row:
        truth = self.held.truth[:, selected]
        restricted = self.gate.logits(self.new)[:, selected]
        sharp = self.gate.logits(self.seen)[:, selected] / _TUNED_TEMPERATURE
        started = perf_counter()
        retrained = self._fit(selected).logits(self.new)
        rewarded = self._rewarded(selected, np.zeros_like(sharp))
        tuned = self._rewarded(selected, sharp)
        seconds = perf_counter() - started
        return Row(
            self.setting.name,
            self.seed,
            selected,
            restricted=_earned(restricted, truth),
            retrained=_earned(retrained, truth),
            rewarded=_earned(apply(rewarded, self.new), truth),
            tuned=_earned(restricted / _TUNED_TEMPERATURE + apply(tuned, self.new), truth),
            oracle=float(truth.max(axis=1).mean()),
            single=float(truth.mean(axis=0).max()),
            seconds=seconds,
        )

    def _fit(self, selected: Sequence[int]) -> Gate:
        return fit_gate(
            self.seen,
            self.training.answers[:, list(selected)],
            [f"expert {number}" for number in selected],
            hidden=self.setting.hidden,
            ridges=(self.setting.ridge,),
            seed=self.seed,
        ).gate

    def _rewarded(self, selected: tuple[int, ...], base: Matrix) -> tuple[Layer, ...]:
        """Return the head that, added to `base`, earns the most on the selection's answers."""
        answers = self.training.answers[:, selected]
        # On top of a gate, a correction starts from nothing; else from each expert's mean.
        targets = np.full_like(answers, 0.5) if base.any() else answers
        hidden, width = self.setting.hidden, self.seen.shape[1]
        start = start_head(targets, width, hidden=hidden, seed=self.seed)
        return train_head(
            self.seen,
            start,
            partial(_lost_reward, base=base, answers=answers),
            ridge=self.setting.reward_ridge,
            iterations=_REWARD_ITERATIONS,
        )


def _earned(logits: Matrix, quality: Matrix) -> float:
    """Return the mean quality where every prompt goes to the expert with the largest logit."""
    return float(np.take_along_axis(quality, logits.argmax(axis=1)[:, None], axis=1).mean())


def _lost_reward(logits: Matrix, base: Matrix, answers: Matrix) -> tuple[float, Matrix]:
    """Return minus the mean of Σ_i g_i·answer_i, g = softmax(base + logits), and its gradient."""
    weights = masked_softmax(base + logits, np.ones(logits.shape[1], np.bool_), 1.0)
    earned = (weights * answers).sum(axis=1, keepdims=True)
    return -float(earned.mean()), -weights * (answers - earned) / len(logits)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--json", action="store_true", help="print every row as JSON")
    arguments = parser.parse_args()
    found = section(SEEDS[:1] if arguments.quick else SEEDS)
    if arguments.json:
        print(json.dumps(found.figures))
    else:
        console = Console()
        out = Console(width=max(console.width, _TABLE_WIDTH))
        for table in found.tables:
            out.print(terminal(table))
        for failure in found.failures:
            console.print(f"FAILED {failure}", style="red", markup=False)
    sys.exit(1 if found.failures else 0)
