"""A governed engine and agent: budgets are kept, and what was spent is said and written down."""

import asyncio
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from updraft.devices.budgets.admission import Wait
from updraft.devices.budgets.budget import Budget, Line, Origin
from updraft.devices.budgets.costs import Costs
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.ledger_file import LedgerFile
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.governor import Governor, Limits
from updraft.edge.request import GenerationRequest
from updraft.errors import BudgetExceeded, LedgerError, ProbeError, RequestError
from updraft.models.runtime import RuntimeOptions

_NOON = 20_000 * 86_400 + 43_200.0
_PROMPT = "for item in items:\n"


class Clock:
    def __init__(self):
        self.now = _NOON

    def __call__(self):
        return self.now


def budget_of(**lines):
    here = Origin("budgets.toml", 1, "device.here")
    return Budget("here", {n: Line(n, li, on, here, *w) for n, (li, on, *w) in lines.items()})


def alone(exit_layer, quality, token_j, power_mode="default"):
    return OperatingPoint("standalone", exit_layer, 0, power_mode, quality, 5.0, 1.0, token_j, 15.0)


_POINTS = [alone(2, 0.8, 0.02), alone(1, 0.5, 0.01)]


@pytest.fixture(scope="module")
def tiny_engine(tiny_bundle):
    return Engine(tiny_bundle, RuntimeOptions(), ModelledMeter(10))


@pytest.fixture
def govern():
    """Return a function that makes a governor; without a path, its ledger stays in memory."""
    governors = []

    def make(clock, path=None, points=_POINTS, limits=None, power=None, **lines):
        ledger = Ledger(path, clock)
        governors.append(
            Governor(budget_of(**lines), ledger, points, Costs(8, 16), 0.0, limits, power)
        )
        return governors[-1]

    yield make
    for governor in governors:
        governor.close()


def asked(**choices):
    return GenerationRequest(_PROMPT, "standalone", max_tokens=16, **choices)


def run(governor, engine, request=None, own_mode=False):
    """Answer one request; returns its ticket and its generation."""
    request = request or asked()
    prompt = engine.tokenizer.encode(request.prompt)
    ticket = governor.try_admit(request, len(prompt), own_mode=own_mode)
    generation = governor.start(engine, ticket, prompt)
    for _ in governor.follow(ticket, generation):
        pass
    return ticket, generation


def test_what_an_answer_took_is_written_down(govern, tiny_engine, tmp_path):
    path = tmp_path / "ledger.sqlite"
    governor = govern(Clock(), path, energy_per_day=(1000, "refuse"))
    ticket, generation = run(governor, tiny_engine)
    result = generation.result
    today = governor.ledger.today()
    assert (today.requests, today.tokens) == (1, len(result.tokens))
    assert today.usage.energy_j == pytest.approx(result.energy.joules)
    assert today.usage.energy_j > 0
    left = governor.statement(ticket)["left"]
    assert left["energy_per_day"] == pytest.approx(1000 - result.energy.joules)
    assert governor.admission.reserved().energy_j == 0
    governor.close()
    file = LedgerFile(path)
    assert file.knows(ticket.request_id)
    file.close()


def test_a_request_that_does_not_choose_works_at_the_controllers_point(govern, tiny_engine):
    governor = govern(Clock(), per_token=(1000, "refuse"))
    ticket, generation = run(governor, tiny_engine)
    assert ticket.request.exit_layer == 2
    assert generation.result.decisions["exit_2"] > 0
    narrow = govern(Clock(), energy_per_request=(0.3, "shallower_exits"))
    ticket, generation = run(narrow, tiny_engine)
    assert ticket.request.exit_layer == 1
    assert generation.result.decisions["exit_2"] == 0


def test_a_request_that_chooses_keeps_its_mode(govern, tiny_engine):
    governor = govern(Clock(), energy_per_day=(1000, "refuse"))
    request = asked(exit_layer=1)
    ticket, _ = run(governor, tiny_engine, request, own_mode=True)
    assert ticket.request is request
    assert ticket.admitted.cost.point == _POINTS[1]


def test_an_exhausted_line_changes_even_what_was_chosen_and_says_so(govern, tiny_engine):
    governor = govern(Clock(), energy_per_request=(0.3, "shallower_exits"))
    ticket, _ = run(governor, tiny_engine, asked(theta=2.0), own_mode=True)
    assert ticket.request.exit_layer == 1
    assert governor.statement(ticket)["changed_by"] == {
        "line": "energy_per_request",
        "on_exhausted": "shallower_exits",
    }


def test_a_cancelled_answer_and_a_failed_one_count_too(govern, tiny_engine):
    governor = govern(Clock(), energy_per_day=(1000, "refuse"))
    prompt = tiny_engine.tokenizer.encode(_PROMPT)
    for number in (1, 2):
        ticket = governor.try_admit(asked(), len(prompt), own_mode=False)
        generation = governor.start(tiny_engine, ticket, prompt)
        tokens = governor.follow(ticket, generation)
        next(tokens)
        if number == 1:
            generation.cancel()
            assert len(list(tokens)) < 15
        else:
            with pytest.raises(RuntimeError, match="by the caller"):
                tokens.throw(RuntimeError("by the caller"))
        assert governor.ledger.today().requests == number
        assert governor.admission.reserved().energy_j == 0
    assert governor.ledger.today().usage.energy_j > 0


def test_a_request_that_cannot_be_served_gives_its_reservation_back(govern, tiny_engine):
    governor = govern(Clock(), energy_per_day=(1000, "refuse"))
    request = GenerationRequest(_PROMPT, "standalone", max_tokens=500)
    prompt = tiny_engine.tokenizer.encode(_PROMPT)
    ticket = governor.try_admit(request, len(prompt), own_mode=False)
    assert governor.admission.reserved().energy_j > 0
    with pytest.raises(RequestError):
        governor.start(tiny_engine, ticket, prompt)
    assert governor.admission.reserved().energy_j == 0
    assert governor.ledger.today().requests == 0


def test_concurrent_answers_never_overdraw_a_day_by_more_than_one(govern, tiny_engine):
    points = [alone(2, 0.8, 1e-4)]
    governor = govern(Clock(), points=points, energy_per_day=(0.05, "refuse"))

    def one(_):
        try:
            return run(governor, tiny_engine)[1].result.energy.joules
        except BudgetExceeded:
            return 0.0

    with ThreadPoolExecutor(4) as threads:
        joules = list(threads.map(one, range(120)))
    assert sum(joules) <= 0.05 + max(joules)
    assert governor.ledger.today().usage.energy_j == pytest.approx(sum(joules))
    assert 0.0 in joules
    with pytest.raises(BudgetExceeded) as refused:
        run(governor, tiny_engine)
    assert refused.value.retry_after_s > 3600
    assert governor.admission.left()["energy_per_day"] < 0.05


def test_who_has_to_wait_goes_in_turn_and_not_for_ever(govern):
    clock = Clock()
    limits = Limits(queue_length=2, queue_wait_s=0.5)
    governor = govern(clock, limits=limits, average_power=(1.0, "queue", 60.0))
    order = []

    async def ask(name):
        ticket = await governor.admit(asked(), 8, own_mode=False)
        order.append(name)
        return ticket

    async def scene():
        held = [governor.try_admit(asked(), 8, own_mode=False)]
        while not isinstance(held[-1], Wait):
            held.append(governor.try_admit(asked(), 8, own_mode=False))
        held.pop()
        first, second = asyncio.create_task(ask("first")), asyncio.create_task(ask("second"))
        await asyncio.sleep(0.1)
        with pytest.raises(BudgetExceeded):  # the queue is full
            await ask("third")
        for ticket in held[:2]:
            governor.release(ticket)
        await asyncio.gather(first, second)
        assert order == ["first", "second"]
        with pytest.raises(BudgetExceeded) as refused:  # nothing ends
            await ask("fourth")
        assert refused.value.line == "average_power"
        assert governor.state()["waiting"] == 0

    asyncio.run(scene())


@pytest.mark.parametrize("policy", ["serve", "refuse"])
def test_without_a_ledger_it_goes_on_by_policy(govern, tiny_engine, tmp_path, policy):
    clock = Clock()
    (tmp_path / "state").write_text("in the way")
    path = tmp_path / "state" / "ledger.sqlite"
    governor = govern(
        clock, path, limits=Limits(on_ledger_fault=policy), energy_per_day=(1000, "refuse")
    )
    if policy == "refuse":
        with pytest.raises(LedgerError, match="on_ledger_fault"):
            run(governor, tiny_engine)
    else:
        ticket, _ = run(governor, tiny_engine)
        assert "state" in governor.statement(ticket)["ledger_fault"]
        assert governor.ledger.today().requests == 1
    (tmp_path / "state").unlink()
    clock.now += 5
    run(governor, tiny_engine)
    assert governor.ledger.fault is None
    governor.close()
    file = LedgerFile(path)
    assert file.totals(20_000).requests == (1 if policy == "refuse" else 2)
    file.close()


class Board:
    """Clocks that can be changed until they cannot."""

    def __init__(self, broken=False):
        self.broken = broken
        self.names = []

    def set(self, name):
        self.names.append(name)
        if self.broken:
            raise ProbeError("nvpmodel says no")


@pytest.mark.parametrize("broken", [False, True])
def test_the_power_mode_of_the_point_is_set_once(govern, tiny_engine, broken):
    board = Board(broken)
    points = [alone(2, 0.8, 0.02, "25W"), alone(2, 0.79, 0.01, "15W")]
    governor = govern(Clock(), points=points, power=board, per_token=(1000, "refuse"))
    for _ in range(3):
        run(governor, tiny_engine)
    governor.close()
    assert board.names == ["25W"]


def test_drafts_that_may_be_open_are_limited(engine, snippets):
    free, held = (
        engine.start(GenerationRequest(snippets[0], "lossless", max_tokens=24, draft_length=length))
        for length in (None, 2)
    )
    assert [t.token for t in free] == [t.token for t in held]
    assert held.result.uplink_bytes <= free.result.uplink_bytes
    assert held.result.foreseen == 0
    with pytest.raises(RequestError, match="draft_length"):
        GenerationRequest("x", "lossless", draft_length=0)
    with pytest.raises(RequestError, match="exit_layer"):
        GenerationRequest("x", "lossless", exit_layer=1)
    with pytest.raises(RequestError, match="exits of bundle"):
        engine.start(GenerationRequest("x", "standalone", exit_layer=7))


@pytest.fixture
def agent(start_daemon, tmp_path):
    """Return a function that starts an agent with a budget of its own."""

    def start(lines, more=""):
        (tmp_path / "budgets.toml").write_text(f'[device.here]\nmodel = "x86"\n{lines}\n')
        config = tmp_path / "agent.toml"
        config.write_text(
            '[energy]\nmeter = "modelled"\nactive_power_w = 20\nidle_w = 5\n'
            f'[budget]\nfile = "{tmp_path}/budgets.toml"\ndevice = "here"\n'
            f'ledger = "{tmp_path}/ledger.sqlite"\n{more}'
        )
        return start_daemon("edge", "serve", "--listen", "127.0.0.1:0", "--config", config)

    return start


def http(agent, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{agent.address}{path}", data)
    with urllib.request.urlopen(request, timeout=60) as response:
        return response.read().decode()


_BODY = {"prompt": "def main(", "max_tokens": 24, "temperature": 0}


def test_an_agent_says_what_it_spent_and_forgets_nothing_when_it_is_killed(agent):
    first = agent('energy_per_day = "100 J"\nuplink_per_day = "1 MB"')
    answer = json.loads(http(first, "/v1/completions", _BODY))
    spent = answer["usage"]["updraft"]
    assert spent["energy_j"] == answer["updraft"]["energy"]["joules"]
    assert spent["left"]["energy_per_day"] == pytest.approx(100 - spent["energy_j"], abs=1e-4)
    stream = http(first, "/v1/completions", {**_BODY, "stream": True}).splitlines()
    chunks = [json.loads(line[6:]) for line in stream if line.startswith("data: {")]
    left = chunks[-1]["updraft"]["budget"]["left"]["energy_per_day"]
    assert left < spent["left"]["energy_per_day"]
    state = json.loads(http(first, "/v1/budget"))
    assert state["today"]["requests"] == 2
    assert state["lines"][0]["left"] == left
    assert "budgets.toml:3 [device.here]" in state["lines"][0]["from"]
    first.kill()
    again = agent('energy_per_day = "100 J"\nuplink_per_day = "1 MB"')
    state = json.loads(http(again, "/v1/budget"))
    assert state["today"]["requests"] == 2
    assert state["lines"][0]["left"] == left


def test_an_exhausted_agent_answers_429_and_when_to_come_again(agent):
    daemon = agent('energy_per_day = "0.1 J"')
    with pytest.raises(urllib.error.HTTPError) as refused:
        for _ in range(40):
            http(daemon, "/v1/completions", _BODY)
    assert refused.value.code == 429
    assert int(refused.value.headers["Retry-After"]) > 0
    assert json.loads(refused.value.read())["error"]["code"] == "budget"
    refused.value.close()
    assert json.loads(http(daemon, "/healthz"))["status"] == "serving"
