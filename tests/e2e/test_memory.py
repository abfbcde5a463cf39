"""What was predicted before anything was loaded is what a process then takes."""

import subprocess
import sys
from zlib import crc32

import numpy as np
import pytest

from updraft.models.build import BundlePlan, write_bundle
from updraft.models.manifest import Architecture, Quantization

_RUN = """
import sys
from pathlib import Path
from updraft.devices.fit import Load
from updraft.devices.free_memory import resident_bytes
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import open_bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.workload import workload_of

bundle = open_bundle(Path(sys.argv[1]))
expected = resident_bytes() + Load(workload_of(bundle), contexts=1).need.total
engine = Engine(bundle, RuntimeOptions(), ModelledMeter(), whole_model=True)
context = bundle.manifest.architecture.context_length
request = GenerationRequest("", mode="full", max_tokens=8, wire="fp32")
for _ in engine.start(request, [1 + n % 200 for n in range(context - 8)]):
    pass
status = Path("/proc/self/status").read_text()
peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
print(expected, 1024 * int(peak.split()[1]))
"""


class _RandomWeights(dict):
    """Weights that are drawn when they are asked for; alike ones would share memory."""

    def __init__(self, shape):
        self.shape = shape

    def __contains__(self, name):
        return not name.startswith(("exit_adapters", "exit_heads"))

    def __missing__(self, name):
        shape, kind = self.shape, name.split(".")[-2]
        if "norm" in name:
            return np.ones(shape.width, np.float32)
        sizes = {
            "embedding": (shape.vocabulary_size, shape.width),
            "k": (shape.kv_width, shape.width),
            "v": (shape.kv_width, shape.width),
            "gate": (shape.ffn_width, shape.width),
            "up": (shape.ffn_width, shape.width),
            "down": (shape.width, shape.ffn_width),
        }
        size = sizes.get(kind, (shape.width, shape.width))
        return (
            np.random.default_rng(crc32(name.encode())).standard_normal(size, dtype=np.float32) / 16
        )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    "quantization",
    [
        Quantization(weights="fp32"),
        Quantization(weights="int8", block=128, activations="int8"),
        Quantization(weights="int4", block=128, activations="int8"),
    ],
    ids=lambda quantization: quantization.weights,
)
def test_peak_memory_is_what_was_predicted(tiny_plan, tmp_path, quantization):
    shape = Architecture(
        vocabulary_size=4_096,
        width=512,
        layers=10,
        heads=8,
        kv_heads=2,
        ffn_width=2_048,
        context_length=512,
    )
    plan = vars(tiny_plan) | {
        "architecture": shape,
        "quantization": quantization,
        "exits": (5,),
    }
    bundle = write_bundle(tmp_path / "bundle", BundlePlan(**plan), _RandomWeights(shape))
    command = [sys.executable, "-c", _RUN, str(bundle.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected, peak = map(int, done.stdout.split())
    assert peak == pytest.approx(expected, rel=0.05)
