"""Sessions without a network: the tiny model, a client that drafts, and passes run by hand."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from updraft.cloud.context import Layers, Terms
from updraft.cloud.events import NeedFrom, Token, Verdict
from updraft.cloud.forward import Forward
from updraft.cloud.session import Session
from updraft.models.codecs import wire_codec
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model

CHUNK = 16


class Outlet:
    """Keeps what a client would be sent."""

    def __init__(self):
        self.events = []
        self.error = None

    def send(self, event):
        self.events.append(event)

    def fail(self, error):
        self.error = error


@pytest.fixture(scope="session")
def layers(tiny_bundle):
    shape = tiny_bundle.manifest.architecture
    return Layers.of(Model.load(tiny_bundle, range(shape.layers), RuntimeOptions()))


@pytest.fixture(scope="session")
def forward(layers):
    return Forward(layers)


@pytest.fixture(scope="session")
def terms(tiny_bundle):
    """Return a function that makes terms."""

    def make(sampling=None, codec="fp32", **others):
        return Terms(sampling or Sampling(), wire_codec(tiny_bundle, codec), **others)

    return make


@pytest.fixture(scope="session")
def open_session(layers, terms):
    """Return a function that opens a session, with an outlet that keeps its answers."""

    def make(of=None, session_id="1", epoch=0):
        session = Session(session_id, layers, of or terms(), CHUNK, epoch)
        session.outlet = Outlet()
        return session

    return make


@pytest.fixture(scope="session")
def run(forward):
    """Return a function that runs passes until nothing is left to do; gives the answers."""

    def run(session, limit=CHUNK, during=None):
        events = []
        while session.is_ready:
            if session.context is None:
                session.make_context()
            work = session.take(limit)
            if during is not None:
                during()
            outcome = forward.run([work])
            events += session.settle(work, outcome.picks[0], 1.0)
        return events

    return run


@dataclass
class Writer:
    """The edge's part: knows the states of any text, encoded, and the whole model's tokens."""

    layers: Layers
    terms: Terms
    _payloads: dict = field(default_factory=dict)

    def states(self, text):
        """Return the decoded states after the split of every token."""
        sequence = self.layers.lower.new_sequence()
        sequence.append(text)
        states = sequence.advance(self.layers.lower.top)
        codec = self.terms.codec
        return codec.decode(codec.encode(states), *states.shape)

    def payload(self, text, start, stop, window_start=0):
        """Return the inputs of positions of the window as they cross the wire."""
        if self.terms.tokens:
            return np.array(text[window_start:][start:stop], "<u4").tobytes()
        return self.terms.codec.encode(self.states(text[window_start:])[start:stop])

    def frame(self, text, start, stop, drafts=0, epoch=0, window_start=0, **others):
        """Return the arguments of `put` for positions of a text; its tokens after them, drafted."""
        at = window_start + stop + 1
        return {
            "epoch": epoch,
            "position": start,
            "count": stop - start,
            "payload": self.payload(text, start, stop, window_start),
            "drafts": text[at - drafts : at],
            "window_start": window_start,
        } | others

    def next(self, text, window_start=0):
        """Return the whole model's token after a text, one position at a time."""
        sequence = self.layers.upper.new_sequence()
        sequence.append(self.states(text[window_start:]))
        sequence.advance(self.layers.upper.top)
        return sequence.propose(self.layers.upper.top, self.terms.sampling, len(text)).token

    def complete(self, text, length):
        """Return the text as the whole model goes on with it."""
        text = list(text)
        while len(text) < length:
            text.append(self.next(text))
        return text

    def hash(self, text, length):
        """Return the prefix hash of a window's first inputs."""
        if self.terms.tokens:
            data = np.array(text[:length], "<u4").tobytes()
        else:
            data = self.states(text)[:length].astype("<f4").tobytes() if length else b""
        return hashlib.blake2b(data, digest_size=16).digest()


@pytest.fixture(scope="session")
def writer(layers):
    """Return a function that makes a writer."""
    return lambda terms: Writer(layers, terms)


@pytest.fixture(scope="session")
def tokens_of():
    """Return a function that gives the tokens of answers, in order."""

    def tokens(events):
        found = []
        for event in events:
            if isinstance(event, Token):
                found.append(event.pick.token)
            elif isinstance(event, Verdict):
                found += [pick.token for pick in event.picks]
            else:
                assert isinstance(event, NeedFrom)
        return found

    return tokens
