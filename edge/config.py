"""What can be configured of an edge agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from updraft.config import Section
from updraft.config.endpoint import TlsFiles
from updraft.devices.meters.choose import MeterSettings
from updraft.edge.request import Mode, OnOutage, OnStop
from updraft.models.manifest import CodecName
from updraft.models.runtime import RuntimeOptions

# As coordinators take them for names.
NODE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Api(Section):
    """The local HTTP API.

    Attributes:
        listen: HOST:PORT.
        allow_remote: accept a host other than loopback; the API has no authentication.
        max_generations: requests that are answered at one time; further ones wait.
        queue_length: requests that may wait; further ones are refused with 429.
        queue_wait_s: how long one waits at most.
        write_timeout_s: a client that reads nothing of its stream for longer is cut off.
    """

    listen: str = "127.0.0.1:7610"
    allow_remote: bool = False
    max_generations: int = Field(default=4, gt=0, le=1024)
    queue_length: int = Field(default=64, ge=0, le=10_000)
    queue_wait_s: float = Field(default=60, ge=0, le=3600)
    write_timeout_s: float = Field(default=30, gt=0, le=3600)


class Decoding(Section):
    """What a request gets that does not choose for itself.

    Attributes:
        mode: by default `lossless` where a coordinator is configured, else `standalone`.
        theta: confidence from which `threshold` takes an exit's token.
        wire: codec of the states at the split.
        epsilon: share of committed tokens that may be wrong in `bounded`.
        weight: of the small models in `contrastive` and `proxy`.
        plausibility: share of the best token's probability below which tokens are out, in
            `contrastive` and `proxy`; 0: none is. By default 0.1 and 0.
        stop_at, on_stop: chance of a wrong line from which to stop, and whether that means to
            `abstain` or to `escalate`.
        max_uplink_bytes, max_latency_ms: limits that `auto` keeps, per request and per token.
        outage: what becomes of tokens decoded without the cloud, `repair` or `keep`; by default
            modes whose text the whole model decides repair.
        repair_wait_s: how long a complete text waits for the cloud to mend it.
        whole_model: load the layers above the split too, which mode `full` needs.
        prefix_cache_mib: memory for what texts that ended leave to those that begin alike: the
            next turn of a chat, another request with the same instructions. 0: none.
    """

    mode: Mode | None = None
    theta: float = Field(default=0.8, ge=0, le=2)
    wire: CodecName = "fp16"
    epsilon: float = Field(default=0.05, gt=0, lt=1)
    weight: float = Field(default=1, ge=0, le=10)
    plausibility: float | None = Field(default=None, ge=0, le=1)
    stop_at: float | None = Field(default=None, ge=0, le=1)
    on_stop: OnStop = "abstain"
    max_uplink_bytes: int | None = Field(default=None, gt=0)
    max_latency_ms: float | None = Field(default=None, gt=0)
    outage: OnOutage | None = None
    repair_wait_s: float = Field(default=10, ge=0, le=3600)
    whole_model: bool = False
    prefix_cache_mib: int = Field(default=64, ge=0, le=1 << 20)


class Cloud(Section):
    """The way to the coordinator.

    Attributes:
        address: HOST:PORT; none: the device works alone.
        open_timeout_s: time for a session to open, connecting included.
        answer_timeout_s: time for one token before the edge goes on alone.
        text_timeout_s: likewise for the next piece of text in mode `request`, its turn at the
            coordinator's backend included.
    """

    address: str | None = None
    open_timeout_s: float = Field(default=3, gt=0, le=3600)
    answer_timeout_s: float = Field(default=5, gt=0, le=3600)
    text_timeout_s: float = Field(default=60, gt=0, le=3600)
    tls: TlsFiles | None = None


class DeclaredSpeed(Section):
    """What an answer takes, where it is known better than by a measurement at the start.

    Attributes:
        prompt_tokens: length of the prompt that `first_token_ms` and `prompt_j` are for.
        per_token_ms, per_token_j: of each further token.
    """

    prompt_tokens: int = Field(gt=0)
    first_token_ms: float = Field(ge=0)
    per_token_ms: float = Field(ge=0)
    prompt_j: float = Field(ge=0)
    per_token_j: float = Field(ge=0)


class NodeConfig(Section):
    """This device as a node of a fleet, which answers prompts of others.

    Attributes:
        enabled: join the fleet of the coordinator.
        name: one that no other node has; by default the host's.
        coordinator: HOST:PORT; by default that of `[cloud]`.
        expert: what the gate calls the bundle; by default the bundle's name.
        device: id of the catalog's entry; by default what the probe finds.
        mode: how answers are decoded; `full` loads the layers above the split too.
        concurrency: answers at one time.
        max_tokens: the longest answer that it gives.
        standby_w: what keeping the expert ready takes, beyond the parked node.
        drain_s: time that running answers get to end when the agent is asked to stop.
        quality: measured on held-out prompts, by domain; by default what the bundle says.
        speed: declared; by default it is measured when the agent starts. Answers correct either.
    """

    enabled: bool = False
    name: str | None = Field(default=None, pattern=NODE_NAME)
    coordinator: str | None = None
    expert: str | None = Field(default=None, pattern=NODE_NAME)
    device: str | None = Field(default=None, pattern=NODE_NAME)
    mode: Mode = "full"
    concurrency: int = Field(default=1, gt=0, le=64)
    max_tokens: int = Field(default=1024, gt=0, le=1 << 20)
    standby_w: float = Field(default=0, ge=0, le=10_000)
    drain_s: float = Field(default=5, ge=0, le=3600)
    quality: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    speed: DeclaredSpeed | None = None


class BudgetConfig(Section):
    """What this device may spend.

    Attributes:
        file: of budgets; none: nothing is limited, and nothing is written down.
        device: its name in that file; by default the host's.
        ledger: file that keeps what was spent; by default
            `~/.local/state/updraft/ledger-<device>.sqlite`.
        on_ledger_fault: while the ledger cannot be written, `serve` and count in memory, or
            `refuse` every request.
        queue_length: requests that may wait where a line says `queue`; further ones get 429.
        queue_wait_s: how long one waits at most.
    """

    file: Path | None = None
    device: str | None = None
    ledger: Path | None = None
    on_ledger_fault: Literal["serve", "refuse"] = "serve"
    queue_length: int = Field(default=16, ge=0, le=10_000)
    queue_wait_s: float = Field(default=30, ge=0, le=3600)


class EdgeConfig(Section):
    """Configuration of `updraft edge serve`.

    Attributes:
        bundle: folder of the bundle to run; the shipped one by default.
        tuned: folder of the bundle that holds the tuned small model of mode `proxy`.
        catalog: file or folder of devices that are not in the catalog, or are otherwise here.
    """

    bundle: Path | None = None
    tuned: Path | None = None
    catalog: Path | None = None
    api: Api = Api()
    decoding: Decoding = Decoding()
    cloud: Cloud = Cloud()
    compute: RuntimeOptions = RuntimeOptions()
    energy: MeterSettings = MeterSettings()
    node: NodeConfig = NodeConfig()
    budget: BudgetConfig = BudgetConfig()
