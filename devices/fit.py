"""Whether a model fits into the memory that is free, asked before anything of it is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from updraft.devices.workload import Piece, Workload
from updraft.errors import BundleError

# Measured with the model's own memory taken off: a whole agent, and what one that runs takes on
# while it loads: the runtime's libraries and its threads.
RUNTIME_BYTES = 124 << 20
STARTED_BYTES = 40 << 20
_MB = 1e6


@dataclass(frozen=True)
class Need:
    """Memory that running a model takes at most, in bytes.

    Attributes:
        weights: as the runtime holds them, not as files do.
        kv: keys, values and states of all contexts, filled to the last position.
        runtime: the process without the weights, its tokenizer, and the activations of a prompt.
        kept: contexts of texts that have ended.
    """

    weights: int
    kv: int
    runtime: int
    kept: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.kv + self.runtime + self.kept


@dataclass(frozen=True)
class Load:
    """What is about to be loaded.

    Attributes:
        contexts: texts at one time; memory is counted for each at its full length.
        top: layers that are loaded; None: all.
        copies: how often the weights of the layers are loaded.
        runtime_bytes: of the process, without the model.
        contexts_key: the setting that says how many contexts there are, if one does.
        kv_limit_mib: what the contexts may take together; None: no limit.
        kv_limit_key: the setting that says so.
        kept_mib: for contexts of texts that have ended, which later texts may share.
        kept_key: the setting that says so.
    """

    workload: Workload
    contexts: int
    top: int | None = None
    copies: int = 1
    runtime_bytes: int = STARTED_BYTES
    contexts_key: str | None = None
    kv_limit_mib: int | None = None
    kv_limit_key: str | None = None
    kept_mib: int = 0
    kept_key: str | None = None

    @property
    def context_bytes(self) -> int:
        """One text at its full length: keys and values, and a state before and after partitions."""
        workload = self.workload
        kv_bytes = sum(piece.kv_bytes_per_position for piece in self._pieces)
        state_bytes = max(workload.state_bytes.values(), default=0)
        position = kv_bytes + int((len(self._pieces) + 1) * state_bytes)
        return workload.context_length * position + workload.text_bytes

    @property
    def need(self) -> Need:
        """Return the memory that it takes."""
        layers = sum(piece.weight_bytes + piece.kept_bytes for piece in self._pieces)
        head = self.workload.head.weight_bytes + self.workload.head.kept_bytes
        kv = self.contexts * self.context_bytes
        if self.kv_limit_mib is not None:
            kv = min(kv, max(self.kv_limit_mib << 20, self.context_bytes))
        workload = self.workload
        runtime = self.runtime_bytes + workload.chunk_bytes + workload.tokenizer_bytes
        return Need(self.copies * layers + head, kv, runtime, self.kept_mib << 20)

    @property
    def _pieces(self) -> list[Piece]:
        return [p for p in self.workload.partitions if self.top is None or p.last_layer <= self.top]


def memory_needed(
    workload: Workload, contexts: int, runtime_bytes: int = RUNTIME_BYTES, top: int | None = None
) -> Need:
    """Return the memory that a workload takes with `contexts` texts at one time, at full length.

    Args:
        runtime_bytes: of the process, without the model.
        top: layers that are loaded; by default all.
    """
    return Load(workload, contexts, top, runtime_bytes=runtime_bytes).need


def check(load: Load, free: int, free_is: str = "free") -> Need:
    """Refuse a model that will not fit, before anything of it is loaded.

    Args:
        free: bytes that the process can still take.
        free_is: what they are, for people.

    Returns:
        What it needs.

    Raises:
        BundleError: with what it needs, what is free, and the largest context or, where none
            would do, the largest weights that would fit.
    """
    need = load.need
    if need.total <= free:
        return need
    kept = f", ended texts {_show(need.kept)}" if need.kept else ""
    texts = f"{_texts(load.contexts)} of {load.workload.context_length} positions"
    raise BundleError(
        f"bundle {load.workload.name!r} does not fit into memory: it needs {_show(need.total)} "
        f"(weights {_show(need.weights)}, {texts} {_show(need.kv)}, runtime "
        f"{_show(need.runtime)}{kept}) and {_show(max(0, free))} are {free_is}; "
        + _remedy(load, need, free)
    )


def _remedy(load: Load, need: Need, free: int) -> str:
    """Say what would fit: fewer texts, else shorter ones, else other weights."""
    if load.kept_key is not None and need.total - need.kept <= free:
        spare_mib = free - need.total + need.kept >> 20
        return f"it fits with less for texts that ended: set {load.kept_key} = {spare_mib}"
    left = free - need.weights - need.runtime - need.kept
    settings = []
    if (contexts := left // load.context_bytes) >= 1:
        if load.contexts_key is not None:
            settings.append(f"{load.contexts_key} = {contexts}")
        if load.kv_limit_key is not None:
            settings.append(f"{load.kv_limit_key} = {left >> 20}")
    if settings:
        return (
            f"there is room for {_texts(contexts)} of this length: set {' or '.join(settings)}, "
            "or free memory"
        )
    least = 1 if load.contexts_key or load.kv_limit_key else load.contexts
    positions = max(0, left) * load.workload.context_length // (least * load.context_bytes)
    if positions >= 1:
        return (
            f"there is room for {_texts(least)} of at most {positions} positions: build the bundle "
            "with a shorter context, or free memory"
        )
    most = max(0, free - need.runtime - load.context_bytes - need.kept)
    return (
        f"beside one text there is room for weights of {_show(most)}: choose a smaller bundle, or "
        "free memory"
    )


def _texts(count: int) -> str:
    return f"{count} text{'' if count == 1 else 's'}"


def _show(count: float) -> str:
    return f"{count / _MB:,.0f} MB"
