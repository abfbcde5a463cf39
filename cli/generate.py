"""`updraft generate`: complete prompts through a bundle in a mode."""

from __future__ import annotations

import json
import os
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console

from updraft.cli.prompt_file import read_prompts
from updraft.cli.render import print_verbatim, source_legend, source_style
from updraft.config import load_config, override
from updraft.devices.budgets.budget import UNITS
from updraft.devices.budgets.quantity import show as shown
from updraft.devices.fit import Load
from updraft.edge.agent import connect
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.governor import Governor
from updraft.edge.metering import open_own_meter
from updraft.edge.request import CLOUD_MODES, MODES, GenerationRequest, Mode, OnOutage, OnStop
from updraft.edge.spending import governed, read_budget
from updraft.edge.ticket import Ticket
from updraft.errors import RequestError
from updraft.models.bundle import open_bundle
from updraft.models.manifest import CodecName
from updraft.models.room import require_room
from updraft.models.shipped import shipped_bundle
from updraft.models.workload import workload_of


def generate(
    prompt: Annotated[str | None, typer.Option(help="Text to complete.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help='JSON lines, each an object with a "prompt".')
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(MODES)}; lossless with --cloud, else standalone."),
    ] = None,
    theta: Annotated[float, typer.Option(help="Confidence from which an exit is taken.")] = 0.8,
    max_tokens: Annotated[int, typer.Option(help="Most new tokens per prompt.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the best token.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Keys the sampling.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="String that ends the text.")] = None,
    wire: Annotated[
        str, typer.Option(help=f"Codec of the states: {', '.join(get_args(CodecName))}.")
    ] = "fp16",
    epsilon: Annotated[
        float, typer.Option(help="Share of committed tokens that may be wrong, for bounded.")
    ] = 0.05,
    weight: Annotated[
        float, typer.Option(help="Of the small models, for contrastive and proxy.")
    ] = 1.0,
    plausibility: Annotated[
        float | None,
        typer.Option(
            help="Share of the best token's probability below which tokens are out, for "
            "contrastive (0.1) and proxy (0)."
        ),
    ] = None,
    stop_at: Annotated[
        float | None, typer.Option(help="Chance of a wrong line from which to stop.")
    ] = None,
    on_stop: Annotated[
        str, typer.Option(help="abstain: end the text there; escalate: the cloud goes on.")
    ] = "abstain",
    max_uplink_bytes: Annotated[
        int | None, typer.Option(help="Payload that auto may send per prompt.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option(help="Per token on average, for auto.")
    ] = None,
    outage: Annotated[
        str | None,
        typer.Option(help="Tokens decoded without the cloud: repair them later, or keep."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run.")] = None,
    tuned: Annotated[
        Path | None, typer.Option(help="Bundle with the tuned small model, for proxy.")
    ] = None,
    cloud: Annotated[str | None, typer.Option(help="HOST:PORT of the coordinator.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="The agent's TOML: [cloud] with [cloud.tls], [compute].")
    ] = None,
    budget_file: Annotated[
        Path | None, typer.Option("--budget", help="File of budgets to keep; counts in the ledger.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="This device's name in the budgets; the host's by default.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per prompt.")
    ] = False,
) -> None:
    """Complete prompts; each token is coloured by where it came from."""
    settings = load_config(EdgeConfig, config, os.environ, "UPDRAFT_EDGE")
    given = {"cloud.address": cloud, "bundle": bundle, "tuned": tuned}
    settings = override(settings, given | {"budget.file": budget_file, "budget.device": device})
    chosen = mode or ("lossless" if settings.cloud.address else "standalone")
    requests = [
        GenerationRequest(
            prompt=text,
            mode=cast("Mode", chosen),  # the request checks both
            theta=theta,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop=tuple(stop or ()),
            wire=cast("CodecName", wire),
            epsilon=epsilon,
            weight=weight,
            plausibility=plausibility,
            stop_at=stop_at,
            on_stop=cast("OnStop", on_stop),
            max_uplink_bytes=max_uplink_bytes,
            max_latency_ms=max_latency_ms,
            outage=cast("OnOutage | None", outage),
            repair_wait_s=settings.decoding.repair_wait_s,
        )
        for text in _prompts(prompt, prompt_file)
    ]
    checked = open_bundle(settings.bundle or shipped_bundle())
    small = open_bundle(settings.tuned) if settings.tuned else None
    budget = read_budget(settings)
    memory = None if budget is None else budget.limit("memory")
    top = None if chosen == "full" else checked.manifest.split
    kept_mib = settings.decoding.prefix_cache_mib
    kept_key = "decoding.prefix_cache_mib"
    load = Load(workload_of(checked), 1, top, kept_mib=kept_mib, kept_key=kept_key)
    require_room(load, small, memory)
    link = connect(settings.cloud, checked) if chosen in CLOUD_MODES else None
    try:
        provider, own_devices = settings.compute.provider, settings.catalog
        with closing(open_own_meter(settings.energy, provider, own_devices=own_devices)) as meter:
            whole = chosen == "full"
            engine = Engine(checked, settings.compute, meter, link, whole, small, kept_mib << 20)
            with governed(engine, settings, budget) as governor:
                for request in requests:
                    _complete(engine, request, as_json, governor, own_mode=mode is not None)
    finally:
        if link is not None:
            link.close()


def _complete(
    engine: Engine,
    request: GenerationRequest,
    as_json: bool,
    governor: Governor | None,
    *,
    own_mode: bool,
) -> None:
    ticket: Ticket | None = None
    if governor is None:
        generation = engine.start(request)
        steps = generation.settled()
    else:
        prompt = engine.tokenizer.encode(request.prompt)
        ticket = governor.admit_or_sleep(request, len(prompt), own_mode=own_mode)
        generation = governor.start(engine, ticket, prompt)
        steps = governor.follow(ticket, generation)
    if as_json:
        for _ in steps:
            pass
        said = generation.result.to_json()
        if governor is not None and ticket is not None:
            said["budget"] = governor.statement(ticket)
        print(json.dumps(said), flush=True)
        return
    out, err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False)
    # What is refused is refused before anything is printed.
    first = list(islice(steps, 1))
    print_verbatim(out, request.prompt, "dim")
    for token in chain(first, steps):
        print_verbatim(out, token.text, source_style(token.source, token.verified))
    out.print()
    result = generation.result
    taken = ", ".join(f"{name} {count}" for name, count in result.decisions.items() if count)
    err.print(
        f"{len(result.tokens)} tokens in {result.total_s:.2f} s ({taken}); cloud calls "
        f"{result.cloud_calls}, {result.uplink_bytes} bytes up, {result.energy.joules:.2f} J "
        f"({result.energy.method})",
        style="dim",
    )
    if governor is not None and ticket is not None:
        err.print(_what_is_left(governor.statement(ticket)), style="dim")
    err.print(source_legend(result.decisions))
    if result.unverified_from is not None:
        err.print(
            f"the coordinator was not there: unverified from position {result.unverified_from}",
            style="bold red",
        )
    elif result.degraded:
        err.print("the coordinator was away; what was decoded meanwhile is mended", style="bold")


def _what_is_left(statement: dict[str, Any]) -> str:
    left = [f"{name} {shown(value, UNITS[name], 4)}" for name, value in statement["left"].items()]
    said = f"left of the budget: {', '.join(left) or 'no line is used up'}"
    if (changed := statement.get("changed_by")) is not None:
        said += f"; {changed['line']} made it {changed['on_exhausted']}"
    if (fault := statement.get("ledger_fault")) is not None:
        said += f"; {fault}"
    return said


def _prompts(prompt: str | None, prompt_file: Path | None) -> list[str]:
    if (prompt is None) == (prompt_file is None):
        raise RequestError("give either --prompt TEXT or --prompt-file FILE.jsonl")
    if prompt is not None:
        return [prompt]
    assert prompt_file is not None, "one of the two is given"
    prompts = list(read_prompts(prompt_file))
    if not prompts:
        raise RequestError(f"{prompt_file}: holds no prompt")
    return prompts
