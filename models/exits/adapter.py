"""An exit's adapter, and its training by self-distillation. Needs torch (extra `train`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from updraft.models.exits.collection import Collection
from updraft.models.exits.scores import places_of

# Told the step, the steps in all, and the divergence of the step's positions.
Report = Callable[[int, int, float], None]

_SAVE_EVERY = 100
_WARM_UP = 0.05
_WEIGHT_DECAY = 0.01
# A gain moves all of a channel at once: it is given smaller steps than a matrix.
_GAIN_RATE = 0.2
_CLIP = 1.0
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Distillation:
    """How an adapter is trained; with a limit in steps alone, the same every time.

    Attributes:
        rank: of the adapter.
        batch: positions per step.
        minutes: stop earlier when that long has passed, with the rate falling to its end by then.
    """

    rank: int
    steps: int
    batch: int = 512
    rate: float = 1e-3
    seed: int = 0
    minutes: float | None = None


class AdapterWeights(NamedTuple):
    """A trained adapter: down (rank, width), up (width, rank) and the norm's gain (width,)."""

    down: NDArray[np.float32]
    up: NDArray[np.float32]
    gain: NDArray[np.float32]


class Adapter(nn.Module):
    """Turns the state of unit size at an exit into what the frozen LM head reads.

    It begins as the exit was before: `up` is zero, and the gain is the one given.
    """

    def __init__(self, gain: Tensor, rank: int, epsilon: float) -> None:
        super().__init__()
        width = len(gain)
        self.down = nn.Parameter(torch.randn(rank, width) * width**-0.5)
        self.up = nn.Parameter(torch.zeros(width, rank))
        self.gain = nn.Parameter(gain.clone())
        self.epsilon = epsilon

    def forward(self, state: Tensor) -> Tensor:
        mixed = state + functional.linear(
            functional.silu(functional.linear(state, self.down)), self.up
        )
        return functional.rms_norm(mixed, mixed.shape[-1:], self.gain, self.epsilon)

    def weights(self) -> AdapterWeights:
        """Return the weights as arrays."""
        arrays = (p.detach().numpy().copy() for p in (self.down, self.up, self.gain))
        return AdapterWeights(*arrays)


@dataclass(frozen=True)
class FrozenHead:
    """The rows of the LM head that an exit uses, and what it is told about tokens.

    Attributes:
        matrix: (shortlist, width).
        shortlist: (shortlist,) token ids.
        gain: (width,) of the norm that the exit had.
    """

    matrix: NDArray[np.float32]
    shortlist: NDArray[np.int32]
    gain: NDArray[np.float32]
    vocabulary: int
    epsilon: float


def train_adapter(
    head: FrozenHead,
    collection: Collection,
    layer: int,
    rows: NDArray[np.int64],
    plan: Distillation,
    checkpoint: Path,
    report: Report,
) -> AdapterWeights:
    """Train an exit's adapter towards the full depth; goes on from the checkpoint if there is one.

    Args:
        rows: positions to train on.
        checkpoint: file that is written now and then.
    """
    torch.manual_seed(plan.seed + layer)
    adapter = Adapter(torch.from_numpy(head.gain), plan.rank, head.epsilon)
    gains = [adapter.gain]
    optimizer = torch.optim.AdamW(
        [
            {"params": [adapter.down, adapter.up], "share": 1.0},
            {"params": gains, "share": _GAIN_RATE, "weight_decay": 0.0},
        ],
        lr=plan.rate,
        betas=(0.9, 0.98),
        weight_decay=_WEIGHT_DECAY,
    )
    matrix = torch.from_numpy(head.matrix)
    places = torch.from_numpy(places_of(head.shortlist, head.vocabulary))
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        adapter.load_state_dict(saved["adapter"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent_s"]
    started = monotonic() - spent
    while (progress := _progress(plan, step, monotonic() - started)) < 1:
        # Drawn anew for each step, so that a run that was stopped draws what it would have drawn.
        chosen = np.random.default_rng((plan.seed, layer, step)).choice(rows, plan.batch)
        chosen.sort()
        for group in optimizer.param_groups:
            group["lr"] = plan.rate * group["share"] * _share_of_rate(progress)
        normed = adapter(torch.from_numpy(collection.states(layer, chosen)))
        verdicts = collection.verdicts(chosen)
        loss = divergence(
            functional.linear(normed, matrix),
            places[torch.from_numpy(verdicts.token.astype(np.int64))],
            torch.from_numpy(verdicts.log_probability.copy()),
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(adapter.parameters(), _CLIP)
        optimizer.step()
        step += 1
        if step % _SAVE_EVERY == 0:
            _save(checkpoint, adapter, optimizer, step, monotonic() - started)
        report(step, plan.steps, float(loss.detach()))
    _save(checkpoint, adapter, optimizer, step, monotonic() - started)
    return adapter.weights()


def divergence(logits: Tensor, places: Tensor, log_probability: Tensor) -> Tensor:
    """Return the mean KL divergence of a shortlist's distribution from the full depth's.

    Tokens that the full depth's verdict does not name, or that the shortlist lacks, are one
    remainder: so an exit learns to be less sure where the right token is out of its reach.

    Args:
        logits: (n, shortlist).
        places: (n, k) where the full depth's likeliest tokens stand in the shortlist; -1: nowhere.
        log_probability: (n, k) of these tokens.
    """
    known = places >= 0
    mine = logits.gather(1, places.clamp(min=0)) - logits.logsumexp(1, keepdim=True)
    log_p = torch.where(known, log_probability, -torch.inf)
    p = log_p.exp()
    q = torch.where(known, mine.exp(), 0)
    terms = torch.where(p > 0, p * (log_p.clamp(min=-80) - mine), 0).sum(1)
    p_rest = (1 - p.sum(1)).clamp(min=_SMALLEST)
    q_rest = (1 - q.sum(1)).clamp(min=_SMALLEST)
    return (terms + p_rest * (p_rest.log() - q_rest.log())).mean()


def _progress(plan: Distillation, step: int, spent_s: float) -> float:
    by_time = spent_s / (60 * plan.minutes) if plan.minutes else 0.0
    return max(step / plan.steps, by_time)


def _share_of_rate(progress: float) -> float:
    """Warm up, then fall along a cosine to nothing."""
    if progress < _WARM_UP:
        return (progress + 1e-3) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _save(
    path: Path, adapter: Adapter, optimizer: torch.optim.Optimizer, step: int, spent_s: float
) -> None:
    state: dict[str, Any] = {
        "adapter": adapter.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "spent_s": spent_s,
    }
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
