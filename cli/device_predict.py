"""`updraft device predict`: what a bundle would take on a device, before anything runs there."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.cli.options import AsJson, Catalog
from updraft.devices.catalog.device import Device, PowerMode
from updraft.devices.catalog.entries import find, load_catalog
from updraft.devices.fit import memory_needed
from updraft.devices.performance import CHUNK, PerformanceModel
from updraft.errors import RequestError
from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle
from updraft.models.workload import workload_of

_Count = Annotated[int, typer.Option(min=1)]


def predict(
    device: Annotated[str, typer.Argument(help="Id of a device, as `device list` has it.")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run.")] = None,
    mode: Annotated[
        str | None, typer.Option(help="Power mode by name; the default one without.")
    ] = None,
    prompt_tokens: _Count = 64,
    new_tokens: _Count = 32,
    batch: Annotated[int, typer.Option(min=1, help="Answers at one time.")] = 1,
    catalog: Catalog = None,
    as_json: AsJson = False,
) -> None:
    """Predict latency and energy of answers, by the depth that their tokens pass."""
    found = find(load_catalog(catalog), device)
    power_mode = _mode(found, mode)
    workload = workload_of(open_bundle(bundle or shipped_bundle()))
    if prompt_tokens + new_tokens > workload.context_length:
        raise RequestError(
            f"{prompt_tokens} + {new_tokens} tokens do not fit the context of {workload.name!r}, "
            f"{workload.context_length} tokens: ask for fewer"
        )
    model = PerformanceModel(found, power_mode, workload)
    answers = {
        top: {
            "memory_bytes": memory_needed(workload, batch, top=top).total,
            "bound": model.step(top, 1, prompt_tokens, batch).bound,
            **asdict(model.predict(prompt_tokens, new_tokens, top, batch)),
        }
        for top in workload.exits
    }
    pieces = {f"layers to {piece.last_layer}": piece for piece in workload.partitions}
    parts = {
        name: {
            "weight_bytes": piece.weight_bytes,
            "token": asdict(model.piece(piece, 1, prompt_tokens, batch)),
            "chunk": asdict(model.piece(piece, CHUNK, 0, batch)),
        }
        for name, piece in {**pieces, "a look at an exit": workload.head}.items()
    }
    if as_json:
        print(json.dumps({"answers": answers, "parts": parts}, indent=2))
        return
    _print(model, answers, parts)


def _mode(device: Device, name: str | None) -> PowerMode:
    if name is None:
        return device.default_mode
    for mode in device.power_modes:
        if mode.name == name:
            return mode
    known = ", ".join(mode.name for mode in device.power_modes)
    raise RequestError(f"power mode {name!r} is none of {device.id}: choose from {known}")


def _print(model: PerformanceModel, answers: dict[int, Any], parts: dict[str, Any]) -> None:
    console = Console(highlight=False)
    based = "measured on this machine" if model.device.measured else "by its data sheet"
    console.print(
        f"{escape(model.workload.name)} in {model.workload.precision} on "
        f"{escape(model.device.name)}, {escape(model.mode.name)}, {based}"
    )
    table = Table("layers", "first token, ms", "a token, ms", "answer, ms", "J", "MB", "waits for")
    names = ("first_token_ms", "per_token_ms", "latency_ms", "energy_j")
    for top, answer in answers.items():
        table.add_row(
            str(top),
            *(f"{answer[name]['value']:.3g}" for name in names),
            f"{answer['memory_bytes'] / 1e6:.0f}",
            answer["bound"],
        )
    console.print(table)
    table = Table(
        "part", "weights, MB", "a token, ms", f"{CHUNK} of a prompt, ms", "which waits for"
    )
    for name, part in parts.items():
        token, chunk = part["token"], part["chunk"]
        times = (f"{1e3 * run['seconds']:.3g}" for run in (token, chunk))
        table.add_row(name, f"{part['weight_bytes'] / 1e6:.1f}", *times, chunk["bound"])
    console.print(table)
    some = next(iter(answers.values()))
    time, energy = (some[name]["high"] / some[name]["value"] for name in names[2:])
    console.print(
        f"J is above the idle device. 95 of 100 devices are within a factor of {time:.1f} in time "
        f"and {energy:.1f} in energy; measurements narrow that."
    )
