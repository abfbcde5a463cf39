"""Who is in the fleet, by which stream, and in which role."""

from __future__ import annotations

import logging
from time import monotonic

from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.drift import Basis
from updraft.cloud.fleet.live import LivePlan
from updraft.cloud.fleet.node_stream import NodeStream
from updraft.cloud.fleet.places import Places
from updraft.cloud.fleet.records import Capability, Plan
from updraft.cloud.fleet.registry import Beat, Member, Registry
from updraft.errors import LinkBroken, LinkTimeout, UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb

_log = logging.getLogger(__name__)


class Roster:
    """Lets nodes in and out, and tells each its role; lives on the event loop.

    Attributes:
        streams: of the nodes that are in the fleet, by number.
        live: the plan, asked for anew whenever who can serve has changed.
    """

    def __init__(self, limits: FleetLimits, registry: Registry, places: Places) -> None:
        self.streams: dict[int, NodeStream] = {}
        self.live: LivePlan | None = None
        self._limits = limits
        self._registry = registry
        self._places = places
        # Nodes that the fleet had when a node was told, the least of all nodes in it.
        self._fewest = limits.max_nodes

    def join(self, stream: NodeStream, capability: Capability) -> Member:
        """Let a node in; one of the same name and an older record has to go.

        Raises:
            ProtocolError: a newer record of this name is in the fleet.
            LinkBusy: the fleet is full.
        """
        before = self._registry.join(capability, stream.number, monotonic())
        if before is not None:
            self._cut(before, LinkBroken("the node came back by another stream"))
        member = self._registry.get(capability.node)
        assert member is not None, "it has just joined"
        self.streams[stream.number] = stream
        nodes = len(self._registry)
        self._welcome(member, stream, self._limits.interval_ms(nodes))
        self._fewest = min(self._fewest, nodes)
        self._slow_down()
        if member.name in self._places.plan.selected:
            stream.tell_role(self._places.plan.version, True)
        _log.info("node %s joined with expert %s", member.name, capability.expert)
        self.replan()
        return member

    def revise(self, member: Member, capability: Capability) -> None:
        """Take a node's newer record.

        Raises:
            ProtocolError: it is not newer.
        """
        self._registry.revise(member, capability)
        self.replan()
        self._places.consider((member,))

    def beat(self, member: Member, beat: Beat) -> None:
        """Take what a node says of itself."""
        served, had_place = member.takes_work, member.has_place
        member.beat = beat
        if member.takes_work is not served:
            self.replan()
        if member.has_place and not had_place:
            self._places.consider((member,))

    def leave(self, member: Member, stream: NodeStream) -> None:
        """Let a node go, whose stream has ended; its work goes on elsewhere."""
        self.streams.pop(stream.number, None)
        stream.lose(stream.fault or LinkBroken("its stream broke"))
        if self._registry.leave(member):
            _log.info("node %s left", member.name)
            self.replan()

    def sweep(self, now: float) -> None:
        """Cut off the nodes that have said nothing for too long."""
        for member in self._registry.silent(now):
            self._registry.leave(member)
            silence_s = now - member.heard
            _log.warning("node %s is dead: silent for %.1f s", member.name, silence_s)
            self._cut(member, LinkTimeout(f"nothing was heard for {silence_s:.1f} s"))
            self.replan()

    def publish(self, plan: Plan, basis: Basis) -> None:
        """Tell every node whose role is another from now on, and give out places by the plan.

        Who has joined since the plan was begun is not in it, and waits for the next.
        """
        self._places.plan = plan
        known = {node.node for node in basis.nodes}
        for member in self._registry:
            stream, on = self.streams.get(member.stream), member.name in plan.selected
            if stream is not None and (on or member.name in known or not member.takes_work):
                stream.tell_role(plan.version, on)
        self._places.consider()

    def replan(self) -> None:
        """Ask for a plan; it is made and published soon."""
        if self.live is not None:
            self.live.note()

    def close(self) -> None:
        """End all streams."""
        for stream in list(self.streams.values()):
            stream.fail(LinkBroken("the coordinator stops"))

    def _welcome(self, member: Member, stream: NodeStream, interval_ms: int) -> None:
        member.interval_s = interval_ms / 1000
        stream.tell(pb.JoinResponse(welcome=pb.Welcome(beat_interval_ms=interval_ms)))

    def _slow_down(self) -> None:
        """Let nodes beat less often where the fleet is twice what it was when one was told.

        Nobody is told to beat more often: a beat by the longer interval would come too late.
        """
        nodes = len(self._registry)
        if nodes < 2 * self._fewest:
            return
        self._fewest = nodes
        interval_ms = self._limits.interval_ms(nodes)
        for member in self._registry:
            stream = self.streams.get(member.stream)
            if stream is not None and member.interval_s < interval_ms / 1000:
                self._welcome(member, stream, interval_ms)

    def _cut(self, member: Member, error: UpdraftError) -> None:
        stream = self.streams.pop(member.stream, None)
        if stream is not None:
            stream.fail(error)
