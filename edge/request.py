"""What is asked of the engine, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from updraft.devices.meters.meter import Energy
from updraft.devices.usage import Usage
from updraft.errors import RequestError
from updraft.models.constraint import Constraint
from updraft.models.logprobs import MOST_LOG_PROBABILITIES
from updraft.models.manifest import CodecName
from updraft.models.sampling import LARGEST_TOP_K, Sampling

Mode = Literal[
    "full",
    "standalone",
    "cloud",
    "threshold",
    "lossless",
    "bounded",
    "ids",
    "contrastive",
    "proxy",
    "auto",
    "request",
]
MODES: tuple[Mode, ...] = get_args(Mode)
CLOUD_MODES: frozenset[Mode] = frozenset(MODES) - {"full", "standalone"}
# Modes that combine the whole model's logits with those of small models on the edge.
COMBINED_MODES: frozenset[Mode] = frozenset({"contrastive", "proxy"})
# Modes whose text the whole model decides: after an outage they mend what was decoded meanwhile.
EXACT_MODES: frozenset[Mode] = COMBINED_MODES.union({"cloud", "lossless", "ids", "auto"})

OnOutage = Literal["repair", "keep"]
OnStop = Literal["abstain", "escalate"]
# Modes in which the edge looks at exits, so that it can foresee a wrong continuation.
STOPPING_MODES: frozenset[Mode] = frozenset({"standalone", "threshold", "lossless", "bounded"})

FinishReason = Literal["stop", "length", "abstained", "cancelled"]

_LARGEST_THETA = 2.0
_LARGEST_TEMPERATURE = 100.0
_LARGEST_WEIGHT = 10.0
_CONTRASTIVE_PLAUSIBILITY = 0.1
_MAX_STOP_STRINGS = 16
_LONGEST_REPAIR_WAIT_S = 3600.0


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt and how to complete it; checked when it is made.

    Attributes:
        theta: confidence from which an exit's token is taken; above 1 none is.
        temperature: 0 takes the best token; else sampling keyed by (seed, position).
        stop: strings that end the text; they are not part of it.
        wire: codec of the states at the split.
        epsilon: share of committed tokens that may be wrong, in `bounded`.
        weight: of the small models in `contrastive` and `proxy`; 0 leaves the whole model alone.
        plausibility: tokens less probable than this share of the whole model's best one are out,
            in `contrastive` and `proxy`; 0: none is. By default 0.1 and 0.
        stop_at: chance of a wrong line from which to STOP; None: never.
        on_stop: what STOP does: `abstain` ends the text there, `escalate` lets the cloud decode
            the rest.
        max_uplink_bytes: payload that `auto` may send for this request; None: any.
        max_latency_ms: per token on average, which `auto` keeps if any mode can; None: any.
        outage: what becomes of tokens that the edge decoded alone: `repair` mends them when the
            cloud is back, `keep` leaves them; by default, modes whose text the whole model
            decides repair.
        repair_wait_s: how long a complete text waits for the cloud to be back and mend it.
        exit_layer: deepest exit that `standalone` computes; None: the last one on the edge.
        draft_length: drafts that may be open at one time in modes that draft ahead; None: as many
            as are likely to save time.
        messages: the chat that the prompt is, as a JSON array, which `request` sends up in its
            place: another model has another template.
        top_p: tokens are drawn from the most probable ones that together have this probability.
        top_k: tokens are drawn from so many of the most probable ones; None: from all.
        constraint: what the completion must be, in every mode; None: anything.
        logprobs: so many of the most probable tokens are told beside each, with the logarithms
            of their probabilities; None: nothing is told.
        prompt_tokens: the prompt, where it is tokenized already; `prompt` is then for `messages`
            and `stop_at` alone.

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
    epsilon: float = 0.05
    weight: float = 1.0
    plausibility: float | None = None
    stop_at: float | None = None
    on_stop: OnStop = "abstain"
    max_uplink_bytes: int | None = None
    max_latency_ms: float | None = None
    outage: OnOutage | None = None
    repair_wait_s: float = 10.0
    exit_layer: int | None = None
    draft_length: int | None = None
    messages: str | None = None
    top_p: float = 1.0
    top_k: int | None = None
    constraint: Constraint | None = None
    logprobs: int | None = None
    prompt_tokens: tuple[int, ...] | None = None

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        return Sampling(self.temperature, self.seed, self.top_p, self.top_k)

    @property
    def on_outage(self) -> OnOutage:
        """What becomes of tokens that the edge decoded alone; a backend takes up no answer."""
        if self.mode == "request":
            return "keep"
        return self.outage or ("repair" if self.mode in EXACT_MODES else "keep")

    @property
    def plausible_from(self) -> float:
        """Share of the best token's probability from which a token is plausible; 0: all are."""
        if self.plausibility is not None:
            return self.plausibility
        return _CONTRASTIVE_PLAUSIBILITY if self.mode == "contrastive" else 0.0

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_sampling()
        self._check_limits()

    def _check_choices(self) -> None:
        for what, value, known in (
            ("mode", self.mode, MODES),
            ("wire codec", self.wire, get_args(CodecName)),
            ("outage", self.outage or "keep", get_args(OnOutage)),
            ("on_stop", self.on_stop, get_args(OnStop)),
        ):
            if value not in known:
                raise RequestError(f"{what} {value!r} is unknown: choose from {', '.join(known)}")
        if not (math.isfinite(self.theta) and 0 <= self.theta <= _LARGEST_THETA):
            raise RequestError(
                f"theta {self.theta} lies outside 0 to {_LARGEST_THETA:g}: 0 takes every token "
                "of the first exit, more than 1 none"
            )
        if self.stop_at is not None:
            self._check_stop(self.stop_at)
        if not 0 < self.epsilon < 1:
            raise RequestError(f"epsilon {self.epsilon} must lie between 0 and 1")
        if not (math.isfinite(self.weight) and 0 <= self.weight <= _LARGEST_WEIGHT):
            raise RequestError(f"weight {self.weight} lies outside 0 to {_LARGEST_WEIGHT:g}")
        if self.plausibility is not None and not 0 <= self.plausibility <= 1:
            raise RequestError(f"plausibility {self.plausibility} lies outside 0 to 1")

    def _check_stop(self, stop_at: float) -> None:
        if not 0 <= stop_at <= 1:
            raise RequestError(f"stop_at {stop_at} lies outside 0 to 1")
        if self.mode not in STOPPING_MODES:
            raise RequestError(
                f"stop_at: mode {self.mode!r} cannot foresee a wrong line; "
                f"choose from {', '.join(mode for mode in MODES if mode in STOPPING_MODES)}"
            )
        if self.on_stop == "escalate" and self.mode == "standalone":
            raise RequestError("on_stop 'escalate' needs a cloud, 'standalone' has none: abstain")

    def _check_sampling(self) -> None:
        if not (math.isfinite(self.temperature) and 0 <= self.temperature <= _LARGEST_TEMPERATURE):
            raise RequestError(
                f"temperature {self.temperature} lies outside 0 to {_LARGEST_TEMPERATURE:g}"
            )
        if not 0 <= self.seed < 1 << 63:
            raise RequestError(f"seed {self.seed} lies outside 0 to 2^63 - 1")
        if not 0 <= self.top_p <= 1:
            raise RequestError(f"top_p {self.top_p} lies outside 0 to 1")
        if self.top_k is not None and not 1 <= self.top_k <= LARGEST_TOP_K:
            raise RequestError(f"top_k {self.top_k} lies outside 1 to {LARGEST_TOP_K}")
        if self.logprobs is not None and not 0 <= self.logprobs <= MOST_LOG_PROBABILITIES:
            raise RequestError(
                f"logprobs {self.logprobs}: 0 to {MOST_LOG_PROBABILITIES} tokens are told"
            )

    def _check_limits(self) -> None:
        if self.max_tokens < 1:
            raise RequestError(f"max_tokens {self.max_tokens}: at least 1 is needed")
        if len(self.stop) > _MAX_STOP_STRINGS or not all(self.stop):
            raise RequestError(f"stop takes up to {_MAX_STOP_STRINGS} strings, none of them empty")
        for name in ("max_uplink_bytes", "max_latency_ms"):
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise RequestError(f"{name} {limit}: more than 0 is needed")
        if self.exit_layer is not None and self.mode != "standalone":
            raise RequestError(f"exit_layer: mode {self.mode!r} has no choice; 'standalone' has")
        if self.draft_length is not None and self.draft_length < 1:
            raise RequestError(f"draft_length {self.draft_length}: at least 1 is needed")
        if not 0 <= self.repair_wait_s <= _LONGEST_REPAIR_WAIT_S:
            raise RequestError(
                f"repair_wait_s {self.repair_wait_s} lies outside 0 to {_LONGEST_REPAIR_WAIT_S:g}"
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
        logprob: the logarithm of its probability where it was decided; None: not asked for, or
            not known.
        top_logprobs: the same of the most probable tokens there, best first.
    """

    position: int
    token: int
    text: str
    source: str
    confidence: float
    verified: bool
    logprob: float | None = None
    top_logprobs: Sequence[tuple[int, float]] = ()


@dataclass
class GenerationResult:
    """What a generation gave and what it cost; `to_json` is the documented form.

    Attributes:
        mode, wire: as asked; where `auto` was asked, what it chose.
        stalls: times that nothing could be done but wait for the cloud.
        judged: drafts that the cloud judged, and `agreed`, those it would have drawn too.
        foreseen: replaced drafts whose replacement was foreseen, so that it cost no round trip.
        unverified_from: position from which tokens lack the cloud's word; None: none does.
        degraded: the cloud was needed and not there at some point.
        alone: no other generation of this engine ran at any moment of it.
        cached_tokens: of the prompt, those that an earlier text had computed.
    """

    mode: Mode
    wire: CodecName = "fp16"
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason = "length"
    decisions: dict[str, int] = field(default_factory=dict)
    cloud_calls: int = 0
    cloud_positions: int = 0
    stalls: int = 0
    judged: int = 0
    agreed: int = 0
    foreseen: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    total_s: float = 0.0
    edge_s: float = 0.0
    cloud_s: float = 0.0
    comm_s: float = 0.0
    energy: Energy = field(default_factory=lambda: Energy(0.0, "not computed"))
    degraded: bool = False
    unverified_from: int | None = None
    alone: bool = True
    cached_tokens: int = 0

    @property
    def usage(self) -> Usage:
        """What it cost, from the start of decoding on."""
        return Usage(
            1e3 * self.total_s,
            self.energy.joules,
            self.uplink_bytes,
            self.downlink_bytes,
            self.cloud_positions,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return {
            "mode": self.mode,
            "wire": self.wire,
            "tokens": self.tokens,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "decisions": self.decisions,
            "cloud": {
                "calls": self.cloud_calls,
                "tokens": self.cloud_positions,
                "compute_s": round(self.cloud_s, 6),
                "stalls": self.stalls,
                "judged": self.judged,
                "agreed": self.agreed,
                "foreseen": self.foreseen,
            },
            "bytes": {"up": self.uplink_bytes, "down": self.downlink_bytes},
            "seconds": {
                "total": round(self.total_s, 6),
                "edge": round(self.edge_s, 6),
                "cloud": round(self.cloud_s, 6),
                "comm": round(self.comm_s, 6),
            },
            "cached_tokens": self.cached_tokens,
            "energy": {"joules": round(self.energy.joules, 6), "method": self.energy.method},
            "degraded": self.degraded,
            "unverified_from": self.unverified_from,
        }
