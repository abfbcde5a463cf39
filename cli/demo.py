"""`updraft demo`: coordinator and agent on loopback, real prompts, the modes side by side."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from updraft.cli.daemon import running
from updraft.cli.prompt_file import read_prompts
from updraft.cli.render import print_verbatim, source_legend, source_style
from updraft.config.endpoint import Endpoint
from updraft.errors import BundleError, LinkBroken
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.shipped import shipped_bundle

_MODES = ("standalone", "threshold", "lossless", "cloud")
_SHOWN_MODE = "lossless"
_SHOWN = 2
_SHOWN_LINES = 10
_TIMEOUT_S = 60


@dataclass
class ModeTotals:
    """What one mode did over all prompts of the demo.

    Attributes:
        same_tokens: tokens equal to those of `cloud`, up to the first that differs.
    """

    mode: str
    seconds: float = 0.0
    tokens: int = 0
    decisions: dict[str, int] = field(default_factory=dict)
    cloud_calls: int = 0
    uplink_bytes: int = 0
    energy_j: float = 0.0
    same_tokens: int = 0


def demo(
    prompts: Annotated[int, typer.Option(min=1, max=200, help="Prompts to complete.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, max=256, help="New tokens per prompt.")] = 64,
    theta: Annotated[float, typer.Option(min=0, max=2, help="Exit threshold.")] = 0.8,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the best token.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the totals as JSON.")] = False,
) -> None:
    """Complete held-out Python source across an edge agent and a coordinator on this machine."""
    console = Console(highlight=False, soft_wrap=True, quiet=as_json)
    bundle = open_bundle(shipped_bundle())
    samples = _read_samples(bundle, prompts)
    local = "127.0.0.1:0"
    with (
        running(["cloud", "serve", "--listen", local]) as coordinator,
        running(["edge", "serve", "--listen", local, "--cloud", str(coordinator)]) as agent,
    ):
        console.print(f"coordinator on {coordinator}, edge agent on {agent}\n", style="dim")
        totals = {mode: ModeTotals(mode) for mode in _MODES}
        for number, prompt in enumerate(samples):
            answers = {}
            for mode in reversed(_MODES):
                body = {
                    "prompt": prompt,
                    "max_tokens": max_tokens,
                    "temperature": temperature,
                    "seed": number,
                    "updraft": {"mode": mode, "theta": theta},
                }
                shown = number < _SHOWN and mode == _SHOWN_MODE
                if shown:
                    print_verbatim(console, _last_lines(prompt), "dim")
                started = perf_counter()
                answers[mode] = _complete(agent, body, console if shown else None)
                totals[mode].seconds += perf_counter() - started
                _add(totals[mode], answers[mode], answers["cloud"])
            if number < _SHOWN:
                console.print("\n" + "─" * 40 + "\n", style="dim")
        console.print(source_legend(totals[_SHOWN_MODE].decisions))
    if as_json:
        print(json.dumps([asdict(total) for total in totals.values()], indent=2))
    else:
        console.print(_table(totals, theta, len(samples), temperature), soft_wrap=False)


def _read_samples(bundle: Bundle, count: int) -> list[str]:
    path = bundle.path("prompts.jsonl")
    if not path.is_file():
        raise BundleError(f"{path}: missing; the demo completes the prompts that came with it")
    # A stride spreads the demo over many files.
    prompts = list(read_prompts(path))
    return prompts[:: max(1, len(prompts) // count)][:count]


def _last_lines(prompt: str) -> str:
    return "".join(prompt.splitlines(keepends=True)[-_SHOWN_LINES:])


def _complete(agent: Endpoint, body: dict[str, Any], console: Console | None) -> dict[str, Any]:
    """Stream one completion from the agent; returns what it cost."""
    last: dict[str, Any] = {}
    for event in _events(agent, body | {"stream": True}):
        if "error" in event:
            raise LinkBroken(f"agent {agent}: {event['error']['message']}")
        choice, last = event["choices"][0], event["updraft"]
        if console is not None and "source" in last:
            style = source_style(last["source"], last["verified"])
            print_verbatim(console, choice["text"], style)
    return last


def _events(agent: Endpoint, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    request = urllib.request.Request(  # our own agent on loopback
        f"http://{agent}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        for line in response:
            data = line.decode().strip().removeprefix("data: ")
            if data.startswith("{"):
                yield json.loads(data)


def _add(total: ModeTotals, answer: dict[str, Any], reference: dict[str, Any]) -> None:
    tokens, expected = answer["tokens"], reference["tokens"]
    total.tokens += len(tokens)
    for source, count in answer["decisions"].items():
        total.decisions[source] = total.decisions.get(source, 0) + count
    total.cloud_calls += answer["cloud"]["calls"]
    total.uplink_bytes += answer["bytes"]["up"]
    total.energy_j += answer["energy"]["joules"]
    pairs = zip(tokens, expected, strict=False)
    total.same_tokens += next(
        (i for i, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(expected))
    )


def _table(totals: dict[str, ModeTotals], theta: float, prompts: int, temperature: float) -> Table:
    sampling = "greedy" if temperature == 0 else f"temperature {temperature:g}"
    title = f"{prompts} held-out prompts, {sampling}, θ = {theta:g}, loopback"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    sources = [name for name in totals["threshold"].decisions if name.startswith("exit_")]
    shown = [
        name for name in sources if any(total.decisions.get(name) for total in totals.values())
    ]
    columns = ("mode", "seconds", "tokens", *shown, "cloud", "calls", "KB up", "edge J", "same")
    for name in columns:
        table.add_column(
            name.replace("_", " "), no_wrap=True, justify="left" if name == "mode" else "right"
        )
    for total in totals.values():
        table.add_row(
            total.mode,
            f"{total.seconds:.2f}",
            str(total.tokens),
            *(f"{total.decisions.get(name, 0)}" for name in shown),
            f"{total.decisions.get('cloud', 0)}",
            str(total.cloud_calls),
            f"{total.uplink_bytes / 1000:.0f}",
            f"{total.energy_j:.2f}",
            f"{total.same_tokens / max(1, total.tokens):.0%}",
        )
    table.caption = (
        "cloud: tokens that it replaced or was asked for; calls: its answers, a token or a verdict "
        "on several; edge J: modelled; same: tokens equal to those of mode cloud up to the first "
        "that differs. On loopback the network costs nothing, so time says little here: "
        "docs/results/collab.md"
    )
    table.caption_justify = "left"
    return table
