"""The fleet's frames into plain values and back; what makes no sense is refused here."""

from __future__ import annotations

import math
import re

from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.registry import Beat, Member
from updraft.errors import ProtocolError
from updraft.proto.v1 import fleet_pb2 as pb

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_VERSION = 128
_MOST_DOMAINS = 64
_LARGEST = 1e9
_MOST_TOKENS = 1 << 20
_MOST_CONCURRENT = 1024


def read_capability(record: pb.CapabilityRecord) -> Capability:
    """Check a node's record.

    Raises:
        ProtocolError: with everything that is wrong with it.
    """
    faults = [
        f"{field} {getattr(record, field)!r}: 1 to 64 of A-Z a-z 0-9 . _ - are needed"
        for field in ("node", "expert", "device")
        if not _NAME.fullmatch(getattr(record, field))
    ]
    if not 0 < len(record.version) <= _LONGEST_VERSION:
        faults.append(f"version has {len(record.version)} characters, not 1 to {_LONGEST_VERSION}")
    if len(record.quality) > _MOST_DOMAINS:
        faults.append(f"quality has {len(record.quality)} domains, more than {_MOST_DOMAINS}")
    else:
        faults += [
            f"quality of {domain[:64]!r} is {value}, not 0 to 1"
            for domain, value in record.quality.items()
            if not (_NAME.fullmatch(domain) and 0 <= value <= 1)
        ]
    for field in ("first_token_ms", "per_token_ms", "prompt_j", "per_token_j", "standby_w"):
        value = getattr(record, field)
        if not (math.isfinite(value) and 0 <= value <= _LARGEST):
            faults.append(f"{field} is {value}, not 0 to {_LARGEST:g}")
    for field, most in (
        ("prompt_tokens", _MOST_TOKENS),
        ("context_length", _MOST_TOKENS),
        ("max_tokens", _MOST_TOKENS),
        ("concurrency", _MOST_CONCURRENT),
    ):
        if not 0 < getattr(record, field) <= most:
            faults.append(f"{field} is {getattr(record, field)}, not 1 to {most}")
    if faults:
        raise ProtocolError(f"the record of node {record.node[:64]!r}: {'; '.join(faults)}")
    return Capability(
        node=record.node,
        expert=record.expert,
        version=record.version,
        revision=record.revision,
        device=record.device,
        quality=dict(record.quality),
        prompt_tokens=record.prompt_tokens,
        first_token_ms=record.first_token_ms,
        per_token_ms=record.per_token_ms,
        prompt_j=record.prompt_j,
        per_token_j=record.per_token_j,
        standby_w=record.standby_w,
        context_length=record.context_length,
        max_tokens=record.max_tokens,
        concurrency=record.concurrency,
    )


def read_beat(beat: pb.Beat) -> Beat:
    """Check a beat.

    Raises:
        ProtocolError: what it spent is no amount of energy.
    """
    if not (math.isfinite(beat.spent_j) and beat.spent_j >= 0):
        raise ProtocolError(f"a beat says that {beat.spent_j} J were spent")
    return Beat(beat.running, beat.spent_j, beat.exhausted, beat.ready, beat.leaving)


def state_frame(member: Member, plan: Plan) -> pb.NodeState:
    """Return what is told of a node."""
    can, beat = member.capability, member.beat
    record = pb.CapabilityRecord(
        node=can.node,
        expert=can.expert,
        version=can.version,
        revision=can.revision,
        device=can.device,
        quality=can.quality,
        prompt_tokens=can.prompt_tokens,
        first_token_ms=can.first_token_ms,
        per_token_ms=can.per_token_ms,
        prompt_j=can.prompt_j,
        per_token_j=can.per_token_j,
        standby_w=can.standby_w,
        context_length=can.context_length,
        max_tokens=can.max_tokens,
        concurrency=can.concurrency,
    )
    return pb.NodeState(
        record=record,
        on=member.name in plan.selected,
        ready=beat.ready,
        exhausted=beat.exhausted,
        leaving=beat.leaving,
        running=member.working,
        spent_j=beat.spent_j,
        answers=member.answers,
    )
