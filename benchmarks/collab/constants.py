"""The constants of the time model, measured in the same run as the rows."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Series
from dataclasses import dataclass, fields, replace
from functools import partial
from statistics import fmean
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.benchmarks.collab.plan import CLOUD, LOSSLESS, ROWS
from updraft.benchmarks.collab.stage import Run, Stage
from updraft.benchmarks.collab.wire import LOOPBACK, Link
from updraft.models.codecs import wire_codec
from updraft.models.sampling import Sampling
from updraft.models.sequence import Sequence

_GROUPS = (1, 2, 4, 8, 16)
_PIECE = 128
_PROMPT = 192
_PREFILLS = 3
_CALLS = 10
_KEYED = Sampling()


@dataclass(frozen=True)
class Passes:
    """t_v(k): seconds of a pass over k positions, and the straight line through them.

    Attributes:
        by_count: seconds by k.
        first_s, growth: `first_s` × (1 + `growth` × (k - 1)).
    """

    by_count: dict[int, float]
    first_s: float
    growth: float

    @classmethod
    def of(cls, by_count: dict[int, float]) -> Passes:
        """Fit the line by least squares of relative errors."""
        groups = np.array(list(by_count)) - 1.0
        seconds = np.array(list(by_count.values()))
        slope, first = np.polyfit(groups, seconds, 1, w=1 / seconds)
        return cls(by_count, float(first), float(slope / first))

    @classmethod
    def mean(cls, measured: Series[Passes]) -> Passes:
        """Return the mean of several measurements, and the line through it."""
        return cls.of({k: fmean(one.by_count[k] for one in measured) for k in measured[0].by_count})


@dataclass(frozen=True)
class Constants:
    """Seconds, means, because what they predict is a sum; see `updraft.edge.timemodel`.

    Attributes:
        edge_s: t_e, a draft alone: layers below the split, exit, choice, encoding.
        streaming_edge_s: t_e in the engine, over loopback: what the link's thread takes of the
            same core, and the engine's own step, are in it.
        edge_overhead_s: what a step of the engine costs besides the runtime.
        whole_s: t_f, from one streamed token of `cloud` to the next.
        upper, whole: t_v(k) of the layers above the split, and of all.
        round_trip_s: R as the emulated link has it: a call over it, less one over loopback.
        exchange_s: a question and its answer over loopback, without the computing.
        start_s: from a request of `cloud` to its first token over loopback, without the computing.
        edge_prefill_s, upper_prefill_s: one position of a prompt.
        state_bytes: one position's payload, by codec.
    """

    edge_s: float
    streaming_edge_s: float
    edge_overhead_s: float
    whole_s: float
    upper: Passes
    whole: Passes
    round_trip_s: float
    exchange_s: float
    start_s: float
    edge_prefill_s: float
    upper_prefill_s: float
    state_bytes: dict[str, float]

    @classmethod
    def mean(cls, measured: Series[Constants]) -> Constants:
        """Return the mean of several measurements."""
        names = [each.name for each in fields(cls) if each.type == "float"]
        means: dict[str, Any] = {n: fmean(getattr(one, n) for one in measured) for n in names}
        return replace(
            measured[0],
            **means,
            upper=Passes.mean([one.upper for one in measured]),
            whole=Passes.mean([one.whole for one in measured]),
        )

    @property
    def whole_prefill_s(self) -> float:
        return self.edge_prefill_s + self.upper_prefill_s


def measure_constants(
    stage: Stage, link: Link, prompts: list[str], max_tokens: int, samples: int
) -> Constants:
    """Measure with nothing else running: all over loopback, and the round trip of a link."""
    stage.shape(link)
    over_link = _mean_s(stage.call, _CALLS)
    stage.shape(LOOPBACK)
    round_trip = over_link - _mean_s(stage.call, _CALLS)
    bundle = stage.bundle
    split, layers = bundle.manifest.split, bundle.manifest.architecture.layers
    model = stage.engine(CLOUD).model
    below, above = model.below(split).new_sequence(), model.above(split).new_sequence()
    text = np.arange(_PROMPT) % bundle.manifest.architecture.vocabulary_size
    edge_prefill = _prefill_s(below, split, text)
    states = below.states(split, 0, _PROMPT).copy()
    upper_prefill = _prefill_s(above, layers, states)
    whole = model.new_sequence()
    _prefill_s(whole, layers, text)
    encode = wire_codec(bundle, "fp16").encode

    def draft() -> None:
        below.append([1])
        below.advance(split)
        below.look(split)
        below.pick(_KEYED, below.length)
        encode(below.states(split, below.length - 1, below.length))
        below.truncate(_PROMPT)

    def passes(sequence: Sequence, inputs: NDArray[Any]) -> Passes:
        def verify(count: int) -> None:
            sequence.append(inputs[:count])
            model.heads.predict(layers, sequence.advance(layers))
            sequence.truncate(_PROMPT)

        return Passes.of({k: _mean_s(partial(verify, k), samples // 4) for k in _GROUPS})

    streamed = [stage.run(CLOUD, prompt, 0, 0.0, max_tokens) for prompt in prompts]
    asked = [stage.run(_ASKING, prompt, 0, 0.0, max_tokens) for prompt in prompts]
    alone = [stage.run(_ALONE, prompt, 0, 0.0, max_tokens) for prompt in prompts]
    ahead = [stage.run(LOSSLESS, prompt, 0, 0.0, max_tokens) for prompt in prompts]
    state_bytes: dict[str, float] = {
        name: len(wire_codec(bundle, name).encode(states)) / _PROMPT
        for name in bundle.manifest.codecs
    }
    return Constants(
        edge_s=_mean_s(draft, samples),
        streaming_edge_s=fmean(
            _draft_s(run, edge_prefill, state_bytes[LOSSLESS.wire]) for run in ahead
        ),
        edge_overhead_s=fmean(_overhead_s(run) for run in alone),
        whole_s=fmean(_pace_s(run) for run in streamed),
        upper=passes(above, states),
        whole=passes(whole, text),
        round_trip_s=round_trip,
        exchange_s=fmean(run.result.comm_s / run.result.cloud_calls for run in asked),
        start_s=fmean(_start_s(run, edge_prefill + upper_prefill) for run in streamed),
        edge_prefill_s=edge_prefill,
        upper_prefill_s=upper_prefill,
        state_bytes=state_bytes,
    )


_ASKING = next(row for row in ROWS if row.name.startswith("naive + KV"))
_ALONE = next(row for row in ROWS if row.mode == "standalone")


def _prefill_s(sequence: Sequence, layer: int, inputs: NDArray[Any]) -> float:
    """Run a prompt; returns the seconds per position."""

    def prefill() -> None:
        sequence.truncate(0)
        for first in range(0, len(inputs), _PIECE):
            sequence.append(inputs[first : first + _PIECE])
            sequence.advance(layer)

    prefill()  # the first time pays for what is made once
    return _mean_s(prefill, _PREFILLS) / len(inputs)


def _mean_s(work: Callable[[], None], samples: int) -> float:
    seconds = []
    for _ in range(samples):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return fmean(seconds)


def _pace_s(run: Run) -> float:
    """Return the seconds from one token to the next, the first one apart."""
    first, last = run.arrivals_s[0], run.arrivals_s[-1]
    return (last - first) / max(1, run.new_tokens - 1)


def _start_s(run: Run, prefill_s: float) -> float:
    computing = run.prompt_tokens * prefill_s + _pace_s(run)
    return max(0.0, run.arrivals_s[0] - computing)


def _draft_s(run: Run, prefill_s: float, state_bytes: float) -> float:
    """Return the seconds per draft, those in vain included: each has sent its state.

    Over loopback hardly anything is waited for.
    """
    drafts = run.result.uplink_bytes / state_bytes - run.prompt_tokens
    return (run.result.total_s - run.prompt_tokens * prefill_s) / drafts


def _overhead_s(run: Run) -> float:
    return (run.result.total_s - run.result.edge_s) / run.new_tokens
