"""Train exits of a bundle whose layers stay as they are, from a text to a new bundle.

Needs torch and onnx (extra `train`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.calibration import fit_calibration
from updraft.models.exits.adapter import AdapterWeights, Distillation, FrozenHead, train_adapter
from updraft.models.exits.collection import Collection, collect
from updraft.models.exits.lm_head import LmHead
from updraft.models.exits.new_heads import write_heads
from updraft.models.exits.passages import TEXTS, Passages, cut_passages, text_digest
from updraft.models.exits.scores import Answers, Ask, ExitScore, answers
from updraft.models.exits.shortlist import always_kept, choose_size, coverage, rank_tokens
from updraft.models.fidelity import first_token
from updraft.models.manifest import ExitEntry
from updraft.models.runtime import RuntimeOptions, load_session
from updraft.models.tokenizer import Tokenizer

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

_WINDOW_TOKENS = 256
# Held-out positions that figures are measured on: their error is below half a percent.
_MEASURED = 16_384


@dataclass(frozen=True)
class ExitPlan:
    """What is trained, and how.

    Attributes:
        exits: layers; those of the bundle that the edge can take where empty.
        rank: of the adapters.
        shortlist: tokens that the exits choose among; None: by the coverage of the text.
        tokens: of the text that are used at most.
        minutes: training stops after so many, shared by the exits.
    """

    exits: tuple[int, ...] = ()
    rank: int = 64
    shortlist: int | None = None
    tokens: int = 200_000
    steps: int = 1500
    minutes: float | None = None
    seed: int = 0
    options: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass(frozen=True)
class TrainedExit:
    """An exit before and after, on held-out text; the same tokens are told apart both times."""

    layer: int
    before: ExitScore
    after: ExitScore


@dataclass(frozen=True)
class TrainingReport:
    """What training brought.

    Attributes:
        trained_tokens, heldout_tokens: positions that were trained on, and measured on.
        shortlist: tokens that the exits choose among, of `vocabulary`.
        text_coverage: share of the held-out text's tokens that the shortlist holds.
        full_depth_coverage: share of held-out positions whose best token by the full depth it
            holds: no exit can agree more often.
    """

    fingerprint: str
    trained_tokens: int
    heldout_tokens: int
    vocabulary: int
    shortlist: int
    text_coverage: float
    full_depth_coverage: float
    rank: int
    exits: list[TrainedExit]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, ready for `json.dumps`."""
        return asdict(self)


def train_exits(
    bundle: Bundle,
    texts: Sequence[str],
    output: Path,
    work: Path,
    plan: ExitPlan,
    report: Report,
) -> TrainingReport:
    """Train exits towards the full depth and write the bundle with them to `output`.

    Args:
        work: folder for what is collected and for checkpoints; a run that was stopped goes on.

    Raises:
        BundleError: the output exists or cannot be written.
        RequestError: a layer has no exit, the text is too short, or the work folder is another's.
    """
    if output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    entries = _chosen(bundle, plan.exits)
    vocabulary = bundle.manifest.architecture.vocabulary_size
    tokenizer = Tokenizer(bundle)
    length = min(_WINDOW_TOKENS, bundle.manifest.architecture.context_length)
    passages = cut_passages(tokenizer, texts, first_token(bundle), length, plan.tokens)
    ranked = _ranked(bundle, passages)
    size = _size(plan, passages, ranked, vocabulary)
    shortlist = np.sort(ranked[:size])
    windows = np.concatenate((passages.train, passages.calibration, passages.heldout))
    layers = [entry.layer for entry in entries]
    collection = collect(bundle, windows, passages.sha256, layers, work, plan.options, report)
    lm_head = LmHead(bundle, bundle.manifest.exits[-1])
    matrix = lm_head.rows(shortlist)
    trained = {
        entry.layer: _train(bundle, entry, matrix, shortlist, collection, passages, plan, work,
                            report)
        for entry in entries
    }  # fmt: skip
    provenance: dict[str, str | int] = {
        "exits": f"adapters of rank {plan.rank}, distilled from the full depth",
        TEXTS: " ".join(text_digest(text) for text in texts),
        "exits_seed": plan.seed,
    }
    draft = output.with_name(output.name + ".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        chosen = None if size == vocabulary else shortlist
        write_heads(bundle, draft, trained, lm_head, chosen, provenance)
        scores = _finish(bundle, draft, collection, passages, shortlist, entries, plan, report)
        draft.replace(output)
    except OSError as error:
        raise BundleError(f"{output}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    heldout = np.bincount(passages.heldout[:, 1:].ravel(), minlength=vocabulary)
    best = collection.verdicts(_rows(passages)[2]).token[:, 0]
    return TrainingReport(
        fingerprint=open_bundle(output).fingerprint,
        trained_tokens=passages.train.size,
        heldout_tokens=scores[0].after.positions,
        vocabulary=vocabulary,
        shortlist=size,
        text_coverage=float(coverage(heldout, ranked)[size - 1]),
        full_depth_coverage=float(np.isin(best, shortlist).mean()),
        rank=plan.rank,
        exits=scores,
    )


def _chosen(bundle: Bundle, layers: Sequence[int]) -> list[ExitEntry]:
    """Return the entries of the exits to train.

    Raises:
        RequestError: a layer is no exit that the edge can take.
    """
    edge = {entry.layer: entry for entry in bundle.manifest.edge_exits}
    missing = [layer for layer in layers if layer not in edge]
    if missing:
        raise RequestError(
            f"bundle {bundle.manifest.name!r} has no exit after layer "
            f"{', '.join(map(str, missing))}: choose from {', '.join(map(str, edge))}, or import "
            "the checkpoint again with other --exits"
        )
    return [edge[layer] for layer in sorted(set(layers) or edge)]


def _ranked(bundle: Bundle, passages: Passages) -> NDArray[np.int32]:
    vocabulary = bundle.manifest.architecture.vocabulary_size
    entry = bundle.manifest.tokenizer
    ends = (entry.end_of_text, *entry.stop_tokens)
    kept = always_kept(bundle.path(entry.file).read_bytes(), ends, vocabulary)
    counts = np.bincount(passages.train[:, 1:].ravel(), minlength=vocabulary)
    return rank_tokens(counts, kept)


def _size(plan: ExitPlan, passages: Passages, ranked: NDArray[np.int32], vocabulary: int) -> int:
    if plan.shortlist is not None:
        return min(plan.shortlist, vocabulary)
    counts, heldout = (
        np.bincount(part[:, 1:].ravel(), minlength=vocabulary)
        for part in (passages.train, passages.calibration)
    )
    return choose_size(counts, heldout, ranked)


def _train(
    bundle: Bundle,
    entry: ExitEntry,
    matrix: NDArray[np.float32],
    shortlist: NDArray[np.int32],
    collection: Collection,
    passages: Passages,
    plan: ExitPlan,
    work: Path,
    report: Report,
) -> AdapterWeights:
    shape = bundle.manifest.architecture
    head = FrozenHead(
        matrix,
        shortlist,
        LmHead(bundle, entry).gain(entry),
        shape.vocabulary_size,
        shape.norm_epsilon,
    )
    minutes = plan.minutes and plan.minutes / max(1, len(plan.exits or bundle.manifest.edge_exits))
    distillation = Distillation(plan.rank, plan.steps, seed=plan.seed, minutes=minutes)
    known = hashlib.sha256(f"{distillation} {shortlist.tolist()}".encode()).hexdigest()[:12]
    return train_adapter(
        head,
        collection,
        entry.layer,
        _rows(passages)[0],
        distillation,
        work / f"adapter-{entry.layer}-{known}.pt",
        lambda step, steps, _: report(f"training exit {entry.layer}", step, steps),
    )


def _finish(
    bundle: Bundle,
    draft: Path,
    collection: Collection,
    passages: Passages,
    shortlist: NDArray[np.int32],
    entries: Sequence[ExitEntry],
    plan: ExitPlan,
    report: Report,
) -> list[TrainedExit]:
    """Fit the new exits' confidences, and measure all on held-out text by the runtime itself."""
    new = open_bundle(draft)
    vocabulary = bundle.manifest.architecture.vocabulary_size
    everything = np.arange(vocabulary, dtype=np.int32)
    kept = np.isin(everything, shortlist)
    _, calibration, heldout = (_sample(rows, plan.seed) for rows in _rows(passages))
    fits, scores = {}, []
    for count, entry in enumerate(entries, start=1):
        after_entry = next(e for e in new.manifest.exits if e.layer == entry.layer)

        def measured(
            which: Bundle, exit_: ExitEntry, rows: NDArray[np.int64], tokens: NDArray[np.int32]
        ) -> Answers:
            ask = _ask(which, exit_, plan.options)
            return answers(ask, collection, exit_.layer, rows, tokens, kept)

        said = measured(new, after_entry, calibration, shortlist)
        fits[entry.layer] = fit_calibration(said.probability, said.agrees)
        old = everything if entry.shortlist is None else read_shortlist(bundle, entry)
        before = measured(bundle, entry, heldout, old).score()
        after = measured(new, after_entry, heldout, shortlist).score()
        scores.append(TrainedExit(entry.layer, before, after))
        report("measuring", count, len(entries))
    exits = [
        e.model_copy(update={"calibration": fits[e.layer]}) if e.layer in fits else e
        for e in new.manifest.exits
    ]
    write_manifest(draft, new.manifest.model_copy(update={"exits": exits}))
    return scores


def read_shortlist(bundle: Bundle, entry: ExitEntry) -> NDArray[np.int32]:
    """Return the tokens that an exit with a shortlist chooses among."""
    assert entry.shortlist is not None
    return np.fromfile(bundle.path(entry.shortlist), "<i4")


def _ask(bundle: Bundle, entry: ExitEntry, options: RuntimeOptions) -> Ask:
    session = load_session(bundle.path(entry.head), options)

    def ask(states: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs = {"state": states, "exit": np.array(entry.index, np.int64)}
        (logits,) = session.run(["logits"], inputs)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return logits, 1 / odds.sum(axis=1)

    return ask


def _rows(passages: Passages) -> tuple[NDArray[np.int64], ...]:
    """Return the positions of the three parts in the collection."""
    sizes = [part.size for part in (passages.train, passages.calibration, passages.heldout)]
    bounds = np.cumsum([0, *sizes])
    return tuple(np.arange(a, b) for a, b in pairwise(bounds.tolist()))


def _sample(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    drawn = np.random.default_rng(seed).permutation(rows)[:_MEASURED]
    return np.sort(drawn)
