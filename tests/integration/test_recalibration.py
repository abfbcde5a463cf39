"""A node that becomes slower while it serves: its record follows, and the fleet is planned anew."""

from dataclasses import dataclass
from time import monotonic

import numpy as np
import pytest

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.devices.usage import Usage
from updraft.edge.asking import FleetClient
from updraft.edge.engine import Engine
from updraft.edge.expert import Answer, EngineExpert, Work
from updraft.edge.node import Node
from updraft.edge.request import GenerationRequest
from updraft.models.runtime import RuntimeOptions
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.gate import Gate, Layer
from updraft.proto.v1 import fleet_pb2 as pb


@dataclass
class Expert:
    """Says at once what an answer would have taken."""

    slower: float = 1.0
    exhausted: bool = False

    def load(self):
        pass

    def park(self):
        pass

    def answer(self, work, give, cancelled):
        for _ in range(work.max_tokens):
            give("word ")
        first_ms, token_ms = 20 * self.slower, 4 * self.slower
        usage = Usage(first_ms + token_ms * (work.max_tokens - 1), 0.5 * self.slower)
        return Answer("length", usage, first_ms, "declared", 10, work.max_tokens)


@pytest.fixture
def fleet(start_coordinator, tmp_path):
    """A coordinator, as a client sees it, and two nodes of one expert by name."""
    gate = Gate(("e",), (Layer(np.zeros((8, 1)), np.array([2.0])),), TextFeatures(width=8))
    (tmp_path / "gate.npz").write_bytes(gate.to_bytes())
    coordinator = start_coordinator(
        config=f'[fleet]\nenabled = true\ngate = "{tmp_path / "gate.npz"}"\n'
    )
    endpoint = parse_endpoint(coordinator.address)
    experts = {"a": Expert(), "b": Expert()}
    nodes = [Node(endpoint, None, record(name), expert) for name, expert in experts.items()]
    for node in nodes:
        node.start()
    client = FleetClient(endpoint)
    yield client, experts
    client.close()
    for node in nodes:
        node.close(0)


def record(name):
    return pb.CapabilityRecord(
        node=name,
        expert="e",
        version="v",
        revision=1,
        device="x86",
        quality={"code": 0.5},
        prompt_tokens=10,
        first_token_ms=20,
        per_token_ms=4,
        prompt_j=0.2,
        per_token_j=0.02,
        standby_w=0.5,
        context_length=1024,
        max_tokens=64,
        concurrency=1,
    )


def test_a_node_that_becomes_slower_is_planned_anew(fleet, wait_until):
    client, experts = fleet

    def there():
        return {node["record"]["node"]: node for node in client.plan()["nodes"]}

    wait_until(lambda: set(there()) == {"a", "b"} and any(n["ready"] for n in there().values()))
    slow = client.answer("x", 16).ended.routed.node
    before = client.plan()
    experts[slow].slower = 4.0

    def answered_by_the_other():
        return client.answer("x", 16).ended.routed.node != slow

    wait_until(answered_by_the_other)
    after, told = client.plan(), there()
    assert after["version"] > before["version"]
    assert told[slow]["record"]["revision"] == 2
    assert told[slow]["record"]["per_token_ms"] > 1.5 * 4


def test_an_engine_says_which_answers_ran_alone(tiny_bundle, wait_until):
    engine = Engine(tiny_bundle, RuntimeOptions(), ModelledMeter(10), whole_model=True)
    expert, work = EngineExpert(engine, "full"), Work("x = ", 4, 0.0, 0, monotonic() + 60)
    event = type("Never", (), {"is_set": lambda self: False})()
    assert expert.answer(work, lambda text: None, event).alone
    own = iter(engine.start(GenerationRequest("y = ", "full", max_tokens=4)))
    next(own)
    assert not expert.answer(work, lambda text: None, event).alone
    own.close()
    assert expert.answer(work, lambda text: None, event).alone
