"""`updraft edge`: the agent daemon on a device."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from updraft.cli.daemon import announce, set_up_logging
from updraft.config import load_config, override
from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle

app = typer.Typer(help="Run the edge agent.", no_args_is_help=True)
_log = logging.getLogger(__name__)


@app.callback()
def _group() -> None:
    """Keep `serve` a subcommand while it is the only one."""


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT of the local API.")] = None,
    cloud: Annotated[str | None, typer.Option(help="HOST:PORT of the coordinator.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run.")] = None,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the configuration's JSON schema.")
    ] = False,
) -> None:
    """Complete text on this device, with the coordinator's help, behind a local HTTP API."""
    from updraft.edge.agent import Agent
    from updraft.edge.config import EdgeConfig

    if print_schema:
        print(json.dumps(EdgeConfig.model_json_schema(), indent=2))
        return
    set_up_logging()
    # The HTTP server ends in order at these signals and then raises them anew.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    settings = load_config(EdgeConfig, config, os.environ, "UPDRAFT_EDGE")
    given = {"api.listen": listen, "cloud.address": cloud, "bundle": bundle}
    settings = override(settings, given)
    agent = Agent(settings)
    endpoint = agent.bind()
    checked = open_bundle(settings.bundle or shipped_bundle())
    tuned = open_bundle(settings.tuned) if settings.tuned else None
    agent.require_room(checked, tuned)
    announce(endpoint)
    _log.info("running bundle %s %s", checked.manifest.name, checked.fingerprint[:12])
    agent.serve(checked, tuned)
