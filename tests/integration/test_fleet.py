"""A fleet of processes, as people run it: nodes die, hang and come back under load."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from urllib.request import Request, urlopen

import numpy as np
import pytest

from updraft.config.endpoint import parse_endpoint
from updraft.edge.asking import FleetClient, Part, Routed
from updraft.errors import LinkError, RequestError
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.gate import Gate, Layer

PROMPT = "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, "
TOKENS = 64


@pytest.fixture(scope="module")
def port():
    """A port that a coordinator may take again and again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def serve(daemon_of, tmp_path_factory, port):
    """Return a function that starts the coordinator of a fleet."""
    folder = tmp_path_factory.mktemp("coordinator")
    gate = Gate(
        ("first", "second"), (Layer(np.zeros((8, 2)), np.array([2.0, 1.0])),), TextFeatures(width=8)
    )
    (folder / "gate.npz").write_bytes(gate.to_bytes())
    (folder / "cloud.toml").write_text(
        f'[fleet]\nenabled = true\ngate = "{folder / "gate.npz"}"\nbeat_interval_ms = 400\n'
    )

    def start():
        listen = f"127.0.0.1:{port}"
        return daemon_of("cloud", "serve", "--listen", listen, "--config", folder / "cloud.toml")

    return start


@pytest.fixture(scope="module")
def start_node(daemon_of, tmp_path_factory, port):
    """Return a function that starts an agent that is a node."""
    folder = tmp_path_factory.mktemp("nodes")

    def start(name, expert):
        (folder / f"{name}.toml").write_text(
            f'[api]\nlisten = "127.0.0.1:0"\n[node]\nenabled = true\nname = "{name}"\n'
            f'expert = "{expert}"\ncoordinator = "127.0.0.1:{port}"\nconcurrency = 2\n'
            "[node.quality]\ncode = 0.5\n"
        )
        return daemon_of("edge", "serve", "--config", folder / f"{name}.toml")

    return start


class Fleet:
    """The running processes, and a client."""

    def __init__(self, serve, start_node, port):
        self.serve, self.start_node = serve, start_node
        self.coordinator = serve()
        with ThreadPoolExecutor(len(EXPERTS)) as threads:
            started = threads.map(start_node, EXPERTS, EXPERTS.values())
            self.nodes = dict(zip(EXPERTS, started, strict=True))
        self.client = FleetClient(parse_endpoint(f"127.0.0.1:{port}"))

    def there(self, state=None):
        """Return the names of the nodes in the fleet: all, or those that are on and ready."""
        try:
            nodes = self.client.plan()["nodes"]
        except LinkError:
            return set()
        chosen = [node for node in nodes if state is None or (node["on"] and node["ready"])]
        return {node["record"]["node"] for node in chosen}

    def answers(self, count, meanwhile):
        """Return as many answers, asked for at one time.

        `meanwhile` runs with the name of a node, once some text of it came.
        """
        speaking = Queue()

        def ask():
            text, node = "", None
            for event in self.client.ask(PROMPT, TOKENS, timeout_s=100):
                if isinstance(event, Routed):
                    text, node = "", event.node
                elif isinstance(event, Part):
                    text += event.text
                    speaking.put(node)
                else:
                    return text, event
            raise AssertionError("an answer has no end")

        with ThreadPoolExecutor(count) as threads:
            asked = [threads.submit(ask) for _ in range(count)]
            name = speaking.get(timeout=60)
            meanwhile(name)
            return name, [answer.result(100)[0] for answer in asked]

    def restart(self, name):
        self.nodes[name].close()
        self.nodes[name] = self.start_node(name, EXPERTS[name])


EXPERTS = {"a": "first", "b": "first", "c": "second"}


@pytest.fixture(scope="module")
def running(serve, start_node, port):
    fleet = Fleet(serve, start_node, port)
    yield fleet
    fleet.client.close()
    for daemon in (*fleet.nodes.values(), fleet.coordinator):
        log = daemon.close()
        assert "Traceback" not in log, log


@pytest.fixture
def fleet(running, wait_until):
    """The fleet with all its nodes, one of them ready."""
    wait_until(lambda: running.there() == set(EXPERTS) and running.there("ready"))
    return running


@pytest.fixture
def text(fleet):
    """What the shipped bundle says, whichever node is asked."""
    return fleet.client.answer(PROMPT, TOKENS).text


def test_the_best_expert_answers_with_what_it_cost(fleet, text):
    answer = fleet.client.answer(PROMPT, TOKENS)
    assert (answer.text, answer.tokens) == (text, TOKENS)
    routed, usage = answer.ended.routed, answer.ended.usage
    assert routed.node in EXPERTS
    assert usage["energy_j"] > 0
    assert usage["new_tokens"] == TOKENS
    assert usage["latency_ms"] > usage["first_token_ms"] > 0


def test_a_seed_draws_the_same_text_again(fleet):
    drawn = [fleet.client.answer(PROMPT, 24, temperature=0.9, seed=7).text for _ in range(4)]
    assert len(set(drawn)) == 1
    assert fleet.client.answer(PROMPT, 24, temperature=0.9, seed=8).text != drawn[0]


def test_a_request_that_no_node_can_serve_is_refused(fleet):
    with pytest.raises(RequestError, match="tokens"):
        fleet.client.answer("word " * 5000)


def test_a_killed_node_costs_no_request(fleet, text):
    name, answers = fleet.answers(6, lambda node: fleet.nodes[node].kill())
    assert answers == [text] * 6
    assert fleet.there() == set(EXPERTS) - {name}
    fleet.restart(name)


def test_a_node_that_hangs_costs_no_request_and_comes_back(fleet, text, wait_until):
    name, answers = fleet.answers(6, lambda node: fleet.nodes[node].hang())
    assert answers == [text] * 6
    assert fleet.there() == set(EXPERTS) - {name}
    fleet.nodes[name].resume()
    wait_until(lambda: fleet.there() == set(EXPERTS))


def test_a_node_that_is_stopped_leaves_in_order(fleet, text):
    name, answers = fleet.answers(6, lambda node: fleet.nodes[node].stop())
    assert answers == [text] * 6
    assert fleet.there() == set(EXPERTS) - {name}
    assert "elsewhere" not in fleet.coordinator.log.rpartition("joined")[2]
    fleet.restart(name)


def test_nodes_outlive_their_coordinator(fleet, text, wait_until):
    fleet.coordinator.kill()
    with pytest.raises(LinkError):
        fleet.client.answer(PROMPT, TOKENS)
    for node in fleet.nodes.values():  # on and parked ones serve their own device
        said = complete_locally(node)
        assert said == text[: len(said)] != ""
    fleet.coordinator.close()
    fleet.coordinator = fleet.serve()
    wait_until(lambda: fleet.there() == set(EXPERTS) and fleet.there("ready"))
    assert fleet.client.answer(PROMPT, TOKENS).text == text


def complete_locally(node):
    body = {"prompt": PROMPT, "max_tokens": 16, "temperature": 0, "updraft": {"mode": "full"}}
    asked = Request(f"http://{node.address}/v1/completions", json.dumps(body).encode())
    with urlopen(asked, timeout=60) as answer:
        return json.load(answer)["choices"][0]["text"]
