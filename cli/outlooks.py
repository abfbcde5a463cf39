"""What bundles can be expected to take on a device: those asked about, and smaller ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from updraft.cli.prompt_file import read_prompts
from updraft.devices.budgets.expectation import Coordinator, Outlook, Shape
from updraft.devices.catalog.device import Device
from updraft.devices.performance import PerformanceModel
from updraft.devices.workload import Workload
from updraft.errors import RequestError, RuntimeMissing
from updraft.models.agreement import exit_agreement
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.shipped import family, shipped_bundle
from updraft.models.tokenizer import Tokenizer
from updraft.models.workload import workload_of

# Texts on which exits are compared with the full depth: about a second's work.
_TEXTS = 12


def outlooks(
    folders: Sequence[Path],
    device: Device,
    shape: Shape,
    far: Device,
    round_trip_ms: float,
    uplink_bytes_per_s: float,
) -> dict[str, Outlook]:
    """Return outlooks by the bundles' names, the one asked about first.

    Args:
        folders: of bundles; if there are none, the shipped bundle and every smaller expert of
            the shipped family that such answers fit.
        far: what the coordinator runs on.

    Raises:
        RequestError: the answers asked for do not fit a context.
    """
    asked = [open_bundle(folder) for folder in folders or [shipped_bundle()]]
    found: dict[str, Outlook] = {}
    for bundle in asked:
        workload = workload_of(bundle)
        name = workload.name if workload.name not in found else str(bundle.folder)
        found[name] = Outlook(device, workload, _agreement(bundle))
    if not folders:
        asked_for = next(iter(found.values())).workload
        for name, folder in family().items():
            workload = workload_of(open_bundle(folder))
            if _size(workload) < _size(asked_for) and _fits(workload, shape):
                # Only all of its layers: its exits would have to be measured first.
                found[name] = Outlook(device, workload, {})
    for name, outlook in found.items():
        _check(outlook.workload, shape)
        coordinator = _coordinator(far, outlook.workload, shape, round_trip_ms, uplink_bytes_per_s)
        found[name] = replace(outlook, coordinator=coordinator)
    return found


def _check(workload: Workload, shape: Shape) -> None:
    if not _fits(workload, shape):
        raise RequestError(
            f"{shape.prompt_tokens} + {shape.new_tokens} tokens do not fit the context of "
            f"{workload.name!r}, {workload.context_length} tokens: ask for fewer"
        )


def _fits(workload: Workload, shape: Shape) -> bool:
    return shape.prompt_tokens + shape.new_tokens <= workload.context_length


def _coordinator(
    device: Device,
    workload: Workload,
    shape: Shape,
    round_trip_ms: float,
    uplink_bytes_per_s: float,
) -> Coordinator:
    model = PerformanceModel(device, device.default_mode, workload)
    top = workload.exits[-1]
    return Coordinator(
        round_trip_ms,
        uplink_bytes_per_s,
        token_ms=1e3 * model.step(top, 1, shape.prompt_tokens).seconds,
        position_ms=1e3 * model.prefill(shape.prompt_tokens, top).seconds / shape.prompt_tokens,
    )


def _agreement(bundle: Bundle) -> dict[int, float]:
    """Measure the exits on the bundle's own prompts; nothing where that cannot be done."""
    prompts = bundle.folder / "prompts.jsonl"
    if not prompts.is_file():
        return {}
    try:
        model = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    except RuntimeMissing:
        return {}
    return exit_agreement(model, Tokenizer(bundle), islice(read_prompts(prompts), _TEXTS))


def _size(workload: Workload) -> int:
    return sum(piece.weight_bytes for piece in workload.partitions)
