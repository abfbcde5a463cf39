"""λ corrected while it is used: what the whole model says of an exit's tokens comes for free."""

from __future__ import annotations

import math
import threading

from updraft.models.manifest import Guarantee

# η, which is nearly what a wrong token adds to the log-odds of λ. At a fifth of a unit and more,
# the errors that were promised anyway, which come in bursts, keep λ high and cost speed.
STEP = 0.1
# Log-odds of λ from which nothing is committed, however sure the exit is.
CEILING = 9.0


class OnlineLambda:
    """The λ that mode `bounded` commits with; all generations under one guarantee may share it.

    Every draft that the certified λ would commit teaches, once the whole model has judged it:
    in log-odds, λ ← max(certified λ, λ + η(wrong − ε)). So λ rises while more than ε of these
    drafts are wrong, whatever the text has drifted to, and comes back when they are right again;
    never below the certified λ, which alone was tested. Without labels, as in an outage, it stays.

    Law: whatever the text and the labels do, of n such drafts at most
    ε·n + (CEILING − log-odds of the certified λ) / η + m·(1 − ε) are committed and wrong, where m
    is the most tokens that were committed and not judged yet at any time.

    Attributes:
        judged: drafts that the certified λ would commit, judged so far.
        wrong: those of them on which the whole model said another token; wrong / judged is what
            the certified λ alone would have risked on the texts so far.
    """

    def __init__(self, guarantee: Guarantee) -> None:
        self.guarantee = guarantee
        self.judged = 0
        self.wrong = 0
        self._certified = math.log(guarantee.commit_from / (1 - guarantee.commit_from))
        self._log_odds = self._certified
        self._lock = threading.Lock()

    @property
    def commit_from(self) -> float:
        """The confidence from which a token is committed now; infinite where none is."""
        if self._log_odds >= CEILING:
            return math.inf
        # Not computed where it was not raised: rounding must not make it laxer.
        if self._log_odds == self._certified:
            return self.guarantee.commit_from
        return max(self.guarantee.commit_from, 1 / (1 + math.exp(-self._log_odds)))

    def learn(self, confidence: float, *, committed: bool, wrong: bool) -> None:
        """Take the whole model's verdict on a draft, committed or not.

        Args:
            confidence: of the exit in its draft.
            wrong: the whole model says another token after the same prefix.
        """
        if not confidence >= self.guarantee.commit_from:
            return
        with self._lock:
            self.judged += 1
            self.wrong += wrong
            if wrong and not committed and self._log_odds >= CEILING:
                return  # nothing was risked, so nothing is added up that would take long to fade
            step = STEP * (wrong - self.guarantee.epsilon)
            self._log_odds = max(self._certified, self._log_odds + step)
