"""`updraft device probe`: what this machine is, and how fast it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.cli.decode_check import Decoded, short_decode
from updraft.cli.options import AsJson, Catalog
from updraft.cli.output_file import check_folder_of, write_whole
from updraft.devices.bandwidth import Bandwidth, measure
from updraft.devices.catalog.device import Device
from updraft.devices.catalog.entries import load_catalog
from updraft.devices.catalog.text import device_text
from updraft.devices.power import PowerControl
from updraft.devices.probe import Board, identify
from updraft.devices.tree import Unread
from updraft.errors import ProbeError, UpdraftError
from updraft.models.bundle import open_bundle
from updraft.models.host import calibrate
from updraft.models.runtime import RuntimeOptions
from updraft.models.shipped import shipped_bundle

_ROOT = Path("/")


@dataclass(frozen=True)
class Measured:
    """What only the running system can tell; None for another one's files, or where it failed."""

    bandwidth: Bandwidth | None = None
    decode: Decoded | None = None


def probe(
    root: Annotated[
        Path, typer.Option(help="A copy of another system's files: nothing is measured then.")
    ] = _ROOT,
    catalog: Catalog = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="That measure and decode.")] = 1,
    write: Annotated[
        Path | None,
        typer.Option(help="TOML file: this machine with its own figures, for --catalog."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Identify this machine, measure its memory's bandwidth, and decode a few tokens."""
    if not root.is_dir():
        raise ProbeError(f"{root}: is no folder; --root takes one with proc/, sys/, etc/ in it")
    devices = load_catalog(catalog)
    board, found = identify(root, devices), Measured()
    options = RuntimeOptions(threads=threads)
    is_live = root.resolve() == _ROOT
    if write is not None:
        check_folder_of(write)
        if not is_live or board.device is None:
            raise ProbeError(f"{write}: only a machine of the catalog is measured, and only itself")
        own = calibrate(devices[board.device], open_bundle(shipped_bundle()), options)
        write_whole(write, lambda half: half.write_text(device_text(own), encoding="utf-8"))
    if is_live:
        board, found = _measure(board, devices, options)
    if as_json:
        print(json.dumps(asdict(board) | asdict(found), indent=2))
        return
    table = Table("what", "found", title="updraft device probe")
    for what, value in [*_identity(board, devices), *_figures(found)]:
        table.add_row(what, escape(value))
    for unread in board.unread:
        table.add_row("[yellow]not read[/]", escape(f"{unread.what}: {unread.why}"))
    Console().print(table)


def _measure(
    board: Board, devices: Mapping[str, Device], options: RuntimeOptions
) -> tuple[Board, Measured]:
    """Measure what the files do not tell; what fails is noted, and the rest goes on."""
    unread, decode = list(board.unread), None
    if board.power_mode is not None:
        try:
            board = replace(board, power_mode=PowerControl(_ROOT).current().name)
        except ProbeError as error:
            unread.append(Unread("the power mode in effect", str(error)))
    bandwidth = measure(threads=options.threads)
    try:
        decode = short_decode(devices.get(board.device or ""), options)
    except UpdraftError as error:
        unread.append(Unread("decoding", str(error)))
    return replace(board, unread=tuple(unread)), Measured(bandwidth, decode)


def _identity(board: Board, devices: Mapping[str, Device]) -> Iterable[tuple[str, str]]:
    if board.device is not None:
        name = devices[board.device].name
        yield "device", f"{board.device} ({name}), by {board.identified_by}"
    else:
        yield "device", "unknown: describe it in a file for --catalog, see docs/guides/devices.md"
    yield "model", board.model
    if board.l4t:
        yield "Jetson Linux", f"{board.l4t}, JetPack {board.jetpack or 'unknown'}"
    if board.power_mode:
        yield "power mode", board.power_mode
    if cpu := board.cpu:
        flags = ", ".join(cpu.flags) or "none that matters"
        yield "CPU", f"{cpu.name}, {cpu.cores} of {cpu.cores_present} cores on, {flags}"
    if board.memory_total_bytes is not None:
        free = board.memory_free_bytes
        told = "unknown" if free is None else gib(free)
        yield "memory", f"{gib(board.memory_total_bytes)}, free {told}"
    for gpu in board.gpus:
        memory = "memory unknown" if gpu.memory_bytes is None else gib(gpu.memory_bytes)
        yield "GPU", f"{gpu.names[0]} ({gpu.device or 'not in the catalog'}), {memory}"


def _figures(found: Measured) -> Iterable[tuple[str, str]]:
    if bandwidth := found.bandwidth:
        rate = f"{bandwidth.bytes_per_s / 1e9:.1f} GB/s read"
        yield "memory bandwidth", f"{rate}, {_threads(bandwidth.threads)}"
    if decode := found.decode:
        yield (
            "decoding",
            f"{decode.bundle}, all layers, {_threads(decode.threads)}: first token after "
            f"{decode.first_token_ms:.1f} ms, then {decode.per_token_ms:.2f} ms each",
        )
        yield "energy", f"{decode.token_j:.3g} J per token ({decode.energy_method})"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def gib(size: int) -> str:
    """Return a size of memory for people."""
    return f"{size / 2**30:.1f} GiB"
