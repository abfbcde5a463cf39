"""A short decode of the shipped bundle: what this machine needs for a token, all layers run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from updraft.devices.catalog.device import Device
from updraft.devices.meters.choose import MeterSettings, open_meter
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import open_bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.shipped import shipped_bundle

_PROMPT = "import os\n\n\ndef main(argv):\n    parser = argparse.ArgumentParser("
_TOKENS = 48


@dataclass(frozen=True)
class Decoded:
    """What a short decode took.

    Attributes:
        first_token_ms: from the request to the first token, the prompt's prefill in it.
        per_token_ms: median of the tokens after it.
        token_j: above idle, over all tokens, the prompt's share in it.
    """

    bundle: str
    threads: int
    prompt_tokens: int
    tokens: int
    first_token_ms: float
    per_token_ms: float
    token_j: float
    energy_method: str


def short_decode(device: Device | None, options: RuntimeOptions) -> Decoded:
    """Decode a few tokens with the shipped bundle, twice; the second time counts.

    Args:
        device: for the meter; None where the catalog does not know this machine.

    Raises:
        RuntimeMissing: ONNX Runtime is not there.
        BundleError: the shipped bundle is damaged.
    """
    bundle = open_bundle(shipped_bundle())
    meter = open_meter(MeterSettings(), device, Path("/"))
    try:
        engine = Engine(bundle, options, meter, whole_model=True)
        for _ in range(2):
            generation = engine.start(GenerationRequest(_PROMPT, "full", max_tokens=_TOKENS))
            times = [perf_counter()]
            times.extend(perf_counter() for _token in generation)
    finally:
        meter.close()
    result = generation.result
    steps_ms = [1e3 * (after - before) for before, after in pairwise(times)]
    return Decoded(
        bundle.manifest.name,
        options.threads,
        generation.prompt_tokens,
        len(result.tokens),
        steps_ms[0],
        median(steps_ms[1:]),
        result.energy.joules / len(result.tokens),
        result.energy.method,
    )
