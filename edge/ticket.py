"""Leave to work on a request, within a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from updraft.devices.budgets.admission import Admitted
from updraft.devices.budgets.point import OperatingPoint
from updraft.edge.request import STOPPING_MODES, GenerationRequest, Mode


@dataclass(frozen=True)
class Ticket:
    """What the governor gives: have it `start` and `follow` the request, or `release` the ticket.

    Attributes:
        request: how it is to be worked on.
        started_at: by the ledger's clock; `began_s` by that which measures latency.
    """

    request: GenerationRequest
    admitted: Admitted
    prompt_tokens: int
    started_at: float
    began_s: float
    request_id: str


def may_work(request: GenerationRequest, point: OperatingPoint) -> bool:
    """Whether a request allows the mode of a point."""
    if request.stop_at is None:
        return True
    return point.mode in STOPPING_MODES and (
        request.on_stop == "abstain" or point.mode != "standalone"
    )


def at_point(request: GenerationRequest, point: OperatingPoint) -> GenerationRequest:
    """Return a request as it is worked on at a point."""
    return replace(
        request,
        mode=cast("Mode", point.mode),
        exit_layer=point.exit_layer if point.mode == "standalone" else None,
        draft_length=request.draft_length or point.draft_length or None,
    )
