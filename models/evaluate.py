"""Measure a bundle on source files that its training never saw, with ONNX Runtime alone.

Protocol. A file is scored by windows of one context length that move by half of it. The first
window of a file starts, as in training, with the end-of-text token and scores all it predicts;
later windows score their second half only. So every token of a file is scored once, and sees at
least half a context wherever the file has that much before it.

Thresholds are chosen on the calibration files; held-out files are only ever measured on.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.calibration import confidence_of, fit_calibration
from updraft.models.lines import LineScore, Policy, complete_lines, draw_lines, verbatim_share
from updraft.models.partition import States
from updraft.models.recipes.corpus import SourceFile, part_of
from updraft.models.runtime import RuntimeOptions
from updraft.models.scores import (
    CascadeScore,
    Evaluation,
    ExitScore,
    ThetaScore,
    score_cascade,
    score_exits,
    score_thetas,
    smallest_theta,
)
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

# States per call of a head: their logits, 4,096 floats each, stay in the processor's cache.
_ROWS = 128
# No file may be more than this part of a limited run, or one long file would be all of it.
_FILE_PART = 8


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        max_tokens: held-out tokens scored at most, from files in random order; None scores all.
        calibration_tokens: the same for the calibration files.
        lines: lines to complete; 0 leaves that out.
        agreement: share of tokens on which the cascade must agree with full depth; the
            smallest threshold that reaches it on the calibration files is chosen.
    """

    max_tokens: int | None = None
    calibration_tokens: int | None = 150_000
    lines: int = 200
    agreement: float = 0.97
    seed: int = 0


@dataclass(frozen=True)
class ModelReport:
    """Everything measured about a bundle; `to_json` gives it as plain values.

    Attributes:
        corpus: whose standard library it was.
        files: held-out files scored.
        test_share: share of the scored tokens that are test code.
        exits: `all`, `tests` and `library` → the exits, each by itself.
        cascade: on a fine grid of thresholds.
        theta: chosen on calibration files.
        chosen: the cascade on held-out files at that threshold.
        hindsight_theta: what would have been chosen on the held-out files themselves.
        verbatim_line_share: held-out lines that also stand in a training file.
    """

    bundle: str
    fingerprint: str
    corpus: str
    seed: int
    files: int
    tokens: int
    calibration_tokens: int
    test_share: float
    exits: dict[str, list[ExitScore]]
    thetas: list[ThetaScore]
    cascade: list[CascadeScore]
    agreement_target: float
    theta: float
    chosen: CascadeScore
    hindsight_theta: float
    lines: list[LineScore]
    verbatim_line_share: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, ready for `json.dumps`."""
        return asdict(self)


def evaluate_bundle(
    bundle: Bundle,
    files: Sequence[SourceFile],
    settings: Settings | None = None,
    report: Report = _silent,
) -> ModelReport:
    """Measure a bundle: its exits, the cascade over them, and the lines that it completes.

    Args:
        bundle: the whole of it must run in this process.
        files: the corpus, all parts of it (`read_standard_library()`).
    """
    settings = settings or Settings()
    parts: dict[str, list[SourceFile]] = {"train": [], "calibration": [], "heldout": []}
    for file in files:
        parts[part_of(file.path)].append(file)
    scorer = _Scorer(bundle, settings.seed, report)
    calibration = scorer.score(parts["calibration"], settings.calibration_tokens, "calibration")
    heldout = scorer.score(parts["heldout"], settings.max_tokens, "held-out tokens")
    theta = smallest_theta(score_cascade(calibration), settings.agreement)
    cascade = score_cascade(heldout)
    return ModelReport(
        bundle=bundle.manifest.name,
        fingerprint=bundle.fingerprint,
        corpus=f"{platform.python_implementation()} {platform.python_version()}",
        seed=settings.seed,
        files=len(np.unique(heldout.file)),
        tokens=heldout.tokens,
        calibration_tokens=calibration.tokens,
        test_share=float(heldout.is_test.mean()),
        exits=_by_kind(heldout),
        thetas=score_thetas(heldout),
        cascade=cascade,
        agreement_target=settings.agreement,
        theta=theta,
        chosen=next(score for score in cascade if score.theta == theta),
        hindsight_theta=smallest_theta(cascade, settings.agreement),
        lines=scorer.lines(parts["heldout"], settings.lines, theta),
        verbatim_line_share=verbatim_share(parts["heldout"], parts["train"]),
    )


def calibrate_exits(
    bundle: Bundle,
    files: Sequence[SourceFile],
    settings: Settings | None = None,
    report: Report = _silent,
) -> Bundle:
    """Fit the calibration of the edge's exits on calibration files and store it in the bundle."""
    calibration = [file for file in files if part_of(file.path) == "calibration"]
    return calibrate_exits_on(bundle, calibration, settings, report)


def calibrate_exits_on(
    bundle: Bundle,
    calibration: Sequence[SourceFile],
    settings: Settings | None = None,
    report: Report = _silent,
) -> Bundle:
    """Fit the calibration of the edge's exits on these files and store it in the bundle."""
    settings = settings or Settings()
    found = score_files(
        bundle, calibration, settings.calibration_tokens, settings.seed, report, "calibrating exits"
    )
    fits = {
        layer: fit_calibration(probability, agrees)
        for layer, probability, agrees in zip(
            found.exits[:-1], found.probability, found.agrees, strict=False
        )
    }
    manifest = bundle.manifest
    exits = [e.model_copy(update={"calibration": fits.get(e.layer)}) for e in manifest.exits]
    write_manifest(bundle.folder, manifest.model_copy(update={"exits": exits}))
    return open_bundle(bundle.folder)


def score_files(
    bundle: Bundle,
    files: Sequence[SourceFile],
    limit: int | None = None,
    seed: int = 0,
    report: Report = _silent,
    stage: str = "scoring",
) -> Evaluation:
    """Return what every exit says of the tokens of files, by this module's protocol.

    Args:
        limit: tokens scored at most, from files in random order; None scores all.
    """
    return _Scorer(bundle, seed, report).score(files, limit, stage)


def compare_bundles(
    bundle: Bundle,
    reference: Bundle,
    files: Sequence[SourceFile],
    settings: Settings | None = None,
    report: Report = _silent,
) -> dict[int, float]:
    """Return, for each exit, the share of held-out tokens on which two bundles say the same.

    Meant for a quantized bundle and the same model in fp32: tokenizer and exits must be equal.
    """
    settings = settings or Settings()
    heldout = [file for file in files if part_of(file.path) == "heldout"]
    found, wanted = (
        _Scorer(which, settings.seed, report).score(heldout, settings.max_tokens, stage)
        for which, stage in ((bundle, "quantized"), (reference, "reference"))
    )
    shares = (found.predicted == wanted.predicted).mean(axis=1)
    return dict(zip(found.exits, shares.tolist(), strict=True))


class _Document(NamedTuple):
    """A file's tokens behind the end-of-text token."""

    tokens: NDArray[np.int64]
    is_test: bool


class _Scores(NamedTuple):
    """What the exits say of some tokens, each (exits, tokens)."""

    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    cross_entropy: NDArray[np.float64]


class _Scorer:
    """A bundle loaded for measuring."""

    def __init__(self, bundle: Bundle, seed: int, report: Report) -> None:
        manifest = bundle.manifest
        self._model = Model.load(bundle, range(manifest.architecture.layers), RuntimeOptions())
        self._tokenizer = Tokenizer(bundle)
        self._context = manifest.architecture.context_length
        self._seed, self._report = seed, report
        self._entries = (*manifest.edge_exits, manifest.exits[-1])
        self._exits = tuple(entry.layer for entry in self._entries)

    def score(self, files: Sequence[SourceFile], limit: int | None, stage: str) -> Evaluation:
        """Score the tokens of files, by the protocol that stands at the top of this module."""
        documents = self._documents(files, limit)
        total, done = sum(len(document.tokens) - 1 for document in documents), 0
        parts: list[_Scores] = []
        for document in documents:
            for start, first in self._windows(len(document.tokens)):
                window = document.tokens[start : start + self._context + 1]
                parts.append(self._score_window(window, first))
                done += len(window) - 1 - first
                self._report(stage, done, total)
        lengths = [len(document.tokens) - 1 for document in documents]
        truth = np.concatenate([document.tokens[1:] for document in documents])
        probability = np.concatenate([part.probability for part in parts], axis=1)
        return Evaluation(
            exits=self._exits,
            truth=truth,
            predicted=np.concatenate([part.predicted for part in parts], axis=1),
            probability=probability,
            confidence=np.stack(
                [confidence_of(*pair) for pair in zip(self._entries, probability, strict=True)]
            ),
            cross_entropy=np.concatenate([part.cross_entropy for part in parts], axis=1),
            file=np.repeat(np.arange(len(documents)), lengths),
            is_test=np.repeat([document.is_test for document in documents], lengths),
            byte_count=np.array([len(self._tokenizer.bytes_of(token)) for token in truth]),
        )

    def lines(self, files: Sequence[SourceFile], count: int, theta: float) -> list[LineScore]:
        """Complete lines at full depth, at each edge exit alone, and by the cascade."""
        *edge, full = self._exits
        policies = [
            Policy("full depth", (full,)),
            *(Policy(f"exit {layer} alone", (layer,)) for layer in edge),
            Policy(f"cascade at θ = {theta:g}", self._exits, theta),
        ]
        drawn = draw_lines(files, self._tokenizer, self._context // 2, count, self._seed)
        return complete_lines(
            self._model,
            self._tokenizer,
            drawn,
            policies,
            lambda done, total: self._report("lines", done, total),
        )

    def _documents(self, files: Sequence[SourceFile], limit: int | None) -> list[_Document]:
        documents: list[_Document] = []
        room = limit or sum(len(file.text) for file in files)
        most = max(1, room // _FILE_PART) if limit else room
        for index in np.random.default_rng(self._seed).permutation(len(files)):
            tokens = self._tokenizer.encode(files[index].text)[: min(most, room)]
            if tokens:
                room -= len(tokens)
                array = np.array([self._tokenizer.end_of_text, *tokens], np.int64)
                documents.append(_Document(array, files[index].is_test))
        return documents

    def _windows(self, length: int) -> list[tuple[int, int]]:
        """Return where each window starts, and the first of its predictions that counts."""
        half = self._context // 2
        later = range(half, length - 1 - (self._context - half), half)
        return [(0, 0), *((start, self._context - half) for start in later)]

    def _score_window(self, window: NDArray[np.int64], first: int) -> _Scores:
        sequence = self._model.new_sequence()
        sequence.append(window[:-1])
        by_exit = []
        for layer in self._exits:
            sequence.advance(layer)
            states = sequence.states(layer, first, sequence.length)
            by_exit.append(self._ask(layer, states, window[first + 1 :]))
        return _Scores(*(np.stack(arrays) for arrays in zip(*by_exit, strict=True)))

    def _ask(self, layer: int, states: States, truth: NDArray[np.int64]) -> _Scores:
        parts = []
        for start in range(0, len(truth), _ROWS):
            rows = slice(start, start + _ROWS)
            said = self._model.heads.predict(layer, states[rows])
            sure = said.probability.astype(np.float64)
            each = np.arange(len(sure))
            # probability = exp(best logit) / Σ exp(logit), so the sum need not be formed again.
            gap = said.logits[each, said.token] - said.logits[each, truth[rows]]
            parts.append(_Scores(said.token, sure, gap.astype(np.float64) - np.log(sure)))
        return _Scores(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _by_kind(evaluation: Evaluation) -> dict[str, list[ExitScore]]:
    masks = {"tests": evaluation.is_test, "library": ~evaluation.is_test}
    kinds = {
        name: score_exits(evaluation.where(mask)) for name, mask in masks.items() if mask.any()
    }
    return {"all": score_exits(evaluation), **kinds}
