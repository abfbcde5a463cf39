"""A contiguous slice of layers, and one sequence's KV cache in it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.manifest import PartitionEntry
from updraft.models.memory import zeros
from updraft.models.runtime import RuntimeOptions, as_value, load_session

if TYPE_CHECKING:
    import onnxruntime

# What keys and values are kept in, by the name of the manifest.
CACHE_TYPES: dict[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "int8": np.dtype(np.int8)}

States = NDArray[np.float32]
Inputs = NDArray[np.float32] | NDArray[np.int64]


class Partition:
    """A loaded partition; any number of sequences may run through it, each with its own cache."""

    def __init__(self, bundle: Bundle, entry: PartitionEntry, options: RuntimeOptions) -> None:
        self.entry = entry
        self.options = options
        self.path = bundle.path(entry.file)
        self.shape = bundle.manifest.architecture
        self.cache_type = CACHE_TYPES[bundle.manifest.quantization.kv]
        self.session = load_session(self.path, options)

    @property
    def takes_tokens(self) -> bool:
        return self.entry.first == 0

    @property
    def cache_bytes(self) -> int:
        """Memory of one sequence's KV cache."""
        values = 2 * (self.entry.last - self.entry.first) * self.shape.kv_width
        return values * self.shape.context_length * self.cache_type.itemsize

    def new_cache(self) -> PartitionCache:
        """Start a sequence."""
        return PartitionCache(self)


class PartitionCache:
    """One sequence in one partition: preallocated keys and values, written in place.

    Past and present are bound to the same memory, so nothing grows and nothing is copied. The
    step of one token has its binding made once; longer chunks are bound when they come.

    Attributes:
        length: positions done.
        busy_s: seconds spent inside the runtime so far.
        values: what attention reads and writes, by name: `key_<layer>` and `value_<layer>`, each
            (1, kv_heads, context_length, head_width), `seqlens_k` (1,) and `total_length` ().
    """

    def __init__(self, partition: Partition) -> None:
        self.length = 0
        self.busy_s = 0.0
        self._partition = partition
        shape, entry = partition.shape, partition.entry
        self._seqlens_k = np.zeros(1, np.int32)
        self._total_length = np.zeros((), np.int32)
        layers = range(entry.first, entry.last)
        memory = zeros(
            (len(layers), 2, 1, shape.kv_heads, shape.context_length, shape.head_width),
            partition.cache_type,
        )
        self._memory = memory
        arrays: dict[str, NDArray[Any]] = {
            "seqlens_k": self._seqlens_k,
            "total_length": self._total_length,
        }
        for layer, (key, value) in zip(layers, memory, strict=True):
            arrays |= {f"key_{layer}": key, f"value_{layer}": value}
        self.values = {name: as_value(array) for name, array in arrays.items()}
        self._step_in: Inputs = (
            np.zeros((1, 1), np.int64)
            if partition.takes_tokens
            else np.zeros((1, 1, shape.width), np.float32)
        )
        self._step_out = np.zeros((1, 1, shape.width), np.float32)

    def run(self, inputs: Inputs, out: States) -> None:
        """Process the next positions.

        Args:
            inputs: (n,) token ids for the first partition, else (n, width) states.
            out: (n, width), receives the states after the last layer.
        """
        count = len(inputs)
        self.begin(count)
        started = perf_counter()
        if count == 1:
            self._step_in[0] = inputs
            self._partition.session.run_with_iobinding(self._step)
            out[:] = self._step_out[0]
        else:
            self._place(self._chunk, inputs[None], out[None])
            self._partition.session.run_with_iobinding(self._chunk)
        self.end(count, perf_counter() - started)

    def begin(self, count: int) -> None:
        """Tell the attention nodes that the next `count` positions are about to run."""
        self._seqlens_k[0] = self.length + count - 1
        self._total_length[()] = self.length + count

    def end(self, count: int, busy_s: float) -> None:
        """Count positions as done, and the seconds that they took."""
        self.length += count
        self.busy_s += busy_s

    def cut(self, length: int) -> NDArray[Any]:
        """Forget the positions from `length` on and return their keys and values."""
        tail: NDArray[Any] = self._memory[..., length : self.length, :].copy()
        self.length = min(self.length, length)
        return tail

    def paste(self, tail: NDArray[Any]) -> None:
        """Go on with positions that were cut from this place."""
        count = tail.shape[-2]
        self._memory[..., self.length : self.length + count, :] = tail
        self.length += count

    def copy_to(self, other: PartitionCache, length: int) -> None:
        """Give an empty cache the keys and values of the first positions that are done."""
        count = min(length, self.length)
        other._memory[..., :count, :] = self._memory[..., :count, :]
        other.length = count

    def keys_and_values(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield what is kept of the positions done, by name: (kv_heads, length, head_width)."""
        layers = range(self._partition.entry.first, self._partition.entry.last)
        for layer, pair in zip(layers, self._memory, strict=True):
            for which, kept in zip(("key", "value"), pair, strict=True):
                yield f"{which}_{layer}", kept[0, :, : self.length]

    @cached_property
    def _step(self) -> onnxruntime.IOBinding:
        return self._place(self._bind(), self._step_in, self._step_out)

    @cached_property
    def _chunk(self) -> onnxruntime.IOBinding:
        return self._bind()

    def _bind(self) -> onnxruntime.IOBinding:
        binding = self._partition.session.io_binding()
        for name, value in self.values.items():
            if name in ("seqlens_k", "total_length"):
                binding.bind_ortvalue_input(name, value)
            else:
                binding.bind_ortvalue_input(f"past_{name}", value)
                binding.bind_ortvalue_output(f"present_{name}", value)
        return binding

    def _place(
        self, binding: onnxruntime.IOBinding, inputs: Inputs, out: States
    ) -> onnxruntime.IOBinding:
        name = "tokens" if self._partition.takes_tokens else "state_in"
        binding.bind_ortvalue_input(name, as_value(inputs))
        binding.bind_ortvalue_output("state_out", as_value(out))
        return binding
