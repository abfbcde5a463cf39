"""A contiguous slice of layers, and one sequence's KV cache in it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import Bundle
from updraft.models.manifest import PartitionEntry
from updraft.models.memory import zeros
from updraft.models.runtime import RuntimeOptions, load_session

if TYPE_CHECKING:
    import onnxruntime

States = NDArray[np.float32]
Inputs = NDArray[np.float32] | NDArray[np.int64]


class Partition:
    """A loaded partition; any number of sequences may run through it, each with its own cache."""

    def __init__(self, bundle: Bundle, entry: PartitionEntry, options: RuntimeOptions) -> None:
        self.entry = entry
        self.shape = bundle.manifest.architecture
        self.session = load_session(bundle.path(entry.file), options)

    @property
    def takes_tokens(self) -> bool:
        return self.entry.first == 0

    @property
    def cache_bytes(self) -> int:
        """Memory of one sequence's KV cache."""
        shape, layers = self.shape, self.entry.last - self.entry.first
        return layers * 2 * shape.kv_heads * shape.context_length * shape.head_width * 4

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
    """

    def __init__(self, partition: Partition) -> None:
        self.length = 0
        self.busy_s = 0.0
        self._partition = partition
        shape, entry = partition.shape, partition.entry
        layers = range(entry.first, entry.last)
        cache_shape = (1, shape.kv_heads, shape.context_length, shape.head_width)
        self._cache = {
            f"{which}_{layer}": zeros(cache_shape, np.float32)
            for layer in layers
            for which in ("key", "value")
        }
        self._input_name = "tokens" if partition.takes_tokens else "state_in"
        self._seqlens_k = np.zeros(1, np.int32)
        self._total_length = np.zeros((), np.int32)
        self._step_in: Inputs = (
            np.zeros((1, 1), np.int64)
            if partition.takes_tokens
            else np.zeros((1, 1, shape.width), np.float32)
        )
        self._step_out = np.zeros((1, 1, shape.width), np.float32)
        self._step = self._bind(self._step_in, self._step_out)

    def run(self, inputs: Inputs, out: States) -> None:
        """Process the next positions.

        Args:
            inputs: (n,) token ids for the first partition, else (n, width) states.
            out: (n, width), receives the states after the last layer.
        """
        count = len(inputs)
        self._seqlens_k[0] = self.length + count - 1
        self._total_length[()] = self.length + count
        if count == 1:
            self._step_in[0] = inputs
            self._run(self._step)
            out[:] = self._step_out[0]
        else:
            self._run(self._bind(inputs[None], out[None]))
        self.length += count

    def _run(self, binding: onnxruntime.IOBinding) -> None:
        started = perf_counter()
        self._partition.session.run_with_iobinding(binding)
        self.busy_s += perf_counter() - started

    def _bind(self, inputs: Inputs, out: States) -> onnxruntime.IOBinding:
        binding = self._partition.session.io_binding()
        for name, array in (
            (self._input_name, inputs),
            ("seqlens_k", self._seqlens_k),
            ("total_length", self._total_length),
            *((f"past_{name}", array) for name, array in self._cache.items()),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in (
            ("state_out", out),
            *((f"present_{name}", array) for name, array in self._cache.items()),
        ):
            binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        return binding
