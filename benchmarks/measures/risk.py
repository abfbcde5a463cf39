"""Whether mode `bounded` keeps its promise: certified on some prompts, tested on the others.

The pool is cut from calibration and held-out files, none of which was trained on. Each prompt runs
once per λ; all splits of the pool read the same losses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from updraft.benchmarks.measures.report import Section, Spread
from updraft.models.bundle import Bundle
from updraft.models.card import Table
from updraft.models.guarantee import Calibrator, Report, Terms
from updraft.models.recipes.corpus import part_of, read_standard_library
from updraft.models.recipes.prompts import Prompt, tile_prompts, to_jsonl
from updraft.models.risk import GRID, fixed_sequence
from updraft.models.tokenizer import Tokenizer

_RANDOM = "random halves"


@dataclass(frozen=True)
class RiskPlan:
    """How much is measured.

    Attributes:
        prompts: of each of the two parts of the corpus, at most.
    """

    prompts: int = 1_000
    splits: int = 200
    epsilons: tuple[float, ...] = (0.02, 0.05)
    delta: float = 0.05
    terms: Terms = field(default_factory=Terms)
    seed: int = 0


QUICK = RiskPlan(prompts=150, splits=50, epsilons=(0.05, 0.1), terms=Terms(max_tokens=32))


@dataclass(frozen=True)
class Split:
    """What some prompts certified, and what the others said of it.

    Attributes:
        commit_from: λ; none where nothing could be certified: nothing is committed then.
        risk: mean share of wrong tokens among the committed, on the prompts that only tested.
        committed_share: of all tokens, on the same.
    """

    commit_from: float | None
    risk: float
    committed_share: float


@dataclass(frozen=True)
class Splits:
    """Splits of one kind under one ε."""

    epsilon: float
    kind: str
    splits: list[Split]

    @property
    def kept(self) -> float:
        """Share of the splits whose test risk is at most ε."""
        return sum(split.risk <= self.epsilon for split in self.splits) / len(self.splits)

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        risks = [split.risk for split in self.splits]
        found = [split.commit_from for split in self.splits if split.commit_from is not None]
        committed = [split.committed_share for split in self.splits]
        return (
            f"{self.epsilon:g}, {self.kind}",
            str(len(self.splits)),
            f"**{self.kept:.1%}**",
            Spread.of(risks).show(digits=4),
            f"{max(risks):.4f}",
            Spread.of(found).show(digits=4),
            Spread.of(committed).show(scale=100) + " %",
        )


def measure_risk(bundle: Bundle, plan: RiskPlan, report: Report) -> Section:
    """Certify on one half of the pool and test on the other, again and again.

    Needs the corpus of recipe `code`: the running interpreter's standard library.
    """
    prompts = _pool(bundle, plan)
    texts = [prompt.prompt for prompt in prompts]
    digest = hashlib.sha256(to_jsonl(prompts).encode()).hexdigest()
    pool = _Pool(Calibrator(bundle, texts, digest, plan.terms, report))
    paths = np.array([prompt.path for prompt in prompts])
    kinds: dict[str, Callable[[], Iterable[NDArray[np.bool_]]]] = {
        _RANDOM: partial(_halves, len(paths), plan),
        "random halves of the files": partial(_halves_by_file, paths, plan),
        "calibration files, then held-out ones": lambda: [_is_calibration(paths)],
    }
    found = [
        Splits(epsilon, kind, [pool.split(half, epsilon, plan.delta) for half in halves()])
        for epsilon in plan.epsilons
        for kind, halves in kinds.items()
    ]
    table = Table(
        f"Risk of `bounded`, δ = {plan.delta:g}",
        ("ε, split", "splits", "risk ≤ ε", "test risk", "worst", "λ", "committed"),
        [splits.row() for splits in found],
        f"{len(prompts)} prompts of {len(set(paths))} files, {plan.terms.max_tokens} new tokens "
        f"each, {plan.terms.wire} wire, temperature {plan.terms.temperature:g}; median and "
        f"quartiles over the splits. The promise is about prompts drawn like those that "
        f"calibrated: {_RANDOM}. The other rows show what it is worth for files that are new.",
    )
    failures = [
        f"ε = {splits.epsilon:g}: the risk is kept on {splits.kept:.1%} of the splits only"
        for splits in found
        if splits.kind == _RANDOM and splits.kept < 1 - plan.delta
    ]
    figures = {
        "plan": asdict(plan),
        "fingerprint": bundle.fingerprint,
        "splits": [asdict(splits) | {"kept": splits.kept} for splits in found],
    }
    return Section("risk", [table], figures, failures)


class _Pool:
    """Losses and commitment of every prompt, by λ; run when a split first asks for them."""

    def __init__(self, calibrator: Calibrator) -> None:
        self._calibrator = calibrator
        self._losses: dict[float, NDArray[np.float64]] = {}

    def split(self, calibrates: NDArray[np.bool_], epsilon: float, delta: float) -> Split:
        """Certify on the marked prompts, test on the others."""
        trials = fixed_sequence(GRID, lambda at: self._at(at)[calibrates], epsilon, delta)
        passed = [trial.threshold for trial in trials if trial.p_value <= delta]
        if not passed:
            return Split(None, 0.0, 0.0)
        outcomes = self._calibrator.outcomes(passed[-1])
        tests = [outcome for outcome, own in zip(outcomes, calibrates, strict=True) if not own]
        committed = sum(len(outcome.wrong) for outcome in tests)
        tokens = sum(len(outcome.tokens) for outcome in tests)
        risk = float(self._at(passed[-1])[~calibrates].mean())
        return Split(passed[-1], risk, committed / tokens)

    def _at(self, commit_from: float) -> NDArray[np.float64]:
        if commit_from not in self._losses:
            self._losses[commit_from] = self._calibrator.losses(commit_from)
        return self._losses[commit_from]


def _pool(bundle: Bundle, plan: RiskPlan) -> list[Prompt]:
    tokenizer, files = Tokenizer(bundle), read_standard_library()
    prompts = []
    for part in ("calibration", "heldout"):
        own = [file for file in files if part_of(file.path) == part]
        prompts += tile_prompts(own, tokenizer, plan.seed)[: plan.prompts]
    return prompts


def _halves(count: int, plan: RiskPlan) -> Iterator[NDArray[np.bool_]]:
    rng = np.random.default_rng(plan.seed)
    for _ in range(plan.splits):
        yield rng.permutation(count) < count // 2


def _halves_by_file(paths: NDArray[np.str_], plan: RiskPlan) -> Iterator[NDArray[np.bool_]]:
    """Yield halves of the prompts, nearly, that have no file in common."""
    rng = np.random.default_rng(plan.seed)
    files, counts = np.unique(paths, return_counts=True)
    for _ in range(plan.splits):
        order = rng.permutation(len(files))
        before = np.cumsum(counts[order]) - counts[order]
        yield np.isin(paths, files[order[before < len(paths) / 2]])


def _is_calibration(paths: NDArray[np.str_]) -> NDArray[np.bool_]:
    return np.array([part_of(path) == "calibration" for path in paths])
