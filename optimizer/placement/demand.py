"""What the traffic asks of the nodes, as arrays: the problem that planning solves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Demand:
    """N nodes, and P groups of prompts that come at some rate.

    Attributes:
        rate: (P,), prompts per second.
        quality: (N, P), expected of an answer; 0 where the node is too slow or cannot serve.
        worth: (N, P), quality and what an answer is worth by itself; 0 where it cannot serve.
        joules, seconds: (N, P), of one answer.
        room: (N,), how many seconds of answers a node may work on per second.
        standby: (N,), watts.
        power: what all may draw together, standby and answers, in watts.
        copies: (N,), how many nodes each stands for.
    """

    rate: Array
    quality: Array
    worth: Array
    joules: Array
    seconds: Array
    room: Array
    standby: Array
    power: float
    copies: Array

    @cached_property
    def work(self) -> Array:
        """(N, P), how much of a node's time a whole group takes."""
        return np.asarray(self.rate * self.seconds)

    @cached_property
    def load_w(self) -> Array:
        """(N, P), watts that answering a whole group takes."""
        return np.asarray(self.rate * self.joules)

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.room)

    def among(self, nodes: Indices, copies: Array | None = None) -> Demand:
        """Return the same demand on some of the nodes."""
        return replace(
            self,
            quality=self.quality[nodes],
            worth=self.worth[nodes],
            joules=self.joules[nodes],
            seconds=self.seconds[nodes],
            room=self.room[nodes],
            standby=self.standby[nodes],
            copies=np.ones(len(nodes)) if copies is None else copies,
        )
