"""What this node can do, measured here and now: its record in the fleet."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from statistics import median
from typing import NamedTuple

from updraft.devices.catalog.entries import load_catalog
from updraft.devices.probe import identify
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest, Mode
from updraft.models.bundle import Bundle
from updraft.models.experts import QUALITY, Family
from updraft.proto.v1 import fleet_pb2 as pb

# A prompt and an answer that are long enough to tell their speeds apart.
_PROMPT = "def mean(values):\n    total = 0.0\n    for value in values:\n"
_NEW_TOKENS = 16
_REPEATS = 3


class Speed(NamedTuple):
    """What an answer takes: a prompt of `prompt_tokens`, then each new token."""

    prompt_tokens: int
    first_token_ms: float
    per_token_ms: float
    prompt_j: float
    per_token_j: float


def measure(engine: Engine, mode: Mode) -> Speed:
    """Run a short prompt a few times; takes as long as about fifty tokens."""
    runs = [_run(engine, mode, 1) for _ in range(_REPEATS + 1)][1:]
    first_ms = median(run.latency_ms for run in runs)
    prompt_j = median(run.joules for run in runs)
    longer = [_run(engine, mode, _NEW_TOKENS) for _ in range(_REPEATS)]
    # A text that ends at once tells nothing of further tokens: they are taken to be like a prompt.
    further = [run for run in longer if run.new_tokens > 1]
    token_ms = [(run.latency_ms - first_ms) / (run.new_tokens - 1) for run in further]
    token_j = [(run.joules - prompt_j) / (run.new_tokens - 1) for run in further]
    return Speed(
        runs[0].prompt_tokens,
        first_ms,
        max(0.0, median(token_ms)) if token_ms else first_ms,
        prompt_j,
        max(0.0, median(token_j)) if token_j else prompt_j,
    )


class _Run(NamedTuple):
    prompt_tokens: int
    new_tokens: int
    latency_ms: float
    joules: float


def _run(engine: Engine, mode: Mode, max_tokens: int) -> _Run:
    generation = engine.start(GenerationRequest(_PROMPT, mode, max_tokens=max_tokens))
    for _ in generation:
        pass
    result = generation.result
    return _Run(
        generation.prompt_tokens,
        len(result.tokens),
        1000 * result.total_s,
        result.energy.joules,
    )


def make_record(engine: Engine, config: EdgeConfig, revision: int) -> pb.CapabilityRecord:
    """Return the record of this device; what the configuration declares is not measured.

    Args:
        revision: greater than that of every earlier record of this node.
    """
    manifest, own = engine.bundle.manifest, config.node
    context = manifest.architecture.context_length
    speed = own.speed or measure(engine, own.mode)
    return pb.CapabilityRecord(
        node=own.name or _host_name(),
        expert=own.expert or manifest.name,
        version=engine.bundle.fingerprint,
        revision=revision,
        device=own.device or _device(config.catalog),
        quality=own.quality or _measured_quality(engine.bundle),
        prompt_tokens=speed.prompt_tokens,
        first_token_ms=speed.first_token_ms,
        per_token_ms=speed.per_token_ms,
        prompt_j=speed.prompt_j,
        per_token_j=speed.per_token_j,
        standby_w=own.standby_w,
        context_length=context,
        max_tokens=min(own.max_tokens, context),
        concurrency=own.concurrency,
    )


def _device(own_devices: Path | None) -> str:
    return identify(Path("/"), load_catalog(own_devices)).device or "unknown"


def _measured_quality(bundle: Bundle) -> dict[str, float]:
    """Return the quality by domain that stands beside a bundle of a family; of others, nothing."""
    family = Family(bundle.folder.parent)
    if not (family.folder / QUALITY).is_file():
        return {}
    return family.quality().get(bundle.folder.name, {})


def _host_name() -> str:
    """Return the host's name as far as a node may be called it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")
    return name[:64] or "node"
