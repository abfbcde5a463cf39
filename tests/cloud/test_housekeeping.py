"""What happens because time passes, by a clock that the tests turn."""

from types import SimpleNamespace

import pytest

from updraft.cloud.config import CloudConfig
from updraft.cloud.events import NeedFrom
from updraft.cloud.housekeeping import Housekeeper
from updraft.cloud.scheduler import Scheduler
from updraft.cloud.store import Store
from updraft.errors import LinkBusy, LinkTimeout

PROMPT = list(range(1, 21))
CONFIG = CloudConfig.model_validate(
    {
        "sessions": {
            "open_timeout_s": 1,
            "write_timeout_s": 2,
            "gap_timeout_s": 3,
            "idle_expiry_s": 20,
        },
        "passes": {"wait_timeout_s": 4},
    }
)


@pytest.fixture
def house(layers):
    store = Store(8, 1 << 30)
    streams = set()
    keeper = Housekeeper(CONFIG, streams, store, Scheduler(layers, store, CONFIG.passes))
    return SimpleNamespace(store=store, streams=streams, sweep=keeper.sweep, keeper=keeper)


class Stream:
    """What the housekeeper sees of a stream."""

    def __init__(self, session=None, heard=0.0, writing_since=None):
        self.session = session
        self.heard = heard
        self.writing_since = writing_since
        self.error = None
        self.events = []
        if session is not None:
            session.outlet = self

    def send(self, event):
        self.events.append(event)

    def fail(self, error):
        self.error = error


@pytest.fixture
def started(house, open_session, writer, terms):
    session = open_session()
    session.put(**writer(terms()).frame(PROMPT, 0, 8))
    house.store.add(session)
    house.store.charge(session)
    return session


def test_a_stream_that_never_opens_is_ended(house):
    stream = Stream()
    house.streams.add(stream)
    house.sweep(0.9)
    assert stream.error is None
    house.sweep(1.1)
    assert isinstance(stream.error, LinkTimeout)
    assert "no frame came for 1 s" in str(stream.error)


def test_a_silent_session_expires(house, started):
    stream = Stream(started)
    house.streams.add(stream)
    house.sweep(19)
    stream.heard = 10.0
    house.sweep(29)
    assert stream.error is None
    house.sweep(31)
    assert "no frame came for 20 s: the session has expired" in str(stream.error)
    assert house.store.find(started.id) is None
    assert house.store.used_bytes == 0


def test_a_client_that_does_not_read_is_cut_off_and_its_session_kept(house, started):
    stream = Stream(started, heard=10.0, writing_since=8.5)
    house.streams.add(stream)
    house.sweep(10.0)
    assert stream.error is None
    house.sweep(10.6)
    assert "the client read nothing for 2 s" in str(stream.error)
    assert house.store.find(started.id) is started


def test_a_session_without_a_stream_expires(house, started):
    started.outlet, started.detached_since = None, 5.0
    house.sweep(24)
    assert house.store.find(started.id) is started
    house.sweep(26)
    assert house.store.find(started.id) is None
    assert house.store.used_bytes == 0


def test_a_client_is_asked_for_missing_inputs_after_a_while_and_again(house, started):
    stream = Stream(started)
    started.ask(0, 12, 12)
    for now in (0, 2.9):
        house.sweep(now)
    assert stream.events == []
    house.sweep(3.1)
    assert stream.events == [NeedFrom(0, 8)]
    house.sweep(5)
    assert len(stream.events) == 1
    house.sweep(6.2)
    assert len(stream.events) == 2


def test_progress_or_an_upload_puts_off_the_question(house, started, writer, terms):
    stream = Stream(started)
    started.ask(0, 12, 12)
    house.sweep(0)
    started.put(**writer(terms()).frame(PROMPT, 8, 10))
    house.sweep(3.1)
    started.uploads = 1
    house.sweep(20)
    started.uploads = 0
    house.sweep(21)
    house.sweep(23)
    assert stream.events == []
    house.sweep(24.1)
    assert stream.events == [NeedFrom(0, 10)]


def test_who_gets_no_memory_is_refused(house, started):
    stream = Stream(started)
    started.waiting_since = 1.0
    house.sweep(4.9)
    assert stream.error is None
    house.sweep(5.1)
    assert isinstance(stream.error, LinkBusy)
    assert "no context memory came free for 4 s" in str(stream.error)


def test_the_shortest_limit_sets_how_often_it_sweeps(house):
    assert house.keeper.interval_s == 0.25
