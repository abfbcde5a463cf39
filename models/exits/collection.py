"""What a frozen model says of a text, kept on disk: states at exits, and the full depth's verdict.

States are stored scaled to unit root mean square, as every head scales them first: fp16 then
holds them without overflow, however large a channel is. Of the full depth's distribution the
likeliest tokens and the logarithm of the whole sum are kept; the rest is one number, their joint
remainder. At 0.5B shape that is 2 kB per token and exit instead of 600 kB.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import RequestError
from updraft.models.bundle import Bundle
from updraft.models.exits.passages import Windows
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

# Tokens kept of the full depth's distribution: on text, all but some thousandths of it.
TOP_TOKENS = 32
# Rows per call of the head: their logits must fit into memory, 78 MB at 152k tokens.
_ROWS = 128
_PLAN, _DONE = "plan.json", "done"


@dataclass(frozen=True)
class Verdicts:
    """What the full depth says after some positions.

    Attributes:
        token: (n, k) its likeliest tokens, the best first.
        log_probability: (n, k) of these.
    """

    token: NDArray[np.int32]
    log_probability: NDArray[np.float32]


class Collection:
    """States and verdicts of some windows, memory-mapped from a work folder.

    Attributes:
        positions: positions collected; every position of every window is one.
    """

    def __init__(self, folder: Path, plan: CollectionPlan, windows: int) -> None:
        self.positions = windows * plan.length
        self._length = plan.length
        self._states = {
            layer: _map(folder / f"states-{layer}.f16", (self.positions, plan.width), np.float16)
            for layer in plan.exits
        }
        shape = (self.positions, plan.top_tokens)
        self._token = _map(folder / "verdict-tokens.i32", shape, np.int32)
        self._log = _map(folder / "verdict-log-probabilities.f32", shape, np.float32)

    def states(self, layer: int, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Return the states (n, width) after `layer` at some positions, of unit size."""
        states: NDArray[np.float32] = self._states[layer][rows].astype(np.float32)
        return states

    def verdicts(self, rows: NDArray[np.int64] | slice) -> Verdicts:
        """Return what the full depth says at some positions."""
        return Verdicts(self._token[rows], self._log[rows])

    def write(self, window: int, states: dict[int, NDArray[Any]], verdicts: Verdicts) -> None:
        """Store what was collected of a window."""
        rows = slice(window * self._length, (window + 1) * self._length)
        for layer, values in states.items():
            self._states[layer][rows] = values
        self._token[rows], self._log[rows] = verdicts.token, verdicts.log_probability


@dataclass(frozen=True)
class CollectionPlan:
    """What a collection in a work folder holds: with another plan it is not continued."""

    fingerprint: str
    text_sha256: str
    exits: list[int]
    width: int
    length: int
    top_tokens: int = TOP_TOKENS


def collect(
    bundle: Bundle,
    windows: Windows,
    text_sha256: str,
    exits: Sequence[int],
    work: Path,
    options: RuntimeOptions,
    report: Report,
) -> Collection:
    """Run windows through a bundle and keep what training needs; goes on where it was stopped.

    Args:
        windows: (windows, length) token ids.
        exits: layers whose states are kept.
        work: folder of the collection.

    Raises:
        RequestError: the folder holds a collection of another bundle, text or plan.
    """
    manifest = bundle.manifest
    length = windows.shape[1]
    width = manifest.architecture.width
    plan = CollectionPlan(bundle.fingerprint, text_sha256, list(exits), width, length)
    _claim(work, plan)
    _check_room(work, plan, len(windows))
    collection = Collection(work, plan, len(windows))
    done_file = work / _DONE
    done = int(done_file.read_text()) if done_file.exists() else 0
    report("collecting", done, len(windows))
    if done == len(windows):
        return collection
    model = Model.load(bundle, range(manifest.architecture.layers), options)
    sequence = model.new_sequence()
    for window in range(done, len(windows)):
        sequence.truncate(0)
        sequence.append(windows[window].astype(np.int64))
        states = {}
        for layer in exits:
            sequence.advance(layer)
            states[layer] = unit(sequence.states(layer, 0, length))
        sequence.advance(model.top)
        verdicts = _judge(model, sequence.states(model.top, 0, length))
        collection.write(window, states, verdicts)
        _write(done_file, str(window + 1))
        report("collecting", window + 1, len(windows))
    return collection


def unit(states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale states (n, width) to unit root mean square."""
    size = np.sqrt(np.mean(np.square(states), axis=1, keepdims=True))
    scaled: NDArray[np.float32] = states / np.maximum(size, np.finfo(np.float32).tiny)
    return scaled


def _judge(model: Model, states: NDArray[np.float32]) -> Verdicts:
    parts = []
    for start in range(0, len(states), _ROWS):
        said = model.heads.predict(model.top, states[start : start + _ROWS])
        logits = said.logits
        count = min(TOP_TOKENS, logits.shape[1])
        top = np.argpartition(logits, -count, axis=1)[:, -count:]
        values = np.take_along_axis(logits, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        # probability = exp(best logit) / Σ exp(logit): the sum need not be formed again.
        log = values - values[:, :1] + np.log(said.probability)[:, None]
        # Fewer tokens than are kept: the missing ones have no probability.
        short = TOP_TOKENS - count
        top = np.pad(top, ((0, 0), (0, short)))
        log = np.pad(log, ((0, 0), (0, short)), constant_values=-np.inf)
        parts.append((top, log))
    tokens, logs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Verdicts(tokens.astype(np.int32), logs.astype(np.float32))


def _claim(work: Path, plan: CollectionPlan) -> None:
    """Make the folder this plan's, or see that it is already."""
    path, wanted = work / _PLAN, asdict(plan)
    try:
        if not path.exists():
            work.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(wanted, indent=2) + "\n")
            return
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError(f"{work}: cannot be used ({error}); give another --work") from error
    if found != wanted:
        odd = ", ".join(
            f"{name} {found.get(name)} there, {value} asked for"
            for name, value in wanted.items()
            if found.get(name) != value
        )
        raise RequestError(
            f"{work}: holds the work of another run ({odd}); remove it or give another --work"
        )


def _check_room(work: Path, plan: CollectionPlan, windows: int) -> None:
    per_position = 2 * plan.width * len(plan.exits) + 8 * plan.top_tokens
    needed = per_position * windows * plan.length
    # What an interrupted run has already claimed is there; files are sparse until written.
    free = shutil.disk_usage(work).free + sum(
        path.stat().st_blocks * 512 for path in work.iterdir() if path.is_file()
    )
    if needed > free:
        raise RequestError(
            f"{work}: {needed / 1e9:.1f} GB are needed for {windows * plan.length} tokens, "
            f"{free / 1e9:.1f} GB are free; give fewer --tokens or another --work"
        )


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _map(path: Path, shape: tuple[int, int], kind: type[np.generic]) -> NDArray[Any]:
    size = shape[0] * shape[1] * np.dtype(kind).itemsize
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            file.truncate(size)
    return np.memmap(path, kind, "r+", shape=shape)
