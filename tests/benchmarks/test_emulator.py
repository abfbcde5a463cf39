"""The emulated link over real sockets: what was asked is the least that it takes."""

import socket
import threading
import time
from contextlib import closing

import pytest

from updraft.benchmarks.collab.emulator import Emulator
from updraft.benchmarks.collab.wire import HEADER_BYTES, LOOPBACK, Link
from updraft.config.endpoint import Endpoint

_TIMEOUT_S = 30


@pytest.fixture
def echo():
    """The endpoint of a server that sends everything back."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection:
            while data := _receive(connection):
                connection.sendall(data)

    def accept():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield Endpoint(*server.getsockname())
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def emulator(echo):
    with closing(Emulator(echo)) as emulator:
        yield emulator


@pytest.fixture
def client(emulator):
    with socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _receive(connection):
    try:
        return connection.recv(1 << 16)
    except ConnectionResetError:
        return b""


def there_and_back(connection, data):
    """Return the seconds until all of `data` has come back."""
    started = time.monotonic()
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    back = bytearray()
    while len(back) < len(data):
        back += connection.recv(1 << 16)
    sender.join()
    assert back == data
    return time.monotonic() - started


def test_a_round_trip_takes_what_was_asked(emulator, client):
    emulator.shape(Link(round_trip_ms=40, mbit_s=1000))
    assert min(there_and_back(client, b"ping") for _ in range(5)) >= 0.040


def test_bytes_pass_no_faster_than_was_asked(emulator, client):
    emulator.shape(Link(round_trip_ms=0, mbit_s=8))
    assert there_and_back(client, b"x" * 200_000) >= 0.2


def test_a_link_that_is_open_can_be_given_other_properties(emulator, client):
    emulator.shape(Link(round_trip_ms=200, mbit_s=1000))
    slow = there_and_back(client, b"ping")
    emulator.shape(LOOPBACK)
    assert min(there_and_back(client, b"ping") for _ in range(10)) < slow


def test_both_directions_are_counted(emulator, client):
    before = emulator.counters()
    there_and_back(client, b"x" * 100)
    assert emulator.counters().since(before) == (100 + HEADER_BYTES, 100 + HEADER_BYTES)


def test_counters_outlive_their_connections(emulator, wait_until):
    with socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection:
        there_and_back(connection, b"x" * 100)
    seen = emulator.counters()
    with socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection:
        there_and_back(connection, b"x" * 100)
    assert emulator.counters().since(seen) == (100 + HEADER_BYTES, 100 + HEADER_BYTES)


def test_nothing_passes_in_a_blackout_and_nothing_is_lost(emulator, client):
    emulator.black_out(0.3)
    assert there_and_back(client, b"x" * 1000) >= 0.3


def test_a_blackout_that_cuts_resets_connections_until_it_is_over(emulator, client, wait_until):
    there_and_back(client, b"ping")
    emulator.black_out(0.3, cut=True)
    assert _receive(client) == b""
    started = time.monotonic()

    def comes_back():
        with socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection:
            try:
                connection.sendall(b"ping")
                return connection.recv(4) == b"ping"
            except ConnectionError:
                return False

    wait_until(comes_back)
    assert time.monotonic() - started >= 0.2


def test_loss_loses_nothing_for_the_programs(emulator, client):
    emulator.shape(Link(round_trip_ms=2, mbit_s=1000, loss=0.1))
    there_and_back(client, bytes(range(256)) * 400)


def test_a_half_closed_connection_still_gets_its_answer(emulator):
    with socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        back = b""
        while data := connection.recv(1 << 16):
            back += data
    assert back == b"last words"


def test_a_target_that_is_not_there_resets_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        gone = Endpoint(*unused.getsockname())
    with (
        closing(Emulator(gone)) as emulator,
        socket.create_connection(emulator.endpoint, timeout=_TIMEOUT_S) as connection,
    ):
        assert _receive(connection) == b""
