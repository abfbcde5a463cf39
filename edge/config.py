"""What can be configured of an edge agent."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from updraft.config import Section
from updraft.config.endpoint import TlsFiles
from updraft.edge.request import Mode
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
        mode: by default `threshold` where a coordinator is configured, else `standalone`.
        whole_model: load the layers above the split too, which mode `full` needs.
    """

    mode: Mode | None = None
    theta: float = Field(default=0.8, ge=0, le=2)
    wire: CodecName = "fp16"
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
    """

    bundle: Path | None = None
    api: Api = Api()
    decoding: Decoding = Decoding()
    cloud: Cloud = Cloud()
    compute: RuntimeOptions = RuntimeOptions()
    energy: EnergyModel = EnergyModel()
