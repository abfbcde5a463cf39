"""Train a decoder with early exits: seeded, resumable, on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from updraft.models.manifest import Architecture
from updraft.models.recipes.decoder import Decoder

Tokens = NDArray[np.uint16]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one window length and batch size.

    Attributes:
        tokens: tokens to train on in this phase.
        context: tokens per window.
        batch_tokens: tokens per optimizer step.
        exit_weights: weight of each early exit's loss; the full depth has weight 1.
        rates: share of the learning rate at the phase's start and end, a straight line between.
        distil: exits learn the full depth's distribution instead of the labels.
    """

    tokens: int
    context: int
    batch_tokens: int
    exit_weights: tuple[float, ...]
    rates: tuple[float, float] = (1.0, 1.0)
    distil: bool = False

    @property
    def steps(self) -> int:
        return self.tokens // self.batch_tokens


@dataclass(frozen=True)
class Schedule:
    """Everything that, with the corpus, determines the weights up to rounding.

    Attributes:
        exit_stride: an early exit's loss looks at every n-th position.
        micro_tokens: tokens per forward pass; gradients accumulate up to a phase's batch.
    """

    phases: tuple[Phase, ...]
    seed: int = 0
    matrix_rate: float = 0.02
    matrix_weight_decay: float = 0.05
    vector_rate: float = 0.004
    warmup_steps: int = 100
    exit_stride: int = 4
    micro_tokens: int = 4096

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True)
class Progress:
    """One line of the training log."""

    step: int
    steps: int
    tokens: int
    loss: float
    exit_accuracy: dict[int, float] | None


def train(
    shape: Architecture,
    exit_layers: tuple[int, ...],
    schedule: Schedule,
    documents: list[Tokens],
    probe: Tokens,
    work: Path,
    report: Callable[[Progress], None],
) -> Decoder:
    """Train a decoder, resuming from `work/checkpoint.pt` when that exists.

    Args:
        documents: token ids of each training file.
        probe: (windows, context + 1) held-out windows; exit accuracy on them is reported now
            and then, and never used to choose anything.
        work: folder that keeps the checkpoint.
        report: called after each step.

    Returns:
        The trained decoder on the CPU, in fp32.
    """
    torch.manual_seed(schedule.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    decoder = Decoder(shape, exit_layers).to(device)
    optimizers = _optimizers(decoder, schedule)
    checkpoint, step = work / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        decoder.load_state_dict(saved["decoder"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        step = saved["step"]
    loss_of = torch.compile(_loss)

    first, trained_tokens = 0, 0
    for number, phase in enumerate(schedule.phases):
        batches = _batches(documents, phase, schedule, number, skip=max(0, step - first))
        for local in range(max(0, step - first), phase.steps):
            rate = _rate(schedule, phase, local, step)
            loss = torch.zeros((), device=device)
            micro_batches = np.array_split(
                next(batches), max(1, phase.batch_tokens // schedule.micro_tokens)
            )
            for windows in micro_batches:
                batch = torch.from_numpy(windows.astype(np.int64)).to(device)
                part = loss_of(decoder, batch, phase, schedule.exit_stride) / len(micro_batches)
                part.backward()
                loss += part.detach()
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["base_rate"] * rate
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            done = step == schedule.steps
            tokens = trained_tokens + (local + 1) * phase.batch_tokens
            accuracy = None
            if step % 200 == 0 or done:
                accuracy = exit_accuracy(decoder, probe)
                _save(checkpoint, decoder, optimizers, step)
            report(Progress(step, schedule.steps, tokens, float(loss), accuracy))
        first += phase.steps
        trained_tokens += phase.steps * phase.batch_tokens
    return decoder.cpu().eval()


@torch.no_grad()
def exit_accuracy(decoder: Decoder, windows: Tokens) -> dict[int, float]:
    """Return, for each exit layer, the share of next tokens that its argmax gets right."""
    device = decoder.embedding.weight.device
    right: dict[int, int] = dict.fromkeys(decoder.exit_layers, 0)
    for part in np.array_split(windows, max(1, len(windows) // 8)):
        batch = torch.from_numpy(part.astype(np.int64)).to(device)
        for layer, normed in decoder(batch[:, :-1], torch.bfloat16).items():
            best = decoder.logits(normed).argmax(-1)
            right[layer] += int((best == batch[:, 1:]).sum())
    count = windows.shape[0] * (windows.shape[1] - 1)
    return {layer: hits / count for layer, hits in right.items()}


def _loss(decoder: Decoder, batch: Tensor, phase: Phase, stride: int) -> Tensor:
    labels, exits = batch[:, 1:], decoder(batch[:, :-1], torch.bfloat16)
    full = decoder.logits(exits[decoder.shape.layers]).float()
    loss = F.cross_entropy(full.flatten(0, 1), labels.flatten())
    for layer, weight in zip(decoder.exit_layers, phase.exit_weights, strict=False):
        if weight == 0:
            continue
        # A different offset per exit spreads the looked-at positions.
        kept = slice(layer % stride, None, stride)
        logits = decoder.logits(exits[layer][:, kept]).float().flatten(0, 1)
        target = (
            full[:, kept].detach().softmax(-1).flatten(0, 1)
            if phase.distil
            else labels[:, kept].flatten()
        )
        loss = loss + weight * F.cross_entropy(logits, target)
    return loss


def _optimizers(decoder: Decoder, schedule: Schedule) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in decoder.named_parameters() if p.ndim == 2 and "embedding" not in n]
    vectors = [p for n, p in decoder.named_parameters() if p.ndim == 1 or "embedding" in n]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(
            matrices, lr=schedule.matrix_rate, weight_decay=schedule.matrix_weight_decay
        ),
        torch.optim.AdamW(
            vectors, lr=schedule.vector_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_rate"] = group["lr"]
    return optimizers


def _rate(schedule: Schedule, phase: Phase, local: int, step: int) -> float:
    warm = min(1.0, (step + 1) / schedule.warmup_steps)
    start, end = phase.rates
    return warm * (start + (end - start) * local / phase.steps)


def _batches(
    documents: list[Tokens], phase: Phase, schedule: Schedule, number: int, skip: int
) -> Iterator[Tokens]:
    """Yield (batch, context + 1) windows for ever; each epoch shuffles files and cuts anew."""
    per_step, epoch = phase.batch_tokens // phase.context, 0
    while True:
        order = np.random.default_rng((schedule.seed, number, epoch))
        files = [documents[i] for i in order.permutation(len(documents))]
        stream = np.concatenate(files)[order.integers(phase.context) :]
        count = (len(stream) - 1) // phase.context
        starts = order.permutation(count) * phase.context
        for first in range(0, len(starts) - per_step + 1, per_step):
            if skip:
                skip -= 1
                continue
            chosen = starts[first : first + per_step]
            yield stream[chosen[:, None] + np.arange(phase.context + 1)]
        epoch += 1


def _save(path: Path, decoder: Decoder, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    state: dict[str, Any] = {
        "decoder": decoder.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
