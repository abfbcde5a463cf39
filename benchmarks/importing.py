"""How long `updraft bundle import` takes and how much memory; prints a table or JSON.

python benchmarks/importing.py                       Qwen2.5-0.5B's shape, int4
python benchmarks/importing.py --shape small --json  a tiny one, for programs

The checkpoint has the published shape and random weights in bf16. It is written first and then
imported by the command as a user calls it, in a process of its own, whose largest resident memory
the system tells. The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from rich.console import Console

from updraft.benchmarks.engine.checkpoint import write_checkpoint
from updraft.benchmarks.engine.shapes import LLAMA32_1B, QWEN3_06B, QWEN25_05B, SMALL, Shape
from updraft.benchmarks.measures.report import terminal, where
from updraft.models.card import Table

_SHAPES = {shape.name: shape for shape in (SMALL, QWEN25_05B, QWEN3_06B, LLAMA32_1B)}
_WANTED_S = 180.0
_WANTED_SHARE = 1.5


@dataclass(frozen=True)
class Cost:
    """What importing one checkpoint took.

    Attributes:
        peak_bytes: the largest resident memory of the process.
    """

    shape: str
    precision: str
    checkpoint_bytes: int
    bundle_bytes: int
    seconds: float
    peak_bytes: int

    @property
    def memory_share(self) -> float:
        """Peak memory as a share of the checkpoint."""
        return self.peak_bytes / self.checkpoint_bytes


def measure(shape: Shape, precision: str, folder: Path) -> Cost:
    """Write a checkpoint into a folder, import it and say what that took."""
    checkpoint = folder / "checkpoint"
    # In a process of its own: the memory that it took would be counted for our child otherwise.
    writer = get_context("spawn").Process(target=write_checkpoint, args=(checkpoint, shape, 0))
    writer.start()
    writer.join()
    command = [
        str(Path(sys.executable).with_name("updraft")), "bundle", "import", str(checkpoint),
        "--output", str(folder / "bundle"), "--precision", precision,
        "--split", str(shape.split), "--context", str(shape.context_length), "--json",
    ]  # fmt: skip
    start = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None, "it was asked for"
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - start
    if status:
        raise SystemExit(f"the import failed with status {status}")
    return Cost(
        shape=shape.name,
        precision=precision,
        checkpoint_bytes=(checkpoint / "model.safetensors").stat().st_size,
        bundle_bytes=json.loads(answer)["bytes"],
        seconds=round(seconds, 2),
        peak_bytes=usage.ru_maxrss * 1024,
    )


def main() -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shape", choices=sorted(_SHAPES), default=QWEN25_05B.name)
    parser.add_argument("--precision", choices=["int4", "int8", "fp16", "fp32"], default="int4")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost = measure(_SHAPES[arguments.shape], arguments.precision, Path(folder))
    # A tiny checkpoint is smaller than Python itself.
    judged = cost.shape != SMALL.name
    held = not judged or (cost.seconds <= _WANTED_S and cost.memory_share <= _WANTED_SHARE)
    if arguments.json:
        print(json.dumps({**asdict(cost), "memory_share": cost.memory_share, **where()}))
        return 0 if held else 1
    table = Table(
        title="Importing a checkpoint of random weights",
        header=["shape", "weights", "checkpoint", "bundle", "time", "peak memory", "share"],
        rows=[
            [
                cost.shape, cost.precision, f"{cost.checkpoint_bytes / 1e6:,.0f} MB",
                f"{cost.bundle_bytes / 1e6:,.0f} MB", f"{cost.seconds:.0f} s",
                f"{cost.peak_bytes / 1e6:,.0f} MB", f"{cost.memory_share:.2f} x",
            ]
        ],
        note=f"wanted: {_WANTED_S:.0f} s, {_WANTED_SHARE} x the checkpoint" if judged else "",
    )  # fmt: skip
    Console().print(terminal(table))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
