"""What is asked of the engine, and what comes back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from updraft.devices.energy import Energy
from updraft.errors import RequestError
from updraft.models.manifest import CodecName

Mode = Literal["full", "standalone", "cloud", "threshold"]
MODES: tuple[Mode, ...] = get_args(Mode)
CLOUD_MODES: frozenset[Mode] = frozenset({"cloud", "threshold"})

FinishReason = Literal["stop", "length", "cancelled"]

_LARGEST_THETA = 2.0
_LARGEST_TEMPERATURE = 100.0
_MAX_STOP_STRINGS = 16


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and how to complete it; checked when it is made.

    Attributes:
        theta: confidence from which an exit's token is taken; above 1 none is.
        temperature: 0 takes the best token; else sampling keyed by (seed, position).
        stop: strings that end the text; they are not part of it.
        wire: codec of the states that go up.

    Raises:
        RequestError: a value can never be served.
    """

    prompt: str
    mode: Mode = "threshold"
    theta: float = 0.8
    max_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    wire: CodecName = "fp16"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise RequestError(f"mode {self.mode!r} is unknown: choose from {', '.join(MODES)}")
        if not (math.isfinite(self.theta) and 0 <= self.theta <= _LARGEST_THETA):
            raise RequestError(
                f"theta {self.theta} lies outside 0 to {_LARGEST_THETA:g}: 0 takes every token "
                "of the first exit, more than 1 none"
            )
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens {self.max_tokens}: at least 1 is needed")
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= _LARGEST_TEMPERATURE):
            raise RequestError(
                f"temperature {self.temperature} lies outside 0 to {_LARGEST_TEMPERATURE:g}"
            )
        if not 0 <= self.seed < 1 << 63:
            raise RequestError(f"seed {self.seed} lies outside 0 to 2^63 - 1")
        if len(self.stop) > _MAX_STOP_STRINGS or not all(self.stop):
            raise RequestError(f"stop takes up to {_MAX_STOP_STRINGS} strings, none of them empty")
        if self.wire not in get_args(CodecName):
            raise RequestError(
                f"wire codec {self.wire!r} is unknown: choose from {', '.join(get_args(CodecName))}"
            )


class GeneratedToken(NamedTuple):
    """A token as it streams out.

    Attributes:
        position: in the whole text, counted from the start of the prompt.
        text: text that became certain with it; may be empty.
        source: `exit_<layer>` or `cloud`.
        confidence: what the policy read at the exit; from above the split, the probability of the
            best token.
        verified: false while the mode wants the cloud and the cloud is not there.
    """

    position: int
    token: int
    text: str
    source: str
    confidence: float
    verified: bool


@dataclass
class GenerationResult:
    """What a generation gave and what it cost; `to_json` is the documented form.

    Attributes:
        unverified_from: position from which tokens lack the cloud's word; None: none does.
        degraded: the cloud was needed and not there at some point.
    """

    mode: Mode
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason = "length"
    decisions: dict[str, int] = field(default_factory=dict)
    cloud_calls: int = 0
    cloud_positions: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    total_s: float = 0.0
    edge_s: float = 0.0
    cloud_s: float = 0.0
    comm_s: float = 0.0
    energy: Energy = field(default_factory=lambda: Energy(0.0, "not computed"))
    degraded: bool = False
    unverified_from: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "mode": self.mode,
            "tokens": self.tokens,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "decisions": self.decisions,
            "cloud": {
                "calls": self.cloud_calls,
                "tokens": self.cloud_positions,
                "compute_s": round(self.cloud_s, 6),
            },
            "bytes": {"up": self.uplink_bytes, "down": self.downlink_bytes},
            "seconds": {
                "total": round(self.total_s, 6),
                "edge": round(self.edge_s, 6),
                "cloud": round(self.cloud_s, 6),
                "comm": round(self.comm_s, 6),
            },
            "energy": {"joules": round(self.energy.joules, 6), "method": self.energy.method},
            "degraded": self.degraded,
            "unverified_from": self.unverified_from,
        }
