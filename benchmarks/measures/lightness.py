"""How light the edge is: what its import loads, and its memory before and after the model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.models.card import Table

# gRPC imports the empty packages grpc_health and grpc_reflection itself where they are installed.
_FORBIDDEN = (
    "torch",
    "transformers",
    "fastapi",
    "onnx",
    "grpc_health.v1",
    "grpc_reflection.v1alpha",
    "updraft.cloud",
)
_TARGET_MB = 150

# Runs in a fresh interpreter: what this one has loaded must not count.
_PROBE = """
import json, sys
from pathlib import Path
import updraft.edge
import updraft.edge.agent as agent
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.config import Cloud, EdgeConfig
from updraft.models.bundle import open_bundle
import psutil

names = set(sys.modules)
packages = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
memory = {}

def note(stage):
    memory[stage] = psutil.Process().memory_info().rss / 1e6

note("imported")
folder, coordinator, *forbidden = sys.argv[1:]
config = EdgeConfig.model_validate(
    {"api": {"listen": "127.0.0.1:0"}, "cloud": {"address": coordinator}}
)
daemon = agent.Agent(config)
daemon.bind()
bundle = open_bundle(Path(folder))
link = agent.connect(config.cloud, bundle)
link.describe()
runtime_before_model = "onnxruntime" in sys.modules
note("idle")
engine = agent.Engine(bundle, config.compute, ModelledMeter(10), link)
note("model")
from updraft.edge.request import GenerationRequest
for _ in engine.start(GenerationRequest("import ", "threshold")):
    pass
note("generated")
link.close()
print(json.dumps({
    "packages": sorted(packages),
    "found": sorted(names.intersection(forbidden)),
    "memory_mb": memory,
    "runtime_before_model": runtime_before_model,
}))
"""

_STAGES = {
    "imported": "`updraft.edge.agent` imported",
    "idle": "port bound, bundle checked, linked to the coordinator",
    "model": "layers below the split loaded",
    "generated": "after one completion",
}


def measure(bench: Bench) -> Section:
    """Import, bind, link and load step by step in an interpreter of its own."""
    place = (str(bench.bundle.folder), str(bench.coordinator.endpoint))
    with bench.stage("lightness"):
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, *place, *_FORBIDDEN],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the probe of the edge's memory failed: {done.stderr.strip()}")
    probe: dict[str, Any] = json.loads(done.stdout)
    heavy: list[str] = probe["found"]
    return Section(
        key="lightness",
        tables=[_modules(heavy), _memory(probe["memory_mb"])],
        figures={**probe, "forbidden": _FORBIDDEN, "target_mb": _TARGET_MB},
        failures=[f"`import updraft.edge.agent` loads {name}" for name in heavy],
    )


def _modules(heavy: list[str]) -> Table:
    return Table(
        "What the edge's import loads",
        ("module", "loaded by `import updraft.edge.agent`"),
        [(f"`{name}`", "**yes**" if name in heavy else "no") for name in _FORBIDDEN],
    )


def _memory(memory_mb: dict[str, float]) -> Table:
    return Table(
        "Memory of the edge agent",
        ("stage", "RSS, MB"),
        [(text, f"{memory_mb[stage]:.1f}") for stage, text in _STAGES.items()],
        f"Target: under {_TARGET_MB} MB before the model is loaded.",
    )
