"""`updraft cloud`: the coordinator daemon."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from updraft.cli.daemon import announce, set_up_logging
from updraft.config import load_config, override
from updraft.config.endpoint import parse_endpoint, require_tls
from updraft.devices.fit import Load
from updraft.models.bundle import open_bundle
from updraft.models.room import require_room
from updraft.models.sequence import Model
from updraft.models.shipped import shipped_bundle
from updraft.models.workload import workload_of

app = typer.Typer(help="Run the coordinator daemon.", no_args_is_help=True)
_log = logging.getLogger(__name__)


@app.callback()
def _group() -> None:
    """Keep `serve` a subcommand while it is the only one."""


@app.command()
def serve(
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML configuration.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to serve.")] = None,
    print_schema: Annotated[
        bool, typer.Option("--print-schema", help="Print the configuration's JSON schema.")
    ] = False,
) -> None:
    """Serve the upper layers of a bundle to edge agents."""
    # gRPC's server code is imported by this command alone: an edge agent stays light.
    from updraft.cloud.config import CloudConfig
    from updraft.cloud.coordinator import Coordinator

    if print_schema:
        print(json.dumps(CloudConfig.model_json_schema(), indent=2))
        return
    set_up_logging()
    settings = load_config(CloudConfig, config, os.environ, "UPDRAFT_CLOUD")
    settings = override(settings, {"listen": listen, "bundle": bundle})
    require_tls(parse_endpoint(settings.listen), settings.tls)
    checked = open_bundle(settings.bundle or shipped_bundle())
    # Forward passes over many sessions load the layers once more, in pieces.
    load = Load(
        workload_of(checked),
        settings.sessions.max_sessions,
        copies=2,
        kv_limit_mib=settings.sessions.memory_mib,
        kv_limit_key="sessions.memory_mib",
    )
    require_room(load)
    model = Model.load(checked, range(checked.manifest.architecture.layers), settings.compute)

    async def run() -> None:
        stopped = asyncio.Event()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signal_number, stopped.set)
        coordinator = Coordinator(settings, model)
        announce(await coordinator.start())
        _log.info("serving bundle %s %s", checked.manifest.name, checked.fingerprint[:12])
        await stopped.wait()
        _log.info("draining for up to %g s", settings.drain_s)
        await coordinator.stop()

    _run(run())


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run the daemon on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
