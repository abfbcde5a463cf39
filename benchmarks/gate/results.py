"""What the benchmark of the gate measures, row by row, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.models.card import Table

MOST_REGRET = 0.01


@dataclass(frozen=True)
class Row:
    """One selection: mean true quality of the answers on held-out prompts, by who routes.

    Attributes:
        restricted: the gate trained once over all experts, masked.
        retrained: a gate trained for this selection alone in the same way.
        rewarded: a softmax gate with the same head, trained to earn the most from this selection.
        tuned: the same, but as a correction of the restricted gate.
        oracle: who knows the true probabilities.
        single: the best single expert of the selection, sent everything.
        seconds: what training `retrained`, `rewarded` and `tuned` took.
    """

    setting: str
    seed: int
    selected: tuple[int, ...]
    restricted: float
    retrained: float
    rewarded: float
    tuned: float
    oracle: float
    single: float
    seconds: float

    @property
    def regret(self) -> float:
        """Share that the restricted gate loses to the best of all four gates."""
        best = max(self.restricted, self.retrained, self.rewarded, self.tuned)
        return 1 - self.restricted / best

    @property
    def headroom(self) -> float:
        """How far the restricted gate comes from the best single expert (0) to the oracle (1)."""
        return (self.restricted - self.single) / (self.oracle - self.single)


@dataclass(frozen=True)
class Trained:
    """The gate that is trained once, on held-out prompts.

    Attributes:
        ece, log_loss: means over the experts.
        delta: mean over prompts of the largest error of a probability; twice it bounds the
            expected loss against the oracle.
    """

    setting: str
    seed: int
    ece: float
    log_loss: float
    delta: float
    seconds: float


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.setting for row in rows))


def _lost(rows: Sequence[Row], rival: str) -> NDArray[np.float64]:
    """Return what share the restricted gate loses to a rival; negative where it is better."""
    return np.array([1 - row.restricted / getattr(row, rival) for row in rows])


def failures_of(rows: Sequence[Row]) -> list[str]:
    """Return where the restricted gate loses more than it may."""
    failures = [
        f"gate: {row.setting}, seed {row.seed}, experts {row.selected}: {lost:.2%} below the gate "
        "retrained in the same way"
        for row, lost in zip(rows, _lost(rows, "retrained"), strict=True)
        if lost > MOST_REGRET
    ]
    for name in _names(rows):
        regret = np.mean([row.regret for row in rows if row.setting == name])
        if regret > MOST_REGRET:
            failures.append(f"gate: {name}: mean regret {regret:.2%}")
    return failures


def regret_table(rows: Sequence[Row]) -> Table:
    """Show what one gate loses against gates that were trained for one selection."""

    def cells(name: str) -> tuple[str, ...]:
        mine = [row for row in rows if row.setting == name]
        regrets = np.array([row.regret for row in mine])
        losses = [_lost(mine, rival) for rival in ("retrained", "rewarded", "tuned")]
        return (
            name,
            *(f"{lost.mean():.2%} / {lost.max():.2%}" for lost in losses),
            f"{regrets.mean():.2%} / {regrets.max():.2%}",
            f"{np.quantile(regrets, 0.95):.2%}",
            f"{(regrets > MOST_REGRET).sum()} of {len(mine)}",
        )

    return Table(
        "One gate, restricted by masking, against gates trained for each selection",
        (
            "loss, mean / worst",
            "to retrained",
            "to rewarded",
            "to tuned",
            "to the best of all (regret)",
            "95% of regrets up to",
            "above 1%",
        ),
        [cells(name) for name in _names(rows)],
        f"{len({row.seed for row in rows})} seeds, every selection of two experts or more, "
        "held-out prompts valued by the true probabilities. Negative: one gate for all is better. "
        "Retrained: in the same way, on the selection's experts alone. Rewarded: a softmax gate "
        "with the same head that maximises the reward. Tuned: the same, starting from the "
        "restricted gate. These two learn from all training prompts; those that learn "
        "probabilities set a fifth aside to calibrate. Regret is against the best of all four, "
        "chosen after the fact.",
    )


def gate_table(rows: Sequence[Row], trained: Sequence[Trained]) -> Table:
    """Show what the gate knows, and what training it took."""
    most = max(len(row.selected) for row in rows)

    def cells(name: str) -> tuple[str, ...]:
        gates = [gate for gate in trained if gate.setting == name]
        mine = [row for row in rows if row.setting == name]
        whole = [row.headroom for row in mine if len(row.selected) == most]
        return (
            name,
            f"{np.mean([gate.ece for gate in gates]):.3f}",
            f"{np.mean([gate.log_loss for gate in gates]):.3f}",
            f"{np.mean([gate.delta for gate in gates]):.3f}",
            f"{np.mean(whole):.0%}",
            f"{np.mean([gate.seconds for gate in gates]):.2f}",
            f"{sum(row.seconds for row in mine) / len(gates):.1f}",
        )

    return Table(
        "The gate that is trained once",
        (
            "what it sees",
            "ECE",
            "log loss",
            "δ",
            "headroom won",
            "training s",
            "all retraining s",
        ),
        [cells(name) for name in _names(rows)],
        "Held-out, means over seeds. δ: mean over prompts of the largest error of the experts' "
        "probabilities. Headroom: from the best single expert (0%) to knowing the truth (100%).",
    )
