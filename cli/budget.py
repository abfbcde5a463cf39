"""`updraft budget`: what each device may spend, and whether a model can keep to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.cli import budget_check
from updraft.cli.options import AsJson, Catalog
from updraft.cli.output_file import write_whole
from updraft.devices.budgets.budget import LINES, UNITS, Line, LineName, OnExhausted, Origin
from updraft.devices.budgets.budget_file import BudgetFile
from updraft.devices.budgets.quantity import parse
from updraft.devices.budgets.quantity import show as shown
from updraft.devices.budgets.read import parse_budgets, read_budgets
from updraft.devices.budgets.resolve import Lifted, Lines
from updraft.devices.catalog.entries import load_catalog
from updraft.errors import ConfigError, RequestError

app = typer.Typer(help="Show, change and check what each device may spend.", no_args_is_help=True)
app.command("check")(budget_check.check)

File = Annotated[Path, typer.Argument(metavar="FILE", help="Budgets in TOML.")]


class Action(str, Enum):
    """What an agent can do when a line is exhausted."""

    standalone = "standalone"
    shallower_exits = "shallower_exits"
    refuse = "refuse"
    queue = "queue"


@app.command("show")
def show_budgets(
    file: File,
    device: Annotated[str | None, typer.Option(help="Only what applies to this device.")] = None,
    catalog: Catalog = None,
    as_json: AsJson = False,
) -> None:
    """Show every line that applies, what happens at its end, and where it is written.

    Energies count what a device draws above idle, powers what it draws in all.
    """
    budgets = read_budgets(file, load_catalog(catalog))
    if device is not None:
        lines = budgets.lines(device)
        if as_json:
            print(json.dumps(_document(device, budgets.devices[device].model, lines), indent=2))
            return
        _print(budgets, [(_name(device, budgets), lines)])
        return
    if as_json:
        print(json.dumps(_fleet_document(budgets), indent=2))
        return
    owners = [
        ("each device that says nothing else", budgets.each.lines),
        ("all devices together", budgets.together.lines),
        *((_name(name, budgets), budgets.lines(name)) for name in budgets.devices),
    ]
    _print(budgets, owners)


@app.command("set")
def set_line(
    file: File,
    line: Annotated[str, typer.Argument(metavar="LINE", help=f"One of {', '.join(LINES)}.")],
    limit: Annotated[
        str, typer.Argument(metavar="LIMIT", help='With its unit, as "15 kJ"; false lifts it.')
    ],
    device: Annotated[str, typer.Option(help="The device whose budget changes.")],
    on_exhausted: Annotated[
        Action | None, typer.Option(help="What then happens; as before by default.")
    ] = None,
    catalog: Catalog = None,
) -> None:
    """Change one line of one device in the file; comments and everything else stay.

    The result is checked first: a change that contradicts the rest is not written.
    """
    from updraft.devices.budgets.edit import with_line

    known = load_catalog(catalog)
    budgets = read_budgets(file, known)
    name = _line_name(line)
    written = None if limit.strip().lower() == "false" else limit.strip()
    if written is not None:
        try:
            parse(written, UNITS[name])
        except ValueError as error:
            raise RequestError(f"{name}: {error}") from error
    action = cast("OnExhausted | None", on_exhausted and on_exhausted.value)
    path = file.resolve()
    text = path.read_bytes().decode()
    changed = with_line(text, budgets, device, name, written, action)
    try:
        after = parse_budgets(changed, str(file), known)
    except ConfigError as error:
        said = "nothing was written, for this would be wrong:"
        raise ConfigError([said, *error.faults]) from error
    write_whole(path, lambda half: _write(half, changed, path))
    before = budgets.lines(device).get(name)
    print(f"{device}: {name} {_said(after.lines(device)[name])}; it was {_said(before)}")


def _write(half: Path, text: str, path: Path) -> None:
    half.write_bytes(text.encode())
    shutil.copymode(path, half)


def _line_name(text: str) -> LineName:
    for name in LINES:
        if text == name:
            return name
    close = get_close_matches(text, LINES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(LINES)}"
    raise RequestError(f"there is no line {text!r}; {hint}")


def _said(line: Line | Lifted | None) -> str:
    if line is None:
        return "not limited"
    if isinstance(line, Lifted):
        return f"lifted ({line.origin})"
    return f"{_limit(line)}, then {line.on_exhausted} ({line.origin})"


def _name(device: str, budgets: BudgetFile) -> str:
    model = budgets.devices[device].model
    return f"{device} ({model})" if model else device


def _print(budgets: BudgetFile, owners: list[tuple[str, Lines]]) -> None:
    console = Console(highlight=False)
    limits = [_cells(line) for _, lines in owners for line in lines.values()]
    widths = [max(len(cell) for cell in column) for column in zip(*limits, strict=True)]
    for owner, lines in owners:
        console.print(f"\n[bold]{escape(owner)}[/]" + ("" if lines else ": nothing is limited"))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for width in (max(map(len, LINES)), *widths):
            table.add_column(no_wrap=True, min_width=width)
        for name in LINES:
            if name in lines:
                table.add_row(f"  {name}", *_cells(lines[name]), _place(lines[name].origin))
        console.print(table)
    console.print(f"\n{escape(budgets.path)}: line, limit, what happens at its end, place")


def _place(origin: Origin) -> str:
    return escape(f"{Path(origin.file).name}:{origin.line} [{origin.section}]")


def _cells(line: Line | Lifted) -> tuple[str, str]:
    if isinstance(line, Lifted):
        return "not limited", ""
    # What all spend together is planned; no device does anything at its end.
    return _limit(line), "" if line.origin.section == "total" else line.on_exhausted


def _limit(line: Line) -> str:
    window = "" if line.window_s is None else f" over {shown(1e3 * line.window_s, 'ms')}"
    return shown(line.limit, UNITS[line.name]) + window


def _fleet_document(budgets: BudgetFile) -> dict[str, Any]:
    return {
        "fleet": _lines_document(budgets.each.lines),
        "total": _lines_document(budgets.together.lines),
        "devices": [
            _document(name, scope.model, budgets.lines(name))
            for name, scope in budgets.devices.items()
        ],
    }


def _document(device: str, model: str | None, lines: Lines) -> dict[str, Any]:
    return {"device": device, "model": model, "lines": _lines_document(lines)}


def _lines_document(lines: Lines) -> Mapping[str, Any]:
    return {
        name: {
            "limit": line.limit,
            "unit": UNITS[name],
            "shown": _limit(line),
            "on_exhausted": line.on_exhausted,
            "window_s": line.window_s,
            "origin": vars(line.origin),
        }
        if isinstance(line, Line)
        else {"limit": None, "unit": UNITS[name], "origin": vars(line.origin)}
        for name, line in lines.items()
    }
