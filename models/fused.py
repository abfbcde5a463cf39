"""One forward pass over waiting positions of many sequences (Orca's selective batching).

Weights are read once for all rows: norms and matrix products see the rows of all sequences as
one matrix. Only attention runs sequence by sequence, each on its own cache in place.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from functools import lru_cache
from itertools import accumulate, pairwise
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from updraft.models.cut import AttentionNames, Piece, cut_at_attention
from updraft.models.partition import Partition, PartitionCache
from updraft.models.runtime import as_value, load_session
from updraft.models.sequence import Model, Sequence, Stretch

if TYPE_CHECKING:
    import onnxruntime

# Bindings that are kept for the next pass over as many rows.
_KEPT_SIZES, _KEPT_PARTS = 128, 1024


class Fused:
    """Passes of one model over many sequences; one pass at a time."""

    def __init__(self, model: Model) -> None:
        """Load the model's partitions once more, in pieces.

        Raises:
            RuntimeMissing: ONNX Runtime or the asked provider is not there.
            BundleError: the runtime refuses a piece of a graph.
        """
        self._model = model
        self._partitions = [_FusedPartition(partition) for partition in model.partitions]

    def advance(self, chunks: Series[tuple[Sequence, int]]) -> None:
        """Bring the next positions of each sequence past the model's top, in one pass.

        What comes out equals `Sequence.advance` up to rounding, and both may be used in turn.
        The seconds of a pass are shared out by rows.

        Args:
            chunks: different sequences of this model, each with how many of its waiting
                positions are to run.

        Raises:
            ValueError: more positions than wait, a sequence twice, or one of another model.
        """
        stops = [(sequence, self._stop(sequence, count)) for sequence, count in chunks]
        if len({id(sequence) for sequence, _ in chunks}) < len(chunks):
            raise ValueError("a sequence cannot be in one pass twice")
        for index, partition in enumerate(self._partitions):
            stretches = (sequence.stretch(index, stop) for sequence, stop in stops)
            # A partition below the top may have come further already.
            if waiting := [stretch for stretch in stretches if len(stretch.inputs)]:
                partition.run(waiting)

    def _stop(self, sequence: Sequence, count: int) -> int:
        if sequence.model.partitions != self._model.partitions:
            raise ValueError("a sequence of another model cannot join the pass")
        done = sequence.done(self._model.top)
        if not 0 <= count <= sequence.length - done:
            raise ValueError(f"{count} positions were asked for, {sequence.length - done} wait")
        return done + count


class _Piece(NamedTuple):
    """A loaded piece, and the names that go in and come out."""

    session: onnxruntime.InferenceSession
    inputs: list[str]
    outputs: list[str]

    @classmethod
    def load(cls, partition: Partition, piece: Piece) -> _Piece:
        session = load_session(partition.path, partition.options, piece.graph)
        return cls(session, piece.inputs, piece.outputs)


class _FusedPartition:
    """A partition in pieces."""

    def __init__(self, partition: Partition) -> None:
        cut = cut_at_attention(partition.path)
        self._partition = partition
        self._layers = cut.layers
        self._pieces = [_Piece.load(partition, piece) for piece in cut.pieces]
        kinds = [_Piece.load(partition, piece) for piece in cut.attentions]
        self._kinds = [kinds[layer.kind] for layer in cut.layers]
        self._attentions: WeakKeyDictionary[PartitionCache, _Attention] = WeakKeyDictionary()
        self._rows = _Rows(partition, self._pieces, self._layers, capacity=1)

    def run(self, stretches: Series[Stretch]) -> None:
        """Process stretches of different sequences, one after the other in the same rows."""
        bounds = list(pairwise(accumulate((len(s.inputs) for s in stretches), initial=0)))
        count = bounds[-1][1]
        if count > self._rows.capacity:
            capacity = 1 << (count - 1).bit_length()
            self._rows = _Rows(self._partition, self._pieces, self._layers, capacity)
        rows = self._rows
        attentions = []
        for stretch, (start, stop) in zip(stretches, bounds, strict=True):
            rows.inputs[start:stop] = stretch.inputs
            stretch.cache.begin(stop - start)
            attentions.append(self._attention_of(stretch.cache, rows.part(start, stop)))
        first, *others = zip(self._pieces, rows.bindings(count), strict=True)
        started = perf_counter()
        first[0].session.run_with_iobinding(first[1])
        for layer, (piece, binding) in enumerate(others):
            for attention in attentions:
                self._kinds[layer].session.run_with_iobinding(attention[layer])
            piece.session.run_with_iobinding(binding)
        row_s = (perf_counter() - started) / count
        for stretch, (start, stop) in zip(stretches, bounds, strict=True):
            stretch.out[:] = rows.out[start:stop]
            stretch.cache.end(stop - start, (stop - start) * row_s)

    def _attention_of(self, cache: PartitionCache, part: _Part) -> list[onnxruntime.IOBinding]:
        attention = self._attentions.get(cache)
        if attention is None:
            attention = _Attention(self._kinds, self._layers, cache)
            self._attentions[cache] = attention
        return attention.at(part)


class _Part(NamedTuple):
    """Neighbouring rows before and after attention, as the runtime takes them.

    Attributes:
        projected: queries, keys and values, in one or apart.
    """

    projected: list[onnxruntime.OrtValue]
    attended: onnxruntime.OrtValue


class _Rows:
    """Memory for rows on their way through the pieces of a partition.

    Attributes:
        capacity: how many rows there is room for.
        inputs: (capacity,) token ids or (capacity, width) states.
        out: (capacity, width) states.
    """

    def __init__(
        self,
        partition: Partition,
        pieces: Series[_Piece],
        layers: Series[AttentionNames],
        capacity: int,
    ) -> None:
        shape = partition.shape
        widths = [shape.attention_width, shape.kv_width, shape.kv_width]
        if len(layers[0].rows) == 1:
            widths = [sum(widths)]
        self.capacity = capacity
        self._pieces = pieces
        self._projected = [np.zeros((1, capacity, width), np.float32) for width in widths]
        self._attended = np.zeros((1, capacity, shape.attention_width), np.float32)
        bottom: NDArray[Any] = (
            np.zeros((1, capacity), np.int64)
            if partition.takes_tokens
            else np.zeros((1, capacity, shape.width), np.float32)
        )
        self._buffers = {pieces[0].inputs[0]: bottom}
        for layer in layers:
            self._buffers.update(zip(layer.rows, self._projected, strict=True))
            self._buffers[layer.writes[0]] = self._attended
        for name in (name for piece in pieces for name in piece.outputs):
            if name not in self._buffers:
                self._buffers[name] = np.zeros((1, capacity, shape.width), np.float32)
        self.inputs = bottom[0]
        self.out = self._buffers[pieces[-1].outputs[0]][0]
        self.part = lru_cache(_KEPT_PARTS)(self._part)
        self.bindings = lru_cache(_KEPT_SIZES)(self._bindings)

    def _part(self, start: int, stop: int) -> _Part:
        projected = [as_value(array[:, start:stop]) for array in self._projected]
        return _Part(projected, as_value(self._attended[:, start:stop]))

    def _bindings(self, count: int) -> list[onnxruntime.IOBinding]:
        """Bind every piece to the first `count` rows."""
        values = {name: as_value(array[:, :count]) for name, array in self._buffers.items()}
        bindings = []
        for piece in self._pieces:
            binding = piece.session.io_binding()
            for name in piece.inputs:
                binding.bind_ortvalue_input(name, values[name])
            for name in piece.outputs:
                binding.bind_ortvalue_output(name, values[name])
            bindings.append(binding)
        return bindings


class _Attention:
    """One sequence's attention in every layer of a partition, bound to its cache once."""

    def __init__(
        self, kinds: Series[_Piece], layers: Series[AttentionNames], cache: PartitionCache
    ) -> None:
        self._part: _Part | None = None
        self._layers = []
        self._bindings = []
        for piece, layer in zip(kinds, layers, strict=True):
            binding = piece.session.io_binding()
            count = len(layer.rows)
            own_names = [name for name in layer.reads[3:] if name]
            for name, own in zip(piece.inputs[count:], own_names, strict=False):
                binding.bind_ortvalue_input(name, cache.values[own.removeprefix("past_")])
            for name, own in zip(piece.outputs[1:], layer.writes[1:], strict=True):
                binding.bind_ortvalue_output(name, cache.values[own.removeprefix("present_")])
            self._bindings.append(binding)
            self._layers.append((binding, piece.inputs[:count], piece.outputs[0]))

    def at(self, part: _Part) -> list[onnxruntime.IOBinding]:
        """Return the bindings of all layers, reading and writing these rows."""
        if part is not self._part:
            self._part = part
            for binding, names, attended in self._layers:
                for name, value in zip(names, part.projected, strict=True):
                    binding.bind_ortvalue_input(name, value)
                binding.bind_ortvalue_output(attended, part.attended)
        return self._bindings
