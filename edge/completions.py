"""The shapes of `POST /v1/completions`, compatible with OpenAI's."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from updraft.edge.config import Decoding
from updraft.edge.generation import Generation
from updraft.edge.request import GeneratedToken, GenerationRequest, Mode, OnOutage, OnStop
from updraft.errors import RequestError
from updraft.models.manifest import CodecName

# Parameters of the public API that this agent does not have, and the values that change nothing.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "top_p": (1, 1.0),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "suffix": ("",),
    "logit_bias": ({},),
    "logprobs": (),
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Extension(_Body):
    """Updraft's own choices, as `extra_body={"updraft": {…}}` of the client."""

    mode: Mode | None = None
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


class StreamOptions(_Body):
    include_usage: bool = False


class CompletionBody(_Body):
    """Body of a completion request; what is not supported is refused, not ignored."""

    prompt: str | list[str]
    model: str | None = None
    max_tokens: int | None = 16
    temperature: float | None = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    updraft: Extension = Extension()
    n: Any = None
    best_of: Any = None
    echo: Any = None
    top_p: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    suffix: Any = None
    logit_bias: Any = None
    logprobs: Any = None


def parse_body(raw: bytes) -> CompletionBody:
    """Read a request's body.

    Raises:
        RequestError: it is not JSON, lacks a prompt, or asks for what is not supported.
    """
    try:
        body = CompletionBody.model_validate_json(raw)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise RequestError("; ".join(faults)) from error
    for name, neutral in _NEUTRAL.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise RequestError(f"{name} {value!r} is not supported")
    return body


def to_request(body: CompletionBody, defaults: Decoding, has_cloud: bool) -> GenerationRequest:
    """Fill what the body leaves open from the configuration.

    Raises:
        RequestError: a value can never be served.
    """
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    if len(prompts) != 1:
        raise RequestError(f"one prompt per request is served, {len(prompts)} came")
    own, stop = body.updraft, body.stop or []
    return GenerationRequest(
        prompt=prompts[0],
        mode=own.mode or defaults.mode or ("lossless" if has_cloud else "standalone"),
        theta=defaults.theta if own.theta is None else own.theta,
        max_tokens=16 if body.max_tokens is None else body.max_tokens,
        temperature=1.0 if body.temperature is None else body.temperature,
        # Without a seed, each request draws anew.
        seed=uuid.uuid4().int >> 65 if body.seed is None else body.seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        wire=own.wire or defaults.wire,
        epsilon=defaults.epsilon if own.epsilon is None else own.epsilon,
        weight=defaults.weight if own.weight is None else own.weight,
        plausibility=defaults.plausibility if own.plausibility is None else own.plausibility,
        stop_at=defaults.stop_at if own.stop_at is None else own.stop_at,
        on_stop=own.on_stop or defaults.on_stop,
        max_uplink_bytes=own.max_uplink_bytes or defaults.max_uplink_bytes,
        max_latency_ms=own.max_latency_ms or defaults.max_latency_ms,
        outage=own.outage or defaults.outage,
        repair_wait_s=defaults.repair_wait_s,
        exit_layer=own.exit_layer,
        draft_length=own.draft_length,
    )


class Responses:
    """Makes the response objects of one request.

    Args:
        budget: says what is left of the device's budget; called when the answer has ended.
    """

    def __init__(self, model: str, budget: Callable[[], dict[str, Any]] = dict) -> None:
        self._budget = budget
        self._envelope = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def chunk(self, token: GeneratedToken) -> dict[str, Any]:
        """One streamed token; `updraft` says where it came from."""
        return {
            **self._envelope,
            "choices": [_choice(token.text, None)],
            "updraft": {
                "position": token.position,
                "token": token.token,
                "source": token.source,
                "confidence": round(token.confidence, 6),
                "verified": token.verified,
            },
        }

    def last_chunk(self, generation: Generation) -> dict[str, Any]:
        """The chunk that ends a stream; `updraft` holds what the answer cost."""
        return {
            **self._envelope,
            "choices": [_choice("", _finish_reason(generation))],
            "updraft": self._account(generation),
        }

    def usage_chunk(self, generation: Generation) -> dict[str, Any]:
        """The extra chunk that `stream_options.include_usage` asks for."""
        return {**self._envelope, "choices": [], "usage": self._usage(generation)}

    def whole(self, generation: Generation) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        return {
            **self._envelope,
            "choices": [_choice(generation.result.text, _finish_reason(generation))],
            "usage": self._usage(generation),
            "updraft": self._account(generation),
        }

    def _account(self, generation: Generation) -> dict[str, Any]:
        budget = self._budget()
        return generation.result.to_json() | ({"budget": budget} if budget else {})

    def _usage(self, generation: Generation) -> dict[str, Any]:
        result = generation.result
        completion = len(result.tokens)
        return {
            "prompt_tokens": generation.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": generation.prompt_tokens + completion,
            "updraft": {
                "latency_ms": round(1e3 * result.total_s, 3),
                "energy_j": round(result.energy.joules, 6),
                "uplink_bytes": result.uplink_bytes,
                "downlink_bytes": result.downlink_bytes,
                "cloud_tokens": result.cloud_positions,
                **self._budget(),
            },
        }


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _finish_reason(generation: Generation) -> str:
    reason = generation.result.finish_reason
    return "length" if reason == "cancelled" else reason
