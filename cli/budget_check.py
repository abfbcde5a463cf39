"""`updraft budget check`: which lines a model on a device cannot keep, before it is rolled out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from updraft.cli.options import AsJson, Catalog
from updraft.devices.budgets.budget import UNITS
from updraft.devices.budgets.quantity import show as shown
from updraft.errors import RequestError

if TYPE_CHECKING:
    from updraft.devices.budgets.check import Verdict
    from updraft.devices.budgets.expectation import Way
    from updraft.devices.budgets.options import Option, Options
    from updraft.devices.performance import Estimate

_MISSED = 3
_COLOURS = {"met": "green", "change": "yellow", "unknown": "yellow", "missed": "red"}


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Budgets in TOML.")],
    device: Annotated[str, typer.Option(help="The device, as the file calls it.")],
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="To be run, the shipped one by default; others may follow instead."),
    ] = None,
    mode: Annotated[str, typer.Option(help="full, lossless, cloud or standalone.")] = "full",
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Of a usual request.")] = 128,
    new_tokens: Annotated[int, typer.Option(min=1, help="Of a usual answer.")] = 64,
    requests_per_day: Annotated[
        float | None, typer.Option(min=0, help="Needed for lines per day and per hour.")
    ] = None,
    coordinator: Annotated[
        str, typer.Option(help="What the coordinator runs on: an id of the catalog.")
    ] = "x86",
    round_trip_ms: Annotated[float, typer.Option(min=0, help="To the coordinator.")] = 20.0,
    uplink_mbit: Annotated[float, typer.Option(min=0.001, help="Megabits per second.")] = 10.0,
    catalog: Catalog = None,
    as_json: AsJson = False,
) -> None:
    """Predict which lines a model on this device cannot keep, by how much, and what would.

    The exit code is 3 when a line is missed whatever is changed, or when no single way of working
    keeps all lines.
    """
    from updraft.cli.outlooks import outlooks
    from updraft.devices.budgets.check import check as check_lines
    from updraft.devices.budgets.check import keeps_all
    from updraft.devices.budgets.expectation import Shape
    from updraft.devices.budgets.options import Demand, Options
    from updraft.devices.budgets.read import read_budgets
    from updraft.devices.catalog.entries import find, load_catalog

    for name, value in (
        ("requests-per-day", requests_per_day or 0.0),
        ("round-trip-ms", round_trip_ms),
        ("uplink-mbit", uplink_mbit),
    ):
        if not math.isfinite(value):
            raise RequestError(f"--{name} {value}: a finite number is needed")
    known = load_catalog(catalog)
    budget = read_budgets(file, known).budget(device)
    if budget.model is None:
        close = f'write model = "<id>" into [device.{device}]; `updraft device list` has the ids'
        raise RequestError(f"{file}: what {device!r} is cannot be told: {close}")
    shape = Shape(prompt_tokens, new_tokens)
    way = (find(known, coordinator), round_trip_ms, uplink_mbit * 1e6 / 8)
    found = outlooks(bundle or [], known[budget.model], shape, *way)
    try:
        options = Options(found, Demand(shape, requests_per_day), mode)
    except ValueError as error:
        raise RequestError(str(error)) from error
    verdicts, keeping = check_lines(budget, options), keeps_all(budget, options)
    if as_json:
        document = _document(device, options, verdicts, keeping)
        document["coordinator"] = {"device": coordinator, "round_trip_ms": round_trip_ms}
        print(json.dumps(document, indent=2))
    else:
        _print(device, options, verdicts, keeping)
        print(
            "All figures are predicted from data sheets; nothing has run on this device.\n"
            f"The coordinator is taken for {coordinator}, {round_trip_ms:g} ms away."
        )
    changes = sum(verdict.state == "change" for verdict in verdicts)
    if changes:
        _warn(f"warning: {changes} of {len(verdicts)} lines are kept only by a change")
    if not found[options.asked.bundle].agreement:
        _warn(
            "warning: exits were left out: to compare them with the full depth, the bundle's "
            "prompts.jsonl and ONNX Runtime are needed"
        )
    if keeping is None or any(verdict.state == "missed" for verdict in verdicts):
        raise typer.Exit(_MISSED)


def _warn(text: str) -> None:
    Console(stderr=True).print(text, style="yellow", highlight=False, soft_wrap=True)


def _print(device: str, options: Options, verdicts: list[Verdict], keeping: Option | None) -> None:
    asked, demand = options.asked, options.demand
    console = Console(highlight=False)
    often = "" if demand.requests_per_day is None else f", {demand.requests_per_day:g} a day"
    console.print(f"[bold]{escape(device)}[/] ({options.device.id}): {escape(_way(asked))}")
    shape = demand.shape
    console.print(f"answers of {shape.prompt_tokens} + {shape.new_tokens} tokens{often}")
    heads = [Column(head, no_wrap=True) for head in ("line", "limit", "predicted", "verdict")]
    table = Table(*heads, box=None, padding=(0, 1, 0, 0))
    for verdict in verdicts:
        unit, line = UNITS[verdict.line.name], verdict.line
        said = f"[{_COLOURS[verdict.state]}]{_said(verdict)}[/]"
        table.add_row(line.name, shown(line.limit, unit), _estimate(verdict.expected, unit), said)
    console.print(table)
    for verdict in verdicts:
        if verdict.state in ("change", "missed"):
            _print_remedies(console, verdict, asked)
    if keeping is None:
        console.print("No single way of working keeps all lines.", style="red")
    elif keeping == asked:
        console.print("Run like this, it keeps every line that can be judged.", style="green")
    else:
        said = f"Every line that can be judged is kept with {_change(keeping, asked)}."
        console.print(said, style="yellow", markup=False)


def _print_remedies(console: Console, verdict: Verdict, asked: Option) -> None:
    enough = ""
    if verdict.enough_for is not None:
        what = "of the time" if verdict.line.name == "average_power" else "of the requests"
        enough = f" is enough for {verdict.enough_for:.1%} {what};"
    by = "is kept by" if verdict.remedies else "is missed, whatever is changed"
    console.print(f"{verdict.line.name}, {verdict.line.origin},{enough} {by}", markup=False)
    for option in verdict.remedies:
        if option.kind != "bundle":
            console.print(f"  {_change(option, asked)}", markup=False)
    if bundles := [option.bundle for option in verdict.remedies if option.kind == "bundle"]:
        console.print(f"  another bundle: {', '.join(bundles)}", markup=False)


def _estimate(found: Estimate | None, unit: str) -> str:
    if found is None:
        return "not known"
    middle = shown(found.value, unit, 3)
    if found.low == found.high:
        return middle
    low, high = (shown(value, unit, 2, like=found.value) for value in (found.low, found.high))
    return f"{middle} ({low.split()[0]} to {high.split()[0]})"


def _said(verdict: Verdict) -> str:
    if verdict.expected is None:
        return "give --requests-per-day"
    likely = "" if verdict.is_sure else "likely "
    if verdict.state == "met":
        pauses = "" if verdict.enough_for is None else f" if busy {verdict.enough_for:.0%}"
        return f"{likely}kept{pauses}"
    return f"{likely}missed, {_over(verdict):.3g} ×"


def _over(verdict: Verdict) -> float:
    assert verdict.expected is not None
    return verdict.expected.value / verdict.line.limit


def _way(option: Option) -> str:
    way = option.way
    layer = f" at exit {way.exit_layer}" if way.mode == "standalone" else ""
    drafts = f" with {_drafts(way)}" if way.draft_length else ""
    return f"bundle {option.bundle}, mode {way.mode}{layer}{drafts}, {way.power_mode.name}"


def _change(option: Option, asked: Option) -> str:
    """Say what differs from what is asked for, and what it costs in quality."""
    way, before = option.way, asked.way
    parts = []
    if option.bundle != asked.bundle:
        parts.append(f"bundle {option.bundle}")
    if way.mode != before.mode or (
        way.mode == "standalone" and way.exit_layer != before.exit_layer
    ):
        parts.append(_mode(option))
    elif way.draft_length != before.draft_length:
        parts.append(_drafts(way))
    if way.power_mode != before.power_mode:
        reboot = way.power_mode.needs_reboot or before.power_mode.needs_reboot
        parts.append(f"power mode {way.power_mode.name}" + (" after a reboot" if reboot else ""))
    return ", ".join(parts)


def _drafts(way: Way) -> str:
    return f"{way.draft_length} draft" + "s" * (way.draft_length > 1)


def _mode(option: Option) -> str:
    way = option.way
    if way.mode == "standalone":
        agree = f"{option.expected.quality:.0%} of tokens agree"
        return f"mode standalone at exit {way.exit_layer} ({agree})"
    drafts = f" with {_drafts(way)}" if way.draft_length else ""
    return f"mode {way.mode}{drafts}"


def _document(
    device: str, options: Options, verdicts: Iterable[Verdict], keeping: Option | None
) -> dict[str, Any]:
    demand = options.demand
    return {
        "device": device,
        "model": options.device.id,
        "asked": _option_document(options.asked),
        **asdict(demand.shape),
        "requests_per_day": demand.requests_per_day,
        "predicted": True,
        "lines": [_verdict_document(verdict, options) for verdict in verdicts],
        "all_kept_by": None if keeping is None else _option_document(keeping),
    }


def _verdict_document(verdict: Verdict, options: Options) -> dict[str, Any]:
    line, found = verdict.line, verdict.expected
    return {
        "line": line.name,
        "limit": line.limit,
        "unit": UNITS[line.name],
        "on_exhausted": line.on_exhausted,
        "origin": vars(line.origin),
        "state": verdict.state,
        "sure": verdict.is_sure,
        "expected": None if found is None else vars(found),
        "times_limit": None if found is None else _over(verdict),
        "enough_for": verdict.enough_for,
        "remedies": [
            {"change": _change(option, options.asked), **_option_document(option)}
            for option in verdict.remedies
        ],
    }


def _option_document(option: Option) -> dict[str, Any]:
    return {
        "bundle": option.bundle,
        "mode": option.way.mode,
        "exit_layer": option.way.exit_layer,
        "draft_length": option.way.draft_length,
        "power_mode": option.way.power_mode.name,
        "quality": option.expected.quality,
    }
