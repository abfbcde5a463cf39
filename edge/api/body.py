"""What both endpoints take: reading a body within limits, and what is common to their fields."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from updraft.edge.config import Decoding
from updraft.edge.request import CLOUD_MODES, GenerationRequest, Mode, OnOutage, OnStop
from updraft.errors import Busy, RequestError, TooLarge
from updraft.models.constraint import Constraint
from updraft.models.manifest import CodecName

MAX_BODY_BYTES = 4 << 20
# Of all requests that are being read.
_MOST_HELD_BYTES = 64 << 20
_READ_TIMEOUT_S = 30.0
MAX_CHOICES = 16
_MOST_FAULTS = 5


class Strict(BaseModel):
    """A part of a request; what it does not declare is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Extension(Strict):
    """Updraft's own choices, as `extra_body={"updraft": {…}}` of the client.

    Attributes:
        privacy: `local-only`: nothing of this request leaves the device.
    """

    mode: Mode | None = None
    privacy: Literal["local-only"] | None = None
    theta: float | None = None
    wire: CodecName | None = None
    epsilon: float | None = None
    weight: float | None = None
    plausibility: float | None = None
    outage: OnOutage | None = None
    stop_at: float | None = None
    on_stop: OnStop | None = None
    max_uplink_bytes: int | None = None
    max_latency_ms: float | None = None
    exit_layer: int | None = None
    draft_length: int | None = None
    top_k: int | None = None


class StreamOptions(Strict):
    """What a stream says beside its text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class Body(Strict):
    """Fields that both endpoints have.

    Attributes:
        neutral: parameters of the public API that are not served, and the values that change
            nothing.
    """

    neutral: ClassVar[dict[str, tuple[object, ...]]] = {
        "presence_penalty": (0,),
        "frequency_penalty": (0,),
        "logit_bias": ({},),
    }

    model: str | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    updraft: Extension = Extension()
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    # Nothing of these changes an answer of this agent, which keeps no records of its clients.
    user: Any = None
    store: Any = None
    metadata: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None

    @property
    def choices(self) -> int:
        """Answers per prompt."""
        return 1 if self.n is None else self.n

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """Refuse by name what is asked for and not served.

        Raises:
            RequestError: with the first such parameter.
        """
        for name, neutral in self.neutral.items():
            value = getattr(self, name)
            if value is not None and value not in neutral:
                raise RequestError(f"{name} {value!r} is not supported")
        if not 1 <= self.choices <= MAX_CHOICES:
            raise RequestError(f"n {self.n} lies outside 1 to {MAX_CHOICES}")
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options: only with stream true")

    def request(
        self,
        prompt: str,
        tokens: list[int],
        max_tokens: int,
        defaults: Decoding,
        has_cloud: bool,
        *,
        logprobs: int | None = None,
        constraint: Constraint | None = None,
        stop: tuple[str, ...] = (),
        messages: str | None = None,
    ) -> GenerationRequest:
        """Fill what the body leaves open from the configuration.

        Args:
            stop: strings beside those of the body.
            messages: the chat that the prompt is, for modes that send it on.

        Raises:
            RequestError: a value can never be served.
        """
        own, given = self.updraft, self.stop or []
        mode = _mode(own, defaults, has_cloud)
        return GenerationRequest(
            prompt=prompt,
            prompt_tokens=tuple(tokens),
            mode=mode,
            theta=defaults.theta if own.theta is None else own.theta,
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=own.top_k,
            # Without a seed, each request draws anew.
            seed=uuid.uuid4().int >> 65 if self.seed is None else self.seed,
            stop=((given,) if isinstance(given, str) else tuple(given)) + stop,
            messages=messages if mode == "request" else None,
            logprobs=logprobs,
            constraint=constraint,
            wire=own.wire or defaults.wire,
            epsilon=defaults.epsilon if own.epsilon is None else own.epsilon,
            weight=defaults.weight if own.weight is None else own.weight,
            plausibility=defaults.plausibility if own.plausibility is None else own.plausibility,
            stop_at=defaults.stop_at if own.stop_at is None else own.stop_at,
            on_stop=own.on_stop or ("abstain" if own.privacy else defaults.on_stop),
            max_uplink_bytes=own.max_uplink_bytes or defaults.max_uplink_bytes,
            max_latency_ms=own.max_latency_ms or defaults.max_latency_ms,
            outage=own.outage or defaults.outage,
            repair_wait_s=defaults.repair_wait_s,
            exit_layer=own.exit_layer,
            draft_length=own.draft_length,
        )


BodyT = TypeVar("BodyT", bound=Body)


def parse_body(kind: type[BodyT], raw: bytes) -> BodyT:
    """Read a request's body.

    Raises:
        RequestError: it is not JSON, lacks what it needs, or asks for what is not supported.
    """
    try:
        body = kind.model_validate_json(raw)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors()]
        more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
        raise RequestError("; ".join(faults[:_MOST_FAULTS] + more)) from error
    body.check()
    return body


class Inbox:
    """Reads bodies, and bounds what all that are being read take together."""

    def __init__(self) -> None:
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """Return a request's body.

        Raises:
            TooLarge: it is larger than is taken.
            Busy: too much is being read.
            RequestError: it does not come within half a minute.
        """
        body = bytearray()
        try:
            await asyncio.wait_for(self._fill(request, body), _READ_TIMEOUT_S)
        except asyncio.TimeoutError as error:
            raise RequestError(f"the body did not come within {_READ_TIMEOUT_S:g} s") from error
        finally:
            self._held -= len(body)
        return bytes(body)

    async def _fill(self, request: Request, body: bytearray) -> None:
        async for part in request.stream():
            body += part
            self._held += len(part)
            if len(body) > MAX_BODY_BYTES:
                raise TooLarge(f"the request is larger than {MAX_BODY_BYTES} bytes")
            if self._held > _MOST_HELD_BYTES:
                raise Busy(f"more than {_MOST_HELD_BYTES} bytes of requests are being read", 1)


def _mode(own: Extension, defaults: Decoding, has_cloud: bool) -> Mode:
    """Return how a request is worked on.

    Raises:
        RequestError: what it asks for cannot be had together.
    """
    if own.privacy is not None:
        return _local_mode(own, defaults)
    limits = [n for n in ("max_uplink_bytes", "max_latency_ms") if getattr(own, n) is not None]
    mode = own.mode
    if mode is None and limits and has_cloud:
        return "auto"
    mode = mode or defaults.mode or ("lossless" if has_cloud else "standalone")
    if mode not in CLOUD_MODES and limits == ["max_uplink_bytes"]:
        return mode  # it sends nothing
    if limits and mode != "auto":
        raise RequestError(f"updraft.{limits[0]}: mode {mode!r} cannot keep it; 'auto' can")
    return mode


def _local_mode(own: Extension, defaults: Decoding) -> Mode:
    if own.mode in CLOUD_MODES:
        raise RequestError(
            f"updraft.privacy 'local-only': mode {own.mode!r} sends to the coordinator; choose "
            "'standalone' or 'full', or leave the mode out"
        )
    if own.on_stop == "escalate":
        raise RequestError(
            "updraft.privacy 'local-only': on_stop 'escalate' sends to the coordinator"
        )
    if own.max_latency_ms is not None:
        raise RequestError("updraft.max_latency_ms: only mode 'auto' can keep it, which sends")
    configured = None if defaults.mode in CLOUD_MODES else defaults.mode
    return own.mode or configured or ("full" if defaults.whole_model else "standalone")
