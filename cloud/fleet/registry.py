"""Which nodes are in the fleet, and how they are: plain state, changed by what they say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from updraft.cloud.fleet.records import Capability
from updraft.errors import LinkBusy, ProtocolError

# So many beats that do not come are a death.
_MISSED = 3


@dataclass(frozen=True)
class Beat:
    """What a node says of itself again and again.

    Attributes:
        running: answers that it works on.
        spent_j: since it joined.
        exhausted: it refuses work until its own budgets allow it again.
        ready: the expert is loaded.
        leaving: it finishes what it works on and takes nothing new.
    """

    running: int = 0
    spent_j: float = 0.0
    exhausted: bool = False
    ready: bool = False
    leaving: bool = False


@dataclass
class Member:
    """A node that is in the fleet.

    Attributes:
        stream: number of the stream that it joined by; a node that comes back has another.
        heard: when it last said anything.
        interval_s: between its beats, as it was told.
        working: answers that it was given and that have not ended.
        answers: those that ended well.
    """

    capability: Capability
    stream: int
    heard: float
    beat: Beat = Beat()
    working: int = 0
    answers: int = 0
    interval_s: float = inf

    @property
    def silence_s(self) -> float:
        """Where it says nothing for longer it is dead."""
        return _MISSED * self.interval_s

    @property
    def name(self) -> str:
        return self.capability.node

    @property
    def takes_work(self) -> bool:
        """Whether it may be given work at all, now or when it has loaded its expert."""
        return not (self.beat.exhausted or self.beat.leaving)

    @property
    def has_place(self) -> bool:
        """Whether it can start on an answer at once."""
        return self.takes_work and self.beat.ready and self.working < self.capability.concurrency


class Registry:
    """The nodes that live. Whoever dies or leaves is forgotten: there are no ghosts.

    Args:
        max_nodes: in the fleet at one time.
    """

    def __init__(self, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._members: dict[str, Member] = {}
        self._looked: float | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, name: str) -> Member | None:
        """Return a node by its name."""
        return self._members.get(name)

    def join(self, capability: Capability, stream: int, now: float) -> Member | None:
        """Take a node in; returns what it replaces: the same node on a stream that it left.

        Of two that go by one name the one with the greater revision is in the fleet.

        Raises:
            ProtocolError: its name is taken by a record of a greater revision.
            LinkBusy: the fleet is full.
        """
        name = capability.node
        before = self._members.get(name)
        if before is not None and capability.revision < before.capability.revision:
            raise ProtocolError(
                f"node {name!r} is in the fleet with revision {before.capability.revision}, and "
                f"revision {capability.revision} came: an older record, or another node of this "
                "name; give each its own [node] name"
            )
        if before is None and len(self._members) >= self._max_nodes:
            raise LinkBusy(f"{self._max_nodes} nodes are in the fleet, its limit; try later")
        self._members[name] = Member(capability, stream, now)
        return before

    def revise(self, member: Member, capability: Capability) -> None:
        """Replace a node's record by a newer one.

        Raises:
            ProtocolError: it is not newer, or another node's.
        """
        before = member.capability
        if capability.node != before.node:
            raise ProtocolError(
                f"the stream of node {before.node!r} brought a record of {capability.node!r}: a "
                "node keeps its name while it is in the fleet"
            )
        if capability.revision <= before.revision:
            raise ProtocolError(
                f"node {before.node!r}: revision {capability.revision} came after "
                f"{before.revision}; a changed record needs a greater one"
            )
        member.capability = capability

    def leave(self, member: Member) -> bool:
        """Forget a node; False where it was replaced or forgotten already."""
        if self._members.get(member.name) is not member:
            return False
        del self._members[member.name]
        return True

    def silent(self, now: float) -> list[Member]:
        """Return the nodes that said nothing for too long; ask often.

        Time in which nobody asked, because this process stood still, does not count: what nodes
        said meanwhile has not been read yet.
        """
        since = 0.0 if self._looked is None else now - self._looked
        for member in self:
            if since > member.interval_s:
                member.heard += since
        self._looked = now
        return [member for member in self if now - member.heard > member.silence_s]
