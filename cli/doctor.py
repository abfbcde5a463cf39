"""`updraft doctor`: what is missing on this machine and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.devices.catalog.entries import load_catalog
from updraft.devices.meters.choose import MeterSettings
from updraft.devices.probe import identify
from updraft.edge.metering import open_own_meter
from updraft.errors import UpdraftError
from updraft.models.bundle import open_bundle
from updraft.models.runtime import RuntimeOptions, import_onnxruntime
from updraft.models.sequence import Model
from updraft.models.shipped import shipped_bundle

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        remedy: what to do; empty when nothing is to be done.
    """

    what: str
    state: State
    found: str
    remedy: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """Say what is missing on this machine and how to mend it; exit code 1 if anything is."""
    checks: list[Callable[[], Finding]] = [
        _python, _runtime, _providers, _jetson_wheel, _bundle, _event_loop, _training, _optimizer,
        _memory, _device, _meter,
    ]  # fmt: skip
    findings = [check() for check in checks]
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("what", "state", "found", "what to do", title="updraft doctor")
        colours = {"ok": "green", "note": "yellow", "missing": "red"}
        for f in findings:
            state = f"[{colours[f.state]}]{f.state}[/]"
            table.add_row(f.what, state, escape(f.found), escape(f.remedy))
        Console().print(table)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    found = platform.python_version()
    if sys.version_info[:2] > (3, 13):
        return Finding("Python", "note", found, "3.10 to 3.13 are tested")
    return Finding("Python", "ok", found)


def _runtime() -> Finding:
    try:
        ort = import_onnxruntime()
    except UpdraftError as error:
        return Finding("ONNX Runtime", "missing", "not installed", str(error))
    return Finding("ONNX Runtime", "ok", ort.__version__)


def _providers() -> Finding:
    try:
        names = import_onnxruntime().get_available_providers()
    except UpdraftError:
        return Finding("providers", "missing", "none", "install ONNX Runtime first")
    found = ", ".join(name.removesuffix("ExecutionProvider") for name in names)
    if "CUDAExecutionProvider" not in names and Path("/dev/nvidiactl").exists():
        return Finding("providers", "note", found, "a GPU is here: pip install 'updraft[gpu]'")
    return Finding("providers", "ok", found)


def _jetson_wheel() -> Finding:
    release = Path("/etc/nv_tegra_release")
    if not release.exists():
        return Finding("Jetson", "ok", "this machine is none")
    board = release.read_text(errors="replace").splitlines()[0]
    try:
        installed = importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return Finding("Jetson", "note", board, "the GPU is idle: see docs/guides/install.md")
    if "TensorrtExecutionProvider" not in import_onnxruntime().get_available_providers():
        return Finding(
            "Jetson", "missing", f"{board}; onnxruntime-gpu {installed} from PyPI",
            "that wheel holds no kernels for Orin: install NVIDIA's, see docs/guides/install.md",
        )  # fmt: skip
    return Finding("Jetson", "ok", f"{board}; onnxruntime-gpu {installed}")


def _bundle() -> Finding:
    try:
        bundle = open_bundle(shipped_bundle())
        Model.load(bundle, range(bundle.manifest.split), RuntimeOptions())
    except UpdraftError as error:
        return Finding("shipped bundle", "missing", str(error), "install updraft again")
    return Finding("shipped bundle", "ok", f"{bundle.manifest.name} {bundle.fingerprint[:12]}")


def _event_loop() -> Finding:
    if importlib.util.find_spec("uvloop") is None:
        return Finding("uvloop", "note", "not installed", "pip install uvloop for a faster link")
    return Finding("uvloop", "ok", importlib.metadata.version("uvloop"))


def _training() -> Finding:
    lacking = [name for name in ("torch", "onnx") if importlib.util.find_spec(name) is None]
    if lacking:
        found = f"{', '.join(lacking)} not installed"
        return Finding("training", "note", found, "only for `bundle build`: 'updraft[train]'")
    return Finding("training", "ok", "torch and onnx are installed")


def _memory() -> Finding:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Finding("memory", "ok", f"{pages * size / 2**30:.1f} GiB")


def _device() -> Finding:
    catalog = load_catalog()
    board = identify(Path("/"), catalog)
    if board.device is None:
        advice = "describe it in a file for --catalog: see docs/guides/devices.md"
        return Finding("device", "note", f"{board.model}: not in the catalog", advice)
    return Finding("device", "ok", f"{board.device} ({catalog[board.device].name})")


def _meter() -> Finding:
    try:
        meter = open_own_meter(MeterSettings(), "cpu")
    except UpdraftError as error:
        return Finding("meter", "note", str(error), "see docs/energy.md")
    meter.close()
    if meter.method.startswith("modelled"):
        advice = "energy is an estimate; what can measure it: see docs/energy.md"
        return Finding("meter", "note", meter.method, advice)
    return Finding("meter", "ok", meter.method)


def _optimizer() -> Finding:
    lacking = [name for name in ("numba", "pulp") if importlib.util.find_spec(name) is None]
    if lacking:
        found = f"{', '.join(lacking)} not installed"
        advice = "for fast `optimize` and its MILP solvers: 'updraft[optimizer]'"
        return Finding("optimizer", "note", found, advice)
    return Finding("optimizer", "ok", "numba and PuLP are installed")
