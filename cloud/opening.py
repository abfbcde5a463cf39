"""What a client wants to open, checked against what is served."""

from __future__ import annotations

from typing import cast

from updraft.cloud.context import Terms
from updraft.errors import ProtocolError, RequestError
from updraft.models.bundle import Bundle
from updraft.models.codecs import wire_codec
from updraft.models.constraint import Constraint, ConstraintKind
from updraft.models.logprobs import MOST_LOG_PROBABILITIES
from updraft.models.sampling import LARGEST_TOP_K, Sampling
from updraft.proto.v1 import collaboration_pb2 as pb

# What a client may ask for that coordinators before this did not know.
FEATURES = (
    pb.FEATURE_CONSTRAINT,
    pb.FEATURE_TRUNCATION,
    pb.FEATURE_LOG_PROBABILITIES,
)


class Opening:
    """Turns `Open` frames into terms."""

    def __init__(self, bundle: Bundle) -> None:
        self._fingerprint = bundle.fingerprint
        self._codecs = {
            pb.Codec.Value(f"CODEC_{name.upper()}"): wire_codec(bundle, name)
            for name in bundle.manifest.codecs
        }

    def terms(self, frame: pb.Open) -> Terms:
        """Return what a session is opened with.

        Raises:
            ProtocolError: the client speaks or runs something else than this coordinator.
            RequestError: a number is out of its range.
        """
        if frame.protocol != pb.PROTOCOL_V1:
            raise ProtocolError(
                f"the agent speaks protocol {frame.protocol}, this coordinator "
                f"{pb.PROTOCOL_V1}; upgrade the older side"
            )
        if frame.fingerprint != self._fingerprint:
            raise ProtocolError(
                f"the agent runs model {frame.fingerprint[:12]!r}, this coordinator serves "
                f"{self._fingerprint[:12]!r}; give both the same bundle"
            )
        codec = self._codecs.get(frame.codec)
        if codec is None:
            offered = ", ".join(codec.name for codec in self._codecs.values())
            raise ProtocolError(f"codec {frame.codec} is not one of this bundle's: {offered}")
        if not 0 <= frame.temperature <= 100:
            raise RequestError(f"temperature {frame.temperature} lies outside 0 to 100")
        if frame.inputs not in (pb.INPUTS_STATES, pb.INPUTS_TOKENS):
            raise ProtocolError(f"inputs {frame.inputs} are neither states nor tokens")
        if not 0 <= frame.logits_above <= 1:
            raise RequestError(f"logits_above {frame.logits_above} lies outside 0 to 1")
        above = 0.0 if frame.all_logits else frame.logits_above or None
        return Terms(
            _sampling(frame),
            codec,
            frame.inputs == pb.INPUTS_TOKENS,
            above,
            _constraint(frame),
            frame.constraint.start,
            _log_probabilities(frame),
        )


def _sampling(frame: pb.Open) -> Sampling:
    top_p = frame.top_p if frame.HasField("top_p") else 1.0
    top_k = frame.top_k if frame.HasField("top_k") else None
    if not 0 <= top_p <= 1:
        raise RequestError(f"top_p {top_p} lies outside 0 to 1")
    if top_k is not None and not 1 <= top_k <= LARGEST_TOP_K:
        raise RequestError(f"top_k {top_k} lies outside 1 to {LARGEST_TOP_K}")
    return Sampling(frame.temperature, frame.seed, top_p, top_k)


def _constraint(frame: pb.Open) -> Constraint | None:
    if not frame.HasField("constraint"):
        return None
    return Constraint(cast("ConstraintKind", frame.constraint.kind), frame.constraint.text)


def _log_probabilities(frame: pb.Open) -> int | None:
    if not frame.HasField("log_probabilities"):
        return None
    if frame.log_probabilities > MOST_LOG_PROBABILITIES:
        raise RequestError(
            f"log_probabilities {frame.log_probabilities}: at most {MOST_LOG_PROBABILITIES} are "
            "told"
        )
    return frame.log_probabilities
