"""`updraft device`: what Updraft runs on, and what can be measured here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path
from time import sleep
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from updraft.cli.device_predict import predict
from updraft.cli.device_probe import gib, probe
from updraft.cli.options import AsJson, Catalog
from updraft.devices.catalog.device import MeterKind
from updraft.devices.catalog.entries import find, load_catalog
from updraft.devices.power import PowerControl
from updraft.devices.probe import identify
from updraft.errors import ProbeError

app = typer.Typer(
    help="Show known devices; identify, measure and set up this one.", no_args_is_help=True
)

app.command("probe")(probe)
app.command("predict")(predict)

_ROOT = Path("/")


@app.command("list")
def list_devices(catalog: Catalog = None, as_json: AsJson = False) -> None:
    """List the devices that the catalog knows."""
    devices = load_catalog(catalog)
    if as_json:
        print(json.dumps([device.model_dump(mode="json") for device in devices.values()], indent=2))
        return
    heads = ("device", "GiB", "GB/s", "Tops", "idle W", "busy W", "meter")
    table = Table(*(Column(head, no_wrap=True) for head in heads), caption="Tops: dense, in int8")
    for device in devices.values():
        watts = [mode.active_w for mode in device.power_modes]
        table.add_row(
            device.id,
            f"{device.memory_bytes / 2**30:g}",
            f"{device.bandwidth_bytes_per_s / 1e9:g}",
            f"{device.ops_per_s['int8'] / 1e12:g}",
            f"{device.idle_w:g}",
            f"{min(watts):g}" if len(watts) == 1 else f"{min(watts):g}-{max(watts):g}",
            device.meter,
        )
    Console().print(table)


@app.command()
def show(
    device: Annotated[str, typer.Argument(help="Id of a device, as `device list` has it.")],
    catalog: Catalog = None,
    as_json: AsJson = False,
) -> None:
    """Show all figures of a device and where they are from."""
    found = find(load_catalog(catalog), device)
    if as_json:
        print(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{escape(found.name)}[/]  {found.id}, {found.family}")
    memory = "shared by CPU and GPU" if found.unified else "of the GPU"
    console.print(
        f"{gib(found.memory_bytes)} {memory}, {found.bandwidth_bytes_per_s / 1e9:g} GB/s, of "
        f"which decoding reaches {found.efficiency:.0%}; {found.step_overhead_s * 1e6:g} µs for "
        f"each run of a graph; {found.idle_w:g} W idle; meter {found.meter}"
    )
    speeds = ", ".join(f"{name} {ops / 1e12:g}" for name, ops in found.ops_per_s.items())
    console.print(f"dense Tops: {speeds}")
    table = Table("power mode", "W decoding", "compute", "bandwidth", "change")
    for mode in found.power_modes:
        table.add_row(
            escape(mode.name),
            f"{mode.active_w:g}",
            f"{mode.compute:.0%}",
            f"{mode.bandwidth:.0%}",
            "reboot" if mode.needs_reboot else "at once",
        )
    console.print(table)
    console.print("sources:")
    for source in found.sources:
        console.print(f"  {escape(source)}")


@app.command()
def watch(
    catalog: Catalog = None,
    meter: Annotated[
        MeterKind | None, typer.Option(help="Which meter; the best that is here by default.")
    ] = None,
    interval: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds per line.")] = 1.0,
    lines: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    root: Annotated[
        Path, typer.Option(help="Where the system's files are; in a container, the host's.")
    ] = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Print what this device draws, line after line, until interrupted."""
    from updraft.devices.meters.choose import MeterSettings, open_meter

    devices = load_catalog(catalog)
    device = devices.get(identify(root, devices).device or "")
    opened = open_meter(MeterSettings(meter=meter or "auto"), device, root)
    try:
        if not as_json:
            print(opened.method, file=sys.stderr)
        for line in count(1):
            span = opened.begin()
            sleep(interval)
            energy, power = span.end(0.0), opened.power_w()
            if power is None and line == 1:
                raise ProbeError(f"nothing here measures what it draws; energy is {energy.method}")
            _print_reading(power, opened.idle_w, energy.joules, energy.method, as_json)
            if line == lines:
                return
    except KeyboardInterrupt:
        return
    finally:
        opened.close()


@app.command()
def mode(
    name: Annotated[
        str | None, typer.Argument(help="Change to it; without one, the modes are listed.")
    ] = None,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Keep it for the next boot where it needs one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List this Jetson's power modes, or change to one by its name."""
    control = PowerControl(_ROOT)
    if name is not None:
        change = control.set(name, schedule)
        if as_json:
            print(json.dumps({"change": change, "mode": control.current().name}))
        elif change == "scheduled":
            print(f"{name}: kept for the next boot; {control.current().name} until then")
        else:
            print(f"{control.current().name}: {change}")
        return
    now = control.current()
    modes = control.modes()
    if as_json:
        print(json.dumps({"mode": now.name, "modes": [asdict(mode) for mode in modes]}, indent=2))
        return
    table = Table("power mode", "id", "cores", "change")
    for known in modes:
        change_by = "in effect" if known == now else "at once"
        if known.needs_reboot_from(now):
            change_by = "reboot"
        table.add_row(known.name, str(known.id), str(len(known.cores) or ""), change_by)
    Console().print(table)


def _print_reading(
    power_w: float | None, idle_w: float, joules: float, method: str, as_json: bool
) -> None:
    if as_json:
        reading = {"power_w": power_w, "idle_w": idle_w, "joules": joules, "method": method}
        print(json.dumps(reading), flush=True)
    elif power_w is None:
        print(f"no reading: {method}", flush=True)
    else:
        print(f"{power_w:8.2f} W  ({power_w - idle_w:+.2f} above idle)", flush=True)
