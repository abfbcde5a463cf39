"""An emulated link: a TCP proxy in a process of its own.

Many kernels, those of most containers among them, lack netem; this needs nothing of the kernel.
Each connection is a link of its own: 16 clients are 16 devices, each with its own access.

    python -m updraft.benchmarks.collab.emulator HOST:PORT

prints where it listens. Each line of JSON on standard input is an order: `{"link": {…}}`,
`{"blackout": {"seconds": 5, "cut": false}}` or `{}`; each is answered by a line with the counters.
It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import selectors
import subprocess
import sys
from contextlib import suppress
from typing import Any, NamedTuple, cast

from updraft.benchmarks.collab.wire import LOOPBACK, Link, Wire
from updraft.config.endpoint import Endpoint, parse_endpoint
from updraft.errors import LinkBroken

# What waits to leave before the sender is held back, as by the queue of a router.
_QUEUE_S = 0.05
_PRIORITY = -10


class Counters(NamedTuple):
    """Bytes that an interface would have counted, headers included, since the start."""

    up_bytes: int
    down_bytes: int

    def since(self, before: Counters) -> Counters:
        """Return what came after an earlier reading."""
        return Counters(self.up_bytes - before.up_bytes, self.down_bytes - before.down_bytes)


class Emulator:
    """An emulated link to one address, from the side of who measures; close it when done.

    Attributes:
        endpoint: where to connect in place of the address.
    """

    def __init__(self, target: Endpoint) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(target)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = parse_endpoint(self._read_line())

    def shape(self, link: Link) -> None:
        """Give all connections, those that are open included, other properties."""
        self._order({"link": vars(link)})

    def black_out(self, seconds: float, cut: bool = False) -> None:
        """Let nothing pass for a while; returns at once.

        Args:
            cut: also reset all connections, and new ones until it is over.
        """
        self._order({"blackout": {"seconds": seconds, "cut": cut}})

    def counters(self) -> Counters:
        """Read the counters."""
        return self._order({})

    def close(self) -> None:
        """End the process and every connection through it."""
        pipes = (self._process.stdin, self._process.stdout)
        for pipe in pipes:
            assert pipe is not None, "both pipes were asked for"
            pipe.close()
        self._process.wait()

    def _order(self, order: dict[str, Any]) -> Counters:
        assert self._process.stdin is not None, "the pipe was asked for"
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError as error:
            raise LinkBroken("the link emulator has ended") from error
        return Counters(*json.loads(self._read_line()))

    def _read_line(self) -> str:
        assert self._process.stdout is not None, "the pipe was asked for"
        line = self._process.stdout.readline()
        if not line:
            raise LinkBroken("the link emulator has ended")
        return line.strip()


class _Proxy:
    """All connections of one emulated link."""

    def __init__(self, target: Endpoint) -> None:
        self.link = LOOPBACK
        self.dark_until = 0.0
        self.cut_until = 0.0
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._chance = random.Random(0)
        self._ends: set[_End] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._closed = [0, 0]

    async def serve(self) -> Endpoint:
        server = await self._loop.create_server(lambda: _End(self, 0), "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        return Endpoint(host, port)

    def obey(self, order: dict[str, Any]) -> list[int]:
        if "link" in order:
            self.link = Link(**order["link"])
            for end in self._ends:
                end.wire.link = self.link
        if "blackout" in order:
            self._black_out(**order["blackout"])
        carried = self._closed.copy()
        for end in self._ends:
            carried[end.direction] += end.wire.carried_bytes
        return carried

    def connect(self, accepted: _End) -> None:
        """Join an accepted connection with one to the target."""
        if self._loop.time() < self.cut_until:
            accepted.abort()
            return
        task = self._loop.create_task(self._connect(accepted), name="connect")
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    def new_wire(self) -> Wire:
        wire = Wire(self.link, self._chance)
        wire.black_out(self.dark_until)
        return wire

    def add(self, end: _End) -> None:
        self._ends.add(end)

    def remove(self, end: _End) -> None:
        self._ends.discard(end)
        self._closed[end.direction] += end.wire.carried_bytes

    async def _connect(self, accepted: _End) -> None:
        try:
            _, end = await self._loop.create_connection(
                lambda: _End(self, 1), self._target.host, self._target.port
            )
        except OSError:
            accepted.abort()
        else:
            accepted.join(end)

    def _black_out(self, seconds: float, cut: bool) -> None:
        self.dark_until = self._loop.time() + seconds
        for end in list(self._ends):
            end.wire.black_out(self.dark_until)
            if cut:
                end.abort()
        if cut:
            self.cut_until = self.dark_until


class _End(asyncio.Protocol):
    """One socket of a connection; what it reads goes over its wire to the other one.

    Attributes:
        direction: 0 where the client's bytes come in, 1 where the target's do.
        writable: the socket takes bytes; else its program does not read.
    """

    def __init__(self, proxy: _Proxy, direction: int) -> None:
        self.direction = direction
        self.wire = proxy.new_wire()
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._other: _End | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.writable = True
        self._ended = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._proxy.add(self)
        if self.direction == 0:
            self.transport.pause_reading()  # until there is somebody to read for
            self._proxy.connect(self)

    def join(self, other: _End) -> None:
        """Begin to pass bytes between two ends."""
        self._other, other._other = other, self
        if self.transport.is_closing():
            other.abort()
        else:
            self.transport.resume_reading()
        other.deliver()

    def data_received(self, data: bytes) -> None:
        now = self._loop.time()
        self.wire.send(data, now)
        if self.wire.backlog_s(now) > _QUEUE_S or not self._reader_keeps_up:
            self.transport.pause_reading()
        self.deliver()

    def eof_received(self) -> bool:
        self._ended = True
        self.deliver()
        return True  # the other direction stays open

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._other is not None:
            self._other.abort()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self._other is not None:
            self._other.deliver()

    @property
    def _reader_keeps_up(self) -> bool:
        return self._other is None or self._other.writable

    def abort(self) -> None:
        """Reset the connection."""
        if not self.transport.is_closing():
            self.transport.abort()

    def deliver(self) -> None:
        """Hand over what is due, and come back when the next segment is."""
        other = self._other
        if other is None or not self._reader_keeps_up or other.transport.is_closing():
            return
        now = self._loop.time()
        if arrived := self.wire.receive(now):
            other.transport.write(arrived)
        if self.wire.backlog_s(now) <= _QUEUE_S:
            self.transport.resume_reading()
        if self._timer is not None:
            self._timer.cancel()
        if (due := self.wire.due) is not None:
            self._timer = self._loop.call_at(due, self.deliver)
        elif self._ended:
            self._ended = False
            with suppress(OSError):  # the target has gone meanwhile
                other.transport.write_eof()


async def _serve(target: Endpoint) -> None:
    proxy = _Proxy(target)
    endpoint = await proxy.serve()
    print(endpoint, flush=True)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(proxy.obey(json.loads(line))), flush=True)


def main() -> None:
    """Run the proxy until its input ends."""
    # A link does not wait for the machines that it joins; where that is not ours to ask, it may.
    with suppress(PermissionError):
        os.nice(_PRIORITY)
    # epoll would round every wait up to whole milliseconds; select takes microseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    with suppress(KeyboardInterrupt):
        loop.run_until_complete(_serve(parse_endpoint(sys.argv[1])))


if __name__ == "__main__":
    main()
