"""The wire codecs: what they take, what they cost, and what they change."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.benchmarks.measures.report import Section
from updraft.models.bundle import Bundle
from updraft.models.card import Table
from updraft.models.codecs import WireCodec, as_received, wire_codec
from updraft.models.codecs.integer import Integer
from updraft.models.manifest import CodecName
from updraft.models.partition import States
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

_TEMPERATURES = (0.0, 0.8)
_FRAME_POSITIONS = 16
_TIMED_FRAMES = 100
_REPEATS = 5
# Beyond any codec but fp32.
_EXACT_DB = 999.0
_BITS: dict[CodecName, int] = {"int8": 8, "int6": 6, "int4": 4}


@dataclass
class Row:
    """One codec.

    Attributes:
        token_bytes, frame_bytes: mean payload per position, alone and in frames of 16.
        token_zlib, frame_zlib: the same, compressed once more.
        ideal_bytes: what an ideal coder of its symbols, each by itself, would take per position.
        encode_us, decode_us: of one position; `frame_` of 16.
        same_next: share of prompt positions after which the whole model says the same token with
            and without the codec.
        same_texts: temperature → share of completions that are the same to the end.
    """

    name: str
    token_bytes: float
    frame_bytes: float
    token_zlib: float
    frame_zlib: float
    ideal_bytes: float
    snr_db: float
    worst_snr_db: float
    encode_us: float
    decode_us: float
    frame_encode_us: float
    frame_decode_us: float
    same_next: float = 0.0
    same_texts: dict[float, float] = field(default_factory=dict)


class _Prompt(NamedTuple):
    tokens: list[int]
    states: States


def measure(bundle: Bundle, prompts: Sequence[str], max_tokens: int) -> Section:
    """Measure every codec of a bundle on prompts, and plain per-position scales beside them.

    Takes about a second per prompt on one core.

    Args:
        prompts: held-out ones, on which no scale was fitted.
        max_tokens: of the completions with and without each codec.
    """
    model, tokenizer = Model.load(bundle, _layers(bundle), RuntimeOptions()), Tokenizer(bundle)
    split = bundle.manifest.split
    read = [_read(model.below(split), tokenizer.encode(prompt)) for prompt in prompts]
    states = np.concatenate([prompt.states for prompt in read])
    codecs = _codecs(bundle)
    rows = {name: _row(bundle, name, codec, states) for name, codec in codecs.items()}
    said = _next_tokens(model.above(split), read, codecs["fp32"])
    for name, codec in codecs.items():
        rows[name].same_next = float((_next_tokens(model.above(split), read, codec) == said).mean())
    for temperature in _TEMPERATURES:
        texts = {
            name: [
                _complete(model, codec, prompt.tokens, Sampling(temperature, number), max_tokens)
                for number, prompt in enumerate(read)
            ]
            for name, codec in codecs.items()
        }
        for name, found in texts.items():
            same = [one == other for one, other in zip(found, texts["fp32"], strict=True)]
            rows[name].same_texts[temperature] = float(np.mean(same))
    return Section(
        key="codecs",
        tables=[_wire_table(rows, len(states)), _effect_table(rows, len(prompts), max_tokens)],
        figures={
            "prompts": len(prompts),
            "positions": len(states),
            "max_tokens": max_tokens,
            "codecs": [asdict(row) for row in rows.values()],
        },
        failures=[
            f"{name}: what was decoded encodes to other bytes"
            for name, codec in codecs.items()
            if not _keeps(codec, states)
        ],
    )


def _layers(bundle: Bundle) -> range:
    return range(bundle.manifest.architecture.layers)


def _codecs(bundle: Bundle) -> dict[str, WireCodec]:
    """Return every codec of the bundle, then rivals that know no channels."""
    alike = np.ones(bundle.manifest.architecture.width, np.float32)
    own: dict[str, WireCodec] = {name: wire_codec(bundle, name) for name in bundle.manifest.codecs}
    rivals = {
        f"{name}, no channel scales": Integer(name, bits, alike) for name, bits in _BITS.items()
    }
    return own | rivals


def _read(lower: Model, tokens: list[int]) -> _Prompt:
    sequence = lower.new_sequence()
    sequence.append(tokens)
    return _Prompt(tokens, sequence.advance(lower.top).copy())


def _keeps(codec: WireCodec, states: States) -> bool:
    payload = codec.encode(states)
    return codec.encode(codec.decode(payload, *states.shape)) == payload


def _row(bundle: Bundle, name: str, codec: WireCodec, states: States) -> Row:
    decoded = as_received(codec, states)
    power = np.square(states, dtype=np.float64).sum(axis=1)
    noise = np.square(decoded.astype(np.float64) - states).sum(axis=1)
    alone = _payloads(codec, states, 1)
    frames = _payloads(codec, states, _FRAME_POSITIONS)
    positions = len(states)
    return Row(
        name,
        token_bytes=sum(map(len, alone)) / positions,
        frame_bytes=sum(map(len, frames)) / positions,
        token_zlib=sum(len(zlib.compress(payload, 9)) for payload in alone) / positions,
        frame_zlib=sum(len(zlib.compress(payload, 9)) for payload in frames) / positions,
        ideal_bytes=_ideal_bytes(bundle, codec, decoded),
        snr_db=_decibels(power.sum(), noise.sum()),
        worst_snr_db=min(map(_decibels, power, noise)),
        encode_us=_encode_us(codec, states, 1),
        decode_us=_decode_us(codec, states, 1),
        frame_encode_us=_encode_us(codec, states, _FRAME_POSITIONS),
        frame_decode_us=_decode_us(codec, states, _FRAME_POSITIONS),
    )


def _payloads(codec: WireCodec, states: States, positions: int) -> list[bytes]:
    starts = range(0, len(states), positions)
    return [codec.encode(states[start : start + positions]) for start in starts]


def _decibels(power: float, noise: float) -> float:
    return float(10 * np.log10(power / noise)) if noise else _EXACT_DB


def _ideal_bytes(bundle: Bundle, codec: WireCodec, decoded: States) -> float:
    """Return bytes per position by the entropy of codes, or of exponents plus what goes plain."""
    width = decoded.shape[1]
    if isinstance(codec, Integer):
        return 2 + width * _entropy_bits(codec.quantize(decoded).codes) / 8
    if codec.name == "bf16":
        _, centres = np.frexp(bundle.channel_scales)
        _, exponents = np.frexp(decoded)
        return width * (8 + _entropy_bits(exponents - centres)) / 8
    return len(codec.encode(decoded)) / len(decoded)


def _entropy_bits(symbols: NDArray[np.integer]) -> float:
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _encode_us(codec: WireCodec, states: States, positions: int) -> float:
    frames = [states[i : i + positions] for i in range(_TIMED_FRAMES)]
    return _median_us([partial(codec.encode, frame) for frame in frames])


def _decode_us(codec: WireCodec, states: States, positions: int) -> float:
    payloads = [codec.encode(states[i : i + positions]) for i in range(_TIMED_FRAMES)]
    width = states.shape[1]
    return _median_us([partial(codec.decode, payload, positions, width) for payload in payloads])


def _median_us(calls: Sequence[Callable[[], object]]) -> float:
    times = []
    for _ in range(_REPEATS):
        for call in calls:
            started = perf_counter()
            call()
            times.append(perf_counter() - started)
    return 1e6 * median(times)


def _next_tokens(upper: Model, prompts: Sequence[_Prompt], codec: WireCodec) -> NDArray[np.int64]:
    """Return what the whole model says after each position of the prompts, greedily."""
    tokens = []
    for prompt in prompts:
        sequence = upper.new_sequence()
        sequence.append(as_received(codec, prompt.states))
        tokens.append(upper.heads.predict(upper.top, sequence.advance(upper.top)).token)
    return np.concatenate(tokens)


def _complete(
    model: Model, codec: WireCodec, prompt: Sequence[int], sampling: Sampling, max_tokens: int
) -> list[int]:
    """Complete a prompt by the whole model with a codec at the split."""
    split, top = model.bundle.manifest.split, model.top
    end_of_text = model.bundle.manifest.tokenizer.end_of_text
    lower, upper = model.below(split).new_sequence(), model.above(split).new_sequence()
    lower.append(prompt)
    tokens: list[int] = []
    while len(tokens) < max_tokens and end_of_text not in tokens[-1:]:
        upper.append(as_received(codec, lower.advance(split)))
        upper.advance(top)
        tokens.append(upper.propose(top, sampling, upper.length).token)
        lower.append(tokens[-1:])
    return tokens


def _wire_table(rows: dict[str, Row], positions: int) -> Table:
    return Table(
        "Wire codecs: bytes and time",
        ("codec", "B/token", "in frames of 16", "+ zlib, alone", "+ zlib, frames", "ideal coder",
         "÷ fp16", "encode, µs", "decode, µs", "encode 16, µs", "decode 16, µs"),
        [
            (
                row.name,
                f"{row.token_bytes:.1f}",
                f"{row.frame_bytes:.1f}",
                f"{row.token_zlib:.1f}",
                f"{row.frame_zlib:.1f}",
                f"{row.ideal_bytes:.1f}",
                f"{row.token_bytes / rows['fp16'].token_bytes:.3f}",
                f"{row.encode_us:.1f}",
                f"{row.decode_us:.1f}",
                f"{row.frame_encode_us:.1f}",
                f"{row.frame_decode_us:.1f}",
            )
            for row in rows.values()
        ],
        f"Split states of {positions:,} positions of held-out prompts; payload without its frame. "
        "Ideal coder: entropy of the codes, or for bf16 of the exponents, one by one; no coder of "
        "single symbols takes less. Times are medians, position scales and checks included.",
    )  # fmt: skip


def _effect_table(rows: dict[str, Row], prompts: int, max_tokens: int) -> Table:
    return Table(
        "Wire codecs: what they change",
        ("codec", "SNR, dB", "worst position, dB", "same next token",
         *(f"same {max_tokens} tokens, {_show(t)}" for t in _TEMPERATURES)),
        [
            (
                row.name,
                "exact" if row.snr_db == _EXACT_DB else f"{row.snr_db:.1f}",
                "exact" if row.worst_snr_db == _EXACT_DB else f"{row.worst_snr_db:.1f}",
                f"{row.same_next:.2%}",
                *(f"{row.same_texts[t]:.1%}" for t in _TEMPERATURES),
            )
            for row in rows.values()
        ],
        "The whole model with the codec at the split, against the whole model without. Same next "
        "token: greedy, after each position of the prompts, all before it through the codec too. "
        f"Same tokens: {prompts} completions of up to {max_tokens}, each going its own way after "
        "its first difference. Whichever codec: modes that promise the tokens of `cloud` give "
        "those of `cloud` with that codec.",
    )  # fmt: skip


def _show(temperature: float) -> str:
    return "greedy" if temperature == 0 else f"T = {temperature:g}"
