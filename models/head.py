"""Exit heads: where a state becomes a token and a confidence."""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.calibration import confidence_of
from updraft.models.partition import States
from updraft.models.runtime import RuntimeOptions, load_session
from updraft.models.sampling import Sampling


class Candidate(NamedTuple):
    """A token that an exit proposes, and how much the exit is to be trusted with it."""

    token: int
    confidence: float


class Predictions(NamedTuple):
    """What a head says of many states at once: (n, vocabulary), (n,), (n,)."""

    logits: NDArray[np.float32]
    token: NDArray[np.int64]
    probability: NDArray[np.float32]


class Heads:
    """The loaded exit heads of a bundle; graphs that several exits share are loaded once."""

    def __init__(self, bundle: Bundle, layers: list[int], options: RuntimeOptions) -> None:
        self.vocabulary_size = bundle.manifest.architecture.vocabulary_size
        self.width = bundle.manifest.architecture.width
        self.entries = {e.layer: e for e in bundle.manifest.exits if e.layer in layers}
        files = {entry.head for entry in self.entries.values()}
        self.sessions = {file: load_session(bundle.path(file), options) for file in files}

    def predict(self, layer: int, states: States) -> Predictions:
        """Evaluate an exit on many states, shape (n, width)."""
        entry = self.entries[layer]
        outputs = self.sessions[entry.head].run(
            ["logits", "token", "probability"],
            {"state": states, "exit": np.array(entry.index, np.int64)},
        )
        return Predictions(*outputs)


class HeadStep:
    """One sequence's evaluations of single states, bound once to memory of its own.

    Attributes:
        busy_s: seconds spent inside the runtime so far.
    """

    def __init__(self, heads: Heads) -> None:
        self.busy_s = 0.0
        self._heads = heads
        self._exit = np.zeros((), np.int64)
        self._state = np.zeros((1, heads.width), np.float32)
        self._logits = np.zeros((1, heads.vocabulary_size), np.float32)
        self._token = np.zeros(1, np.int64)
        self._probability = np.zeros(1, np.float32)
        self._bindings = {}
        for file, session in heads.sessions.items():
            binding = session.io_binding()
            inputs: dict[str, NDArray[Any]] = {"state": self._state, "exit": self._exit}
            for name, array in inputs.items():
                binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            outputs: dict[str, NDArray[Any]] = {
                "logits": self._logits,
                "token": self._token,
                "probability": self._probability,
            }
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
            self._bindings[file] = binding

    def look(self, layer: int, state: States) -> float:
        """Evaluate an exit on a state (width,) and return its confidence."""
        entry = self._heads.entries[layer]
        self._state[0] = state
        self._exit[()] = entry.index
        started = perf_counter()
        self._heads.sessions[entry.head].run_with_iobinding(self._bindings[entry.head])
        self.busy_s += perf_counter() - started
        return float(confidence_of(entry, self._probability[0]))

    @property
    def probability(self) -> float:
        """The probability of the best token at the exit that was looked at last."""
        return float(self._probability[0])

    @property
    def logits(self) -> NDArray[np.float32]:
        """The logits (vocabulary,) of the exit that was looked at last; overwritten by the next."""
        logits: NDArray[np.float32] = self._logits[0]
        return logits

    def pick(self, sampling: Sampling, position: int) -> int:
        """Choose the token at `position` by the exit that was looked at last."""
        return int(self._token[0]) if sampling.greedy else sampling.pick(self._logits[0], position)
