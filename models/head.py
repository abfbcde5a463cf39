"""Exit heads: where a state becomes a token and a confidence."""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.calibration import confidence_of
from updraft.models.partition import States
from updraft.models.runtime import RuntimeOptions, as_value, load_session
from updraft.models.sampling import Sampling


class Candidate(NamedTuple):
    """A token that an exit proposes, and how much the exit is to be trusted with it."""

    token: int
    confidence: float


class Predictions(NamedTuple):
    """What a head says of many states at once: (n, vocabulary), (n,), (n,).

    Attributes:
        logits: minus infinity for tokens that the head does not choose among.
    """

    logits: NDArray[np.float32]
    token: NDArray[np.int64]
    probability: NDArray[np.float32]


class Heads:
    """The loaded exit heads of a bundle; graphs that several exits share are loaded once.

    Attributes:
        shortlists: the tokens that a head's logits stand for, by the head's file, where they are
            not the whole vocabulary.
    """

    def __init__(self, bundle: Bundle, layers: list[int], options: RuntimeOptions) -> None:
        self.vocabulary_size = bundle.manifest.architecture.vocabulary_size
        self.width = bundle.manifest.architecture.width
        self.entries = {e.layer: e for e in bundle.manifest.exits if e.layer in layers}
        self.shortlists = {
            entry.head: np.fromfile(bundle.path(entry.shortlist), "<i4").astype(np.int64)
            for entry in self.entries.values()
            if entry.shortlist is not None
        }
        files = {entry.head for entry in self.entries.values()}
        self.sessions = {file: load_session(bundle.path(file), options) for file in files}

    def predict(self, layer: int, states: States) -> Predictions:
        """Evaluate an exit on many states, shape (n, width)."""
        entry = self.entries[layer]
        inputs = {"state": states, "exit": np.array(entry.index, np.int64)}
        (logits,) = self.sessions[entry.head].run(["logits"], inputs)
        token = logits.argmax(axis=1)
        best = np.take_along_axis(logits, token[:, None], axis=1)
        probability = _probability(logits, best, np.empty_like(logits))
        if (shortlist := self.shortlists.get(entry.head)) is not None:
            token = shortlist[token]
            known, logits = logits, _unknown((len(states), self.vocabulary_size))
            logits[:, shortlist] = known
        return Predictions(logits, token, probability)


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
        self._bound: dict[str, _Bound] = {}
        self._last: _Bound | None = None

    def look(self, layer: int, state: States) -> float:
        """Evaluate an exit on a state (width,) and return its confidence."""
        entry = self._heads.entries[layer]
        head = self._bound.get(entry.head)
        if head is None:
            head = self._bound[entry.head] = _Bound(
                self._heads, entry.head, self._state, self._exit
            )
        self._state[0] = state
        self._exit[()] = entry.index
        started = perf_counter()
        head.run()
        self.busy_s += perf_counter() - started
        self._last = head
        return float(confidence_of(entry, head.probability))

    @property
    def probability(self) -> float:
        """The probability of the best token at the exit that was looked at last."""
        return float(self._seen.probability)

    @property
    def logits(self) -> NDArray[np.float32]:
        """The logits (vocabulary,) of the exit that was looked at last; overwritten by the next.

        Tokens that the exit does not choose among have minus infinity.
        """
        return self._seen.logits

    def pick(self, sampling: Sampling, position: int) -> int:
        """Choose the token at `position` by the exit that was looked at last."""
        return self._seen.token if sampling.greedy else sampling.pick(self.logits, position)

    @property
    def _seen(self) -> _Bound:
        assert self._last is not None, "no exit was looked at"
        return self._last


class _Bound:
    """A head's graph, bound to memory that one state and its logits are kept in.

    Attributes:
        token: the best one after the last run.
        probability: of that token, among those that the head chooses from.
    """

    def __init__(
        self, heads: Heads, file: str, state: NDArray[np.float32], exit_: NDArray[np.int64]
    ) -> None:
        self.token = 0
        self.probability = np.float32(0)
        self._session = heads.sessions[file]
        self._shortlist = heads.shortlists.get(file)
        size = heads.vocabulary_size if self._shortlist is None else len(self._shortlist)
        self._known = np.zeros((1, size), np.float32)
        self._odds = np.zeros(size, np.float32)
        self._whole = self._known[0]
        if self._shortlist is not None:
            self._whole = _unknown((heads.vocabulary_size,))
        self._binding = self._session.io_binding()
        arrays: dict[str, NDArray[Any]] = {"state": state, "exit": exit_}
        for name, array in arrays.items():
            self._binding.bind_ortvalue_input(name, as_value(array))
        self._binding.bind_ortvalue_output("logits", as_value(self._known))

    def run(self) -> None:
        """Evaluate the state that lies in the memory."""
        self._session.run_with_iobinding(self._binding)
        logits = self._known[0]
        best = logits.argmax()
        self.probability = _probability(logits, logits[best], self._odds)
        self.token = int(best if self._shortlist is None else self._shortlist[best])

    @property
    def logits(self) -> NDArray[np.float32]:
        """Of the whole vocabulary."""
        if self._shortlist is not None:
            self._whole[self._shortlist] = self._known[0]
        return self._whole


def _probability(
    logits: NDArray[np.float32],
    best: NDArray[np.float32] | np.float32,
    odds: NDArray[np.float32],
) -> Any:
    """Return the probability of the best token: 1 / Σ exp(logit - best logit).

    Not in the graph, where it takes twice as long for large vocabularies.

    Args:
        odds: as large as the logits, and overwritten.
    """
    np.subtract(logits, best, out=odds)
    np.exp(odds, out=odds)
    return 1 / odds.sum(axis=-1)


def _unknown(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.full(shape, -np.inf, np.float32)
