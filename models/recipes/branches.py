"""A generalist and the experts that branch from its trunk while the learning rate falls."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from updraft.models.graphs import Weights
from updraft.models.manifest import Architecture
from updraft.models.recipes.corpus import SourceFile
from updraft.models.recipes.decoder import Decoder
from updraft.models.recipes.domains import Domain
from updraft.models.recipes.mixture import GENERALIST, mix, shares_of
from updraft.models.recipes.tokenizer import train_tokenizer
from updraft.models.recipes.train import Phase, Progress, Schedule, Tokens, train

Report = Callable[[Progress], None]

SHAPE = Architecture(
    vocabulary_size=2048,
    width=128,
    layers=4,
    heads=4,
    kv_heads=2,
    ffn_width=352,
    context_length=256,
)
EXIT_LAYERS = (2, 4)
BUNDLE_EXITS = (2,)
TRUNK = Phase(tokens=3_600 * 4_096, context=256, batch_tokens=4_096, exit_weights=(0.15,))
DECAY = Phase(
    tokens=600 * 4_096,
    context=256,
    batch_tokens=4_096,
    exit_weights=(0.15,),
    rates=(1.0, 0.0),
    distil=True,
)
SEED = 0

# Chosen on calibration files: headers and documentation gain most, Python and logs lose nothing.
_EXPERT_PART = 0.7
_PROBE_WINDOWS = 32
_TOKENIZER_CHARS = 2_000_000
END_OF_TEXT = 0


def fit_tokenizer(domains: Mapping[str, Domain]) -> Tokenizer:
    """Train one tokenizer for all experts, on as much text of each domain."""
    texts = []
    for domain in domains.values():
        order = np.random.default_rng(SEED).permutation(len(domain.train))
        room = _TOKENIZER_CHARS
        for index in order:
            texts.append(domain.train[index].text[:room])
            room -= len(texts[-1])
            if not room:
                break
    return train_tokenizer(texts, SHAPE.vocabulary_size)


def train_trunk(
    documents: Mapping[str, list[Tokens]], probe: Tokens, work: Path, report: Report
) -> None:
    """Train what all experts have in common, at a constant rate, into `work/checkpoint.pt`."""
    work.mkdir(parents=True, exist_ok=True)
    train(
        SHAPE,
        EXIT_LAYERS,
        Schedule((TRUNK,), SEED),
        mix(documents, shares_of(GENERALIST), SEED),
        probe,
        work,
        report,
    )


def train_branch(
    name: str,
    documents: Mapping[str, list[Tokens]],
    probe: Tokens,
    trunk: Path,
    work: Path,
    report: Report,
) -> Decoder:
    """Go on from the trunk with an expert's own text while the rate falls to nothing."""
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "checkpoint.pt"
    if not checkpoint.exists():
        half = checkpoint.with_suffix(".tmp")
        shutil.copyfile(trunk / checkpoint.name, half)
        half.replace(checkpoint)
    schedule = Schedule((TRUNK, DECAY), SEED)
    read = mix(documents, shares_of(name), SEED)
    return train(SHAPE, EXIT_LAYERS, schedule, read, probe, work, report)


def blend(generalist: Weights, expert: Weights) -> Weights:
    """Return weights on the way from the generalist to an expert, most of it done.

    Both come from one trunk, so what lies between them is a model too, and a better one: it has
    what the branch learned without all of what it learned by heart.
    Source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
    """
    return {
        name: (1 - _EXPERT_PART) * generalist[name] + _EXPERT_PART * expert[name]
        for name in generalist
    }


def encode(tokenizer: Tokenizer, files: list[SourceFile]) -> list[Tokens]:
    """Return each file's tokens behind the end-of-text token."""
    return [
        np.array([END_OF_TEXT, *encoding.ids], dtype=np.uint16)
        for encoding in tokenizer.encode_batch([file.text for file in files])
    ]


def probe_windows(documents: list[Tokens]) -> Tokens:
    """Return windows, spread over documents that no expert trains on, to watch progress by."""
    length = SHAPE.context_length + 1
    stream = np.concatenate(documents)
    windows = stream[: len(stream) // length * length].reshape(-1, length)
    return windows[:: max(1, len(windows) // _PROBE_WINDOWS)][:_PROBE_WINDOWS]
