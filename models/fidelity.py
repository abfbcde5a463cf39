"""What quantization cost a model: perplexity and tasks against a reference, with intervals.

Tasks decide, not perplexity alone: a model whose perplexity has hardly moved can lose answers.
Both models see the same items, so differences are taken item by item, and the intervals come
from drawing items again (bootstrap). One model is loaded at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle
from updraft.models.exits.passages import encode_long
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tasks import Item, Scored, draw_items, score_item
from updraft.models.tokenizer import Tokenizer

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

_WINDOW_TOKENS = 256
_ROWS = 128
_RESAMPLES = 2000
_TAILS = (2.5, 97.5)
_FEWEST_TOKENS = 512
# Shorter ones hold no task.
_LEAST_CONTEXT = 32


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        tokens: of the text, for perplexity.
        items: of each task that is made from the text.
    """

    tokens: int = 16_384
    items: int = 200
    seed: int = 0
    options: RuntimeOptions = field(default_factory=RuntimeOptions)


@dataclass(frozen=True)
class Limits:
    """How much worse than its reference a bundle may be; None: not asked about.

    Attributes:
        perplexity_ratio: the bundle's perplexity by the reference's.
        task_loss: what the score of any task may fall by, from 0 to 1.
    """

    perplexity_ratio: float | None = None
    task_loss: float | None = None


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95% interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class TaskScore:
    """A task's score from 0 to 1 by both models; `loss` is the reference's less the bundle's."""

    task: str
    items: int
    reference: float
    bundle: float
    loss: Interval


@dataclass(frozen=True)
class FidelityReport:
    """How near a bundle comes to its reference.

    Attributes:
        tokens: of text that perplexity was measured on.
        perplexity: of the bundle, and of the reference.
        agreement: share of the text's positions at which both models' best token is the same.
    """

    bundle: str
    reference: str
    tokens: int
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: Interval
    agreement: float
    tasks: list[TaskScore]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values, ready for `json.dumps`."""
        return asdict(self)

    def faults(self, limits: Limits) -> list[str]:
        """Say what is worse than the limits, each with both values; nothing: the bundle passes."""
        found = []
        ratio = self.perplexity_ratio
        if limits.perplexity_ratio is not None and ratio.estimate > limits.perplexity_ratio:
            found.append(
                f"perplexity {self.perplexity:.4g} is {ratio.estimate:.4f} times the reference's "
                f"{self.reference_perplexity:.4g}, at most {limits.perplexity_ratio:g} is allowed"
            )
        found += [
            f"{task.task}: {task.bundle:.4f} where the reference reaches {task.reference:.4f}, a "
            f"loss of {task.loss.estimate:.4f}, at most {limits.task_loss:g} is allowed"
            for task in self.tasks
            if limits.task_loss is not None and task.loss.estimate > limits.task_loss
        ]
        return found


def require_fidelity(
    bundle: Bundle,
    reference: Bundle,
    texts: Sequence[str],
    limits: Limits,
    prompts: Sequence[Item] = (),
    effort: Effort | None = None,
    report: Report | None = None,
) -> FidelityReport:
    """Measure a bundle against its reference and refuse it if it is worse than the limits.

    Raises:
        BundleError: it is worse; names both values of all that is.
        RequestError: the text is too short.
    """
    found = compare(bundle, reference, texts, prompts, effort, report)
    if faults := found.faults(limits):
        raise BundleError(f"{bundle.folder}: refused: {'; '.join(faults)}")
    return found


def compare(
    bundle: Bundle,
    reference: Bundle,
    texts: Sequence[str],
    prompts: Sequence[Item] = (),
    effort: Effort | None = None,
    report: Report | None = None,
) -> FidelityReport:
    """Measure a bundle against its reference, at full depth.

    Args:
        texts: perplexity, completions and choices are taken from them.
        prompts: further items, say from a file of the user's.

    Raises:
        BundleError: the two do not have the same tokenizer.
        RequestError: the text is too short, or the context.
    """
    effort = effort or Effort()
    _check_tokenizers(bundle, reference)
    tokenizer = Tokenizer(bundle)
    context = min(b.manifest.architecture.context_length for b in (bundle, reference))
    if context < _LEAST_CONTEXT:
        raise RequestError(
            f"a context of {context} is too short to compare models, at least {_LEAST_CONTEXT} "
            "positions are needed"
        )
    stream = np.concatenate([np.fromiter(encode_long(tokenizer, text), np.int64) for text in texts])
    if len(stream) < _FEWEST_TOKENS:
        raise RequestError(
            f"the text has {len(stream)} tokens, at least {_FEWEST_TOKENS} are needed to compare "
            "models"
        )
    rng = np.random.default_rng(effort.seed)
    start = first_token(bundle)
    windows = _windows(stream, start, min(_WINDOW_TOKENS, context), effort.tokens, rng)
    items = [*draw_items(stream, start, context, effort.items, rng), *prompts]
    wanted = _measure(reference, windows, items, effort.options, report, "reference")
    found = _measure(bundle, windows, items, effort.options, report, "bundle")
    gap = found.cross_entropy.mean(axis=1) - wanted.cross_entropy.mean(axis=1)
    logarithm = _bootstrap(gap, rng)
    return FidelityReport(
        bundle=bundle.manifest.name,
        reference=reference.manifest.name,
        tokens=found.cross_entropy.size,
        perplexity=float(np.exp(found.cross_entropy.mean())),
        reference_perplexity=float(np.exp(wanted.cross_entropy.mean())),
        perplexity_ratio=Interval(*(float(np.exp(v)) for v in logarithm)),
        agreement=float((found.best == wanted.best).mean()),
        tasks=_task_scores(items, found.scores, wanted.scores, rng),
    )


def first_token(bundle: Bundle) -> int:
    """Return the token that a text of its own begins with, as the model was trained."""
    entry = bundle.manifest.tokenizer
    return entry.end_of_text if entry.begin_token is None else entry.begin_token


@dataclass(frozen=True)
class _Measured:
    """Nats and best tokens (windows, tokens) of the text, and a score for each item."""

    cross_entropy: NDArray[np.float64]
    best: NDArray[np.int64]
    scores: NDArray[np.float64]


def _measure(
    bundle: Bundle,
    windows: NDArray[np.int64],
    items: Sequence[Item],
    options: RuntimeOptions,
    report: Report | None,
    who: str,
) -> _Measured:
    model = Model.load(bundle, range(bundle.manifest.architecture.layers), options)
    sequence = model.new_sequence()
    entropies, best = [], []
    for count, window in enumerate(windows, start=1):
        sequence.truncate(0)
        sequence.append(window[:-1])
        sequence.advance(model.top)
        states = sequence.states(model.top, 0, sequence.length)
        scored = [
            Scored.of(model, states[at : at + _ROWS], window[1:][at : at + _ROWS])
            for at in range(0, len(states), _ROWS)
        ]
        entropies.append(np.concatenate([part.cross_entropy for part in scored]))
        best.append(np.concatenate([part.best for part in scored]))
        if report:
            report(f"{who}: text", count, len(windows))
    scores = []
    for count, item in enumerate(items, start=1):
        scores.append(score_item(model, sequence, item))
        if report:
            report(f"{who}: tasks", count, len(items))
    return _Measured(np.stack(entropies), np.stack(best), np.array(scores))


def _task_scores(
    items: Sequence[Item],
    found: NDArray[np.float64],
    wanted: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[TaskScore]:
    names = list(dict.fromkeys(item.task for item in items))
    of = {name: np.array([item.task == name for item in items]) for name in names}
    return [
        TaskScore(
            name,
            int(mine.sum()),
            float(wanted[mine].mean()),
            float(found[mine].mean()),
            Interval(*_bootstrap(wanted[mine] - found[mine], rng)),
        )
        for name, mine in of.items()
    ]


def _bootstrap(
    differences: NDArray[np.float64], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Return the mean and its 95% interval, the entries being the draws."""
    count = len(differences)
    means = differences[rng.integers(count, size=(_RESAMPLES, count))].mean(axis=1)
    low, high = np.percentile(means, _TAILS)
    return float(differences.mean()), float(low), float(high)


def _windows(
    stream: NDArray[np.int64], start: int, length: int, limit: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return windows (n, length) spread over a text, each behind the token that starts one."""
    body = length - 1
    count = len(stream) // body
    rows = stream[: count * body].reshape(count, body)
    chosen = np.sort(rng.permutation(count)[: max(1, limit // body)])
    windows: NDArray[np.int64] = np.concatenate(
        (np.full((len(chosen), 1), start), rows[chosen]), axis=1
    )
    return windows


def _check_tokenizers(bundle: Bundle, reference: Bundle) -> None:
    mine, theirs = (b.manifest.files[b.manifest.tokenizer.file] for b in (bundle, reference))
    if mine.sha256 != theirs.sha256:
        raise BundleError(
            f"{bundle.folder}: its tokenizer is {mine.sha256[:12]}…, the reference's "
            f"{theirs.sha256[:12]}…: models with different tokenizers cannot be compared"
        )
