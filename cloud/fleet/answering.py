"""One request of a client, from node to node until it is answered."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from time import monotonic

from updraft.cloud.fleet.attempt import Ended, Refused
from updraft.cloud.fleet.client import Client
from updraft.cloud.fleet.node_stream import NodeStream
from updraft.cloud.fleet.places import Places
from updraft.cloud.fleet.registry import Member
from updraft.cloud.fleet.router import Ask
from updraft.errors import LinkBroken, LinkBusy, RequestError, UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb

_log = logging.getLogger(__name__)


class Answering:
    """Answers requests by the fleet's nodes.

    Args:
        streams: of the nodes, by number.
        max_attempts: nodes that a request may fail at.
    """

    def __init__(
        self, places: Places, streams: Mapping[int, NodeStream], max_attempts: int
    ) -> None:
        self._places = places
        self._streams = streams
        self._max_attempts = max_attempts
        self._numbers = itertools.count(1)

    async def answer(
        self, request: pb.AnswerRequest, ask: Ask, deadline: float, client: Client
    ) -> Ended:
        """Give a client its answer, whatever becomes of the nodes that work on it.

        Args:
            deadline: by the monotonic clock; nodes are told what is left of it.

        Raises:
            RequestError: no node can ever serve it as asked.
            LinkBusy: none can now.
            LinkBroken: it failed at too many nodes.
        """
        never, lost = "", False
        for number in range(self._max_attempts):
            try:
                member = await self._places.take(ask, again=lost)
            except LinkBusy as error:
                if never:
                    raise RequestError(never) from error
                raise
            try:
                outcome = await self._try(member, request, ask, deadline, client, number)
            except UpdraftError as error:
                _log.warning("an answer goes on elsewhere, node %s is lost: %s", member.name, error)
                ask.failed.add(member.stream)
                lost = True
                continue
            finally:
                self._places.give_back(member)
            if isinstance(outcome, Ended):
                member.answers += 1
                return outcome
            _log.info("node %s refused an answer: %s", member.name, outcome.code)
            ask.failed.add(member.stream)
            lost = False
            if outcome.code == RequestError.code:  # so says whoever runs this expert
                never = outcome.message
                ask.refused.add(member.capability.version)
        raise LinkBroken(
            f"the request failed at {self._max_attempts} nodes, as many as one request may"
        )

    async def _try(
        self,
        member: Member,
        request: pb.AnswerRequest,
        ask: Ask,
        deadline: float,
        client: Client,
        number: int,
    ) -> Ended | Refused:
        stream = self._streams.get(member.stream)
        if stream is None:
            raise LinkBroken("it left before it got the work")
        work = pb.Work(
            id=next(self._numbers),
            prompt=request.prompt,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            deadline_ms=max(1, int(1000 * (deadline - monotonic()))),
        )
        can = member.capability
        routed = pb.Routed(
            node=can.node,
            expert=can.expert,
            quality=ask.expects_of(can),
            attempt=number,
            plan_version=self._places.plan.version,
        )
        attempt = stream.give(work)
        try:
            client.begin(can.version, routed)
            while True:
                event = await attempt.next()
                if isinstance(event, Refused):
                    return event
                if isinstance(event, Ended):
                    client.end(event)
                    return event
                client.take(event)
        finally:
            stream.take_back(work.id)
