"""Exit policies: what each mode does with an exit's confidence."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Decision(Enum):
    """What happens to a token after an exit."""

    CONTINUE = "continue"
    EXIT = "exit"
    STOP = "stop"


class ExitPolicy(Protocol):
    """Decides at each exit on the edge whether its token is taken.

    Attributes:
        looks: whether exits are evaluated at all; a head costs as much as a layer.
    """

    looks: bool

    def decide(self, confidence: float, is_last: bool) -> Decision:
        """Decide on a candidate; `is_last` marks the exit at the split."""


class NeverExit:
    """Every token goes through all layers (`full`)."""

    looks = False

    def decide(self, confidence: float, is_last: bool) -> Decision:
        return Decision.CONTINUE


class ThresholdExit:
    """A token leaves at the first exit whose confidence reaches theta (CE-CoLLM)."""

    def __init__(self, theta: float) -> None:
        self.looks = theta <= 1
        self._theta = theta

    def decide(self, confidence: float, is_last: bool) -> Decision:
        return Decision.EXIT if confidence >= self._theta else Decision.CONTINUE


class StandaloneExit(ThresholdExit):
    """As `ThresholdExit`, but the last exit on the edge takes whatever comes."""

    def __init__(self, theta: float) -> None:
        super().__init__(theta)
        self.looks = True

    def decide(self, confidence: float, is_last: bool) -> Decision:
        return Decision.EXIT if is_last else super().decide(confidence, is_last)
