"""How long an exit head takes by the number of tokens that it chooses among.

    python -m updraft.benchmarks.exits.shortlists [--threads N]

Random weights at the shape of Qwen2.5-0.5B: latency does not ask what a weight is. Heads take
turns, and one layer of the model stands beside them as the measure.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from updraft.cli.options import AsJson
from updraft.models.graphs import write_head, write_partition
from updraft.models.manifest import Architecture, Quantization
from updraft.models.runtime import RuntimeOptions, load_session

SHAPE = Architecture(
    vocabulary_size=151_936, width=896, layers=24, heads=14, kv_heads=2, ffn_width=4864,
    context_length=512, rope_theta=1e6, norm_epsilon=1e-6, qkv_bias=True,
)  # fmt: skip
SIZES = (4096, 8192, 16_384, 32_768, 65_536, SHAPE.vocabulary_size)
_LAYERS = 4


class _Random(dict[str, NDArray[np.float32]]):
    """Weights made when they are asked for."""

    def __missing__(self, name: str) -> NDArray[np.float32]:
        rng = np.random.default_rng(0)
        shape = SHAPE
        rows, columns = {
            "embedding": (shape.vocabulary_size, shape.width),
            "q": (shape.attention_width, shape.width),
            "o": (shape.width, shape.attention_width),
            "k": (shape.kv_width, shape.width),
            "v": (shape.kv_width, shape.width),
            "gate": (shape.ffn_width, shape.width),
            "up": (shape.ffn_width, shape.width),
            "down": (shape.width, shape.ffn_width),
        }.get(name.split(".")[-2], (shape.width, 0))
        if name.endswith("bias"):
            return np.zeros(rows, np.float32)
        size = (rows, columns) if columns else (rows,)
        return rng.standard_normal(size, np.float32) * np.float32(0.02)


def main(
    threads: Annotated[int, typer.Option(help="Threads; 0 takes as many as pay.")] = 0,
    rank: Annotated[int, typer.Option(help="Of the adapters; 0: none.")] = 64,
    rounds: Annotated[int, typer.Option(help="Times each is measured.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Measure heads of all sizes, in turns."""
    quantization = Quantization(weights="int4", block=128, activations="int8")
    weights = _Random()
    layer = SHAPE.layers // 2
    weights[f"exit_norms.{layer}.weight"] = np.ones(SHAPE.width, np.float32)
    if rank:
        rng = np.random.default_rng(1)
        for name, wide in (("down", (rank, SHAPE.width)), ("up", (SHAPE.width, rank))):
            value = rng.standard_normal(wide, np.float32) * np.float32(0.02)
            weights[f"exit_adapters.{layer}.{name}.weight"] = value
    weights["embedding.weight"] = weights["embedding.weight"]
    options = RuntimeOptions(threads=threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        runs = {}
        for size in SIZES:
            chosen = np.arange(size, dtype=np.int32) if size < SHAPE.vocabulary_size else None
            file = f"head-{size}.onnx"
            write_head(folder, file, SHAPE, weights, quantization, [layer], chosen)
            runs[str(size)] = _bound(load_session(folder / file, options), _head_inputs())
        write_partition(folder, SHAPE, weights, quantization, 1, 1 + _LAYERS)
        session = load_session(folder / f"layers-1-{1 + _LAYERS}.onnx", options)
        runs["layers"] = _bound(session, _layer_inputs())
        found: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                start = perf_counter()
                run()
                found[name].append(1e3 * (perf_counter() - start))
    # The tenth percentile: what it takes when nothing else runs meanwhile.
    times = {name: float(np.percentile(series, 10)) for name, series in found.items()}
    per_layer = times.pop("layers") / _LAYERS
    rows = [
        {"tokens": int(size), "ms": round(ms, 3), "layers": round(ms / per_layer, 2)}
        for size, ms in times.items()
    ]
    if as_json:
        print(json.dumps({"layer_ms": round(per_layer, 3), "heads": rows}, indent=2))
        return
    print(f"one layer: {per_layer:.3f} ms")
    for row in rows:
        print(f"{row['tokens']:>7} tokens: {row['ms']:7.3f} ms, {row['layers']:5.2f} layers")


def _head_inputs() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(2)
    return {"state": rng.standard_normal((1, SHAPE.width), np.float32), "exit": np.array(0)}


def _layer_inputs() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(3)
    past = 128
    inputs: dict[str, NDArray[Any]] = {
        "state_in": rng.standard_normal((1, 1, SHAPE.width), np.float32),
        "seqlens_k": np.array([past], np.int32),
        "total_length": np.array(past + 1, np.int32),
    }
    cache = (1, SHAPE.kv_heads, SHAPE.context_length, SHAPE.head_width)
    for layer in range(1, 1 + _LAYERS):
        for which in ("key", "value"):
            inputs[f"past_{which}_{layer}"] = np.zeros(cache, np.float32)
    return inputs


def _bound(session: Any, inputs: dict[str, NDArray[Any]]) -> Any:
    """Bind inputs once, and caches in place, as the engine does; return what runs the graph."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    for output in session.get_outputs():
        past = output.name.replace("present", "past")
        if past in inputs:
            array = inputs[past]
            binding.bind_output(output.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        elif output.name in {"logits", "state_out"}:
            binding.bind_output(output.name, "cpu")
    return lambda: session.run_with_iobinding(binding)


if __name__ == "__main__":
    typer.run(main)
