"""What can be configured of an edge agent."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from updraft.config import Section
from updraft.config.endpoint import TlsFiles
from updraft.edge.request import Mode, OnOutage, OnStop
from updraft.models.manifest import CodecName
from updraft.models.runtime import RuntimeOptions


class Api(Section):
    """The local HTTP API.

    Attributes:
        listen: HOST:PORT.
        allow_remote: accept a host other than loopback; the API has no authentication.
        max_generations: generations at one time; further ones are refused with 429.
    """

    listen: str = "127.0.0.1:7610"
    allow_remote: bool = False
    max_generations: int = Field(default=4, gt=0, le=1024)


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


class Cloud(Section):
    """The way to the coordinator.

    Attributes:
        address: HOST:PORT; none: the device works alone.
        open_timeout_s: time for a session to open, connecting included.
        answer_timeout_s: time for one token before the edge goes on alone.
    """

    address: str | None = None
    open_timeout_s: float = Field(default=3, gt=0, le=3600)
    answer_timeout_s: float = Field(default=5, gt=0, le=3600)
    tls: TlsFiles | None = None


class EnergyModel(Section):
    """How energy is estimated where there is no meter.

    Attributes:
        active_power_w: power of the busy device above idle.
    """

    active_power_w: float = Field(default=10, ge=0, le=10_000)


class EdgeConfig(Section):
    """Configuration of `updraft edge serve`.

    Attributes:
        bundle: folder of the bundle to run; the shipped one by default.
        tuned: folder of the bundle that holds the tuned small model of mode `proxy`.
    """

    bundle: Path | None = None
    tuned: Path | None = None
    api: Api = Api()
    decoding: Decoding = Decoding()
    cloud: Cloud = Cloud()
    compute: RuntimeOptions = RuntimeOptions()
    energy: EnergyModel = EnergyModel()
