"""`updraft fleet`: who is in a fleet, what is planned, and answers by its nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.cli.options import AsJson
from updraft.cli.render import print_verbatim
from updraft.config import load_config, override
from updraft.config.endpoint import parse_endpoint, require_tls
from updraft.errors import ConfigError

if TYPE_CHECKING:
    from updraft.edge.asking import Ended, FleetClient

app = typer.Typer(help="See and ask a fleet of experts.", no_args_is_help=True)

Cloud = Annotated[
    str | None, typer.Option(help="HOST:PORT of the coordinator; by default that of --config.")
]
Config = Annotated[
    Path | None, typer.Option(help="An agent's TOML configuration: address and certificates.")
]


@app.command("list")
def list_nodes(cloud: Cloud = None, config: Config = None, as_json: AsJson = False) -> None:
    """List the nodes of the fleet."""
    with _client(cloud, config) as client:
        nodes = client.plan()["nodes"]
    if as_json:
        print(json.dumps(nodes, indent=2))
        return
    table = Table("node", "expert", "device", "state", "running", "answers", "spent J", "ms/token")
    for node in nodes:
        record = node["record"]
        table.add_row(
            escape(record["node"]),
            escape(record["expert"]),
            escape(record["device"]),
            _state(node),
            str(node["running"]),
            str(node["answers"]),
            f"{node['spent_j']:.1f}",
            f"{record['per_token_ms']:.1f}",
        )
    Console().print(table)


@app.command()
def plan(cloud: Cloud = None, config: Config = None, as_json: AsJson = False) -> None:
    """Show who is on, and why."""
    with _client(cloud, config) as client:
        found = client.plan()
    on = [node["record"] for node in found["nodes"] if node["on"]]
    if as_json:
        found["selected"] = [record["node"] for record in on]
        print(json.dumps(found, indent=2))
        return
    print(f"plan {found['version']}: {len(on)} of {len(found['nodes'])} nodes are on")
    for record in on:
        print(f"  {record['node']}: {record['expert']} on {record['device']}")
    print(
        f"expected quality {found['quality']:.4f} at {found['power_w']:.2f} W; at most "
        f"{found['gap']:.2%} from the best possible"
    )
    if found["quality_per_j"]:
        print(f"a joule must bring {found['quality_per_j']:.4g} of quality")
    print(f"made in {found['planning_s']:.3f} s because of: {found['reason'] or 'nothing yet'}")
    print(f"{found['answering']} requests are being answered, {found['waiting']} wait for a node")


@app.command()
def ask(
    prompt: Annotated[str, typer.Option(help="The text to go on with.")],
    cloud: Cloud = None,
    config: Config = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most as many new tokens.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: the best token each.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    timeout_s: Annotated[float, typer.Option(min=0.001, help="Time for the whole answer.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Answer a prompt by the best node that the plan keeps on."""
    with _client(cloud, config) as client:
        choices = {"temperature": temperature, "seed": seed, "timeout_s": timeout_s}
        if as_json:
            _print_json(client, prompt, max_tokens, choices)
        else:
            _print_as_it_comes(client, prompt, max_tokens, choices)


@contextmanager
def _client(cloud: str | None, config: Path | None) -> Iterator[FleetClient]:
    from updraft.edge.asking import FleetClient
    from updraft.edge.config import EdgeConfig

    settings = load_config(EdgeConfig, config, os.environ, "UPDRAFT_EDGE")
    settings = override(settings, {"cloud.address": cloud})
    if settings.cloud.address is None:
        raise ConfigError(["which coordinator? give --cloud HOST:PORT or --config FILE"])
    endpoint = parse_endpoint(settings.cloud.address)
    require_tls(endpoint, settings.cloud.tls)
    client = FleetClient(endpoint, settings.cloud.tls.read() if settings.cloud.tls else None)
    try:
        yield client
    finally:
        client.close()


def _state(node: dict[str, Any]) -> str:
    if node["leaving"]:
        return "leaving"
    if node["exhausted"]:
        return "out of budget"
    if node["on"]:
        return "on" if node["ready"] else "loading"
    return "parked"


def _print_json(client: FleetClient, prompt: str, max_tokens: int, choices: dict[str, Any]) -> None:
    text, tokens, ended = client.answer(prompt, max_tokens, **choices)
    said = {
        "text": text,
        "tokens": tokens,
        "finish_reason": ended.finish_reason,
        **ended.routed._asdict(),
        "usage": ended.usage,
    }
    print(json.dumps(said))


def _print_as_it_comes(
    client: FleetClient, prompt: str, max_tokens: int, choices: dict[str, Any]
) -> None:
    from updraft.edge.asking import Part, Routed

    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)
    for event in client.ask(prompt, max_tokens, **choices):
        if isinstance(event, Routed):
            if event.attempt:
                out.print()
                said = f"node failed, the answer starts anew at {escape(event.node)}"
                err.print(said, style="bold red")
            print_verbatim(out, prompt, "dim")
        elif isinstance(event, Part):
            print_verbatim(out, event.text, "green")
        else:
            out.print()
            err.print(_summary(event), style="dim")


def _summary(ended: Ended) -> str:
    usage, routed = ended.usage, ended.routed
    return (
        f"{usage['new_tokens']} tokens by {escape(routed.node)} (expert {escape(routed.expert)}, "
        f"expected quality {routed.quality:.2f}) in {usage['latency_ms'] / 1000:.2f} s, "
        f"{usage['energy_j']:.2f} J ({escape(usage['energy_method'])})"
    )
