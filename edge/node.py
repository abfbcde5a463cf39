"""A device as a node of a fleet: it joins, answers, and comes back for ever."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from updraft.config.endpoint import Endpoint, TlsMaterial
from updraft.edge.channel import new_event_loop, open_channel
from updraft.edge.expert import Expert
from updraft.edge.node_session import NodeSession
from updraft.edge.readiness import Readiness
from updraft.edge.recalibration import Recalibration
from updraft.errors import UpdraftError
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

_OPEN_TIMEOUT_S = 5.0
# Pauses before another try to join: the first, the longest.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 3.0

_log = logging.getLogger(__name__)


class Node:
    """Runs on an event loop in a thread of its own, from `start` to `close`.

    Args:
        tls: files of this side, as for the link of the decoding engine.
        record: what the node can do, until its answers correct it; its concurrency is how many
            answers run at one time.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tls: TlsMaterial | None,
        record: pb.CapabilityRecord,
        expert: Expert,
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._recalibration = Recalibration(record)
        self._expert = expert
        self._session: NodeSession | None = None
        self._threads = ThreadPoolExecutor(record.concurrency, "answer")
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)
        self._task: asyncio.Task[None] | None = None
        self._complaint = ""
        self._closing = False

    def start(self) -> None:
        """Begin to join; returns at once, whether or not there is a coordinator."""
        self._thread.start()

    def close(self, drain_s: float = 5.0) -> None:
        """Leave the fleet; answers that run get `drain_s` to end. Idempotent."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._leave(drain_s), self._loop).result()
        self._threads.shutdown(cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._live())
        self._loop.run_forever()

    async def _leave(self, drain_s: float) -> None:
        if self._session is not None:
            await self._session.leave(drain_s)
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _live(self) -> None:
        readiness = Readiness(self._expert, self._say)
        following = asyncio.ensure_future(readiness.follow())
        channel = open_channel(self._endpoint, self._tls)
        stub = rpc.FleetStub(channel)
        try:
            pause_s = _FIRST_PAUSE_S
            while True:
                if await self._attend(stub, readiness):
                    pause_s = _FIRST_PAUSE_S
                # Nodes that lost one coordinator do not come back all at once.
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            following.cancel()
            await channel.close()

    async def _attend(self, stub: rpc.FleetStub, readiness: Readiness) -> bool:
        """Be in the fleet once; True where the coordinator let this node in."""
        session = NodeSession(self._expert, readiness, self._threads, self._recalibration)
        self._session = session
        try:
            await session.attend(stub, _OPEN_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            said = error.details() or error.code().name
        except UpdraftError as error:
            said = str(error)
        except asyncio.CancelledError:
            # A call that the other side has cancelled looks as if this task were.
            if self._closing:
                raise
            said = "it cancelled the stream"
        except Exception as error:
            _log.exception("the stream to the coordinator failed")
            said = repr(error)
        finally:
            self._session = None
        what = "was lost" if session.welcomed else "does not let this node in"
        if session.leaving:
            return False
        if session.welcomed or said != self._complaint:  # said once, not with every try
            _log.warning("coordinator %s %s, trying again: %s", self._endpoint, what, said)
        self._complaint = "" if session.welcomed else said
        return session.welcomed

    def _say(self) -> None:
        if self._session is not None:
            self._session.say()
