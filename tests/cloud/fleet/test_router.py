"""Who answers a prompt."""

from hypothesis import given
from hypothesis import strategies as st

from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.registry import Beat
from updraft.cloud.fleet.router import Ask, best, worth

ASK = Ask(32, 10, {"python": 0.9, "c": 0.6})
FREE = Plan(1, frozenset("abcdef"))


def named(node):
    return None if node is None else node.name


def test_the_best_expert_answers(member):
    assert named(best(ASK, [member("a", "c"), member("b", "python")], FREE)) == "b"


def test_a_joule_must_be_worth_its_price(member):
    nodes = [member("a", "c", prompt_j=1.0), member("b", "python", prompt_j=11.0)]
    dear = Plan(1, frozenset("ab"), quality_per_j=0.05)
    assert worth(ASK, nodes[1].capability, dear) == 0.9 - 0.05 * (11 + 10 * 0.1)
    assert named(best(ASK, nodes, Plan(1, frozenset("ab"), quality_per_j=0.02))) == "b"
    assert named(best(ASK, nodes, dear)) == "a"


def test_a_node_whose_time_is_dear_keeps_it_for_those_who_need_it(member):
    nodes = [member("a", "c"), member("b", "python", first_token_ms=980.0)]
    plan = Plan(1, frozenset("ab"), quality_per_s={"b": 0.4})
    assert worth(ASK, nodes[1].capability, plan) == 0.9 - 0.4 * (0.98 + 10 * 0.002)
    assert named(best(ASK, nodes, plan)) == "a"


def test_who_cannot_start_is_passed_over(member):
    able = member("f", "c")
    for unable in (
        member("x", "python"),  # parked by the plan
        member("a", "python", beat=Beat(ready=False)),
        member("a", "python", beat=Beat(ready=True, exhausted=True)),
        member("a", "python", beat=Beat(ready=True, leaving=True)),
        member("a", "python", working=2, concurrency=2),
        member("a", "python", context_length=32),
        member("a", "python", max_tokens=9),
    ):
        assert best(ASK, [unable], FREE) is None
        assert named(best(ASK, [unable, able], FREE)) == "f"


def test_who_failed_is_not_asked_again_but_its_successor_is(member):
    ask = Ask(32, 10, {}, failed={7})
    assert best(ask, [member("a", stream=7)], FREE) is None
    assert named(best(ask, [member("a", stream=8)], FREE)) == "a"


def test_a_version_that_refused_is_refused_everywhere(member):
    ask = Ask(32, 10, {}, refused={"version-of-python"})
    nodes = [member("a", "python"), member("b", "python"), member("c", "c")]
    assert named(best(ask, nodes, FREE)) == "c"


def test_equals_share_the_load(member):
    nodes = [member("a", working=1, concurrency=2), member("b", working=1, concurrency=4)]
    assert named(best(ASK, nodes, FREE)) == "b"
    nodes[0].answers, nodes[0].working, nodes[1].working = 5, 0, 0
    assert named(best(ASK, nodes, FREE)) == "b"


def test_an_expert_that_the_gate_does_not_know_is_judged_by_its_record(member):
    nodes = [
        member("a", "c"),
        member("b", "poems", quality={"verse": 0.9, "prose": 0.5}),
        member("c", "nothing", quality={}),
    ]
    assert named(best(ASK, nodes, FREE)) == "b"
    assert ASK.expects_of(nodes[1].capability) == 0.7
    assert ASK.expects_of(nodes[2].capability) == 0.0


@given(st.data())
def test_nobody_that_can_start_is_worth_more_than_the_chosen(member, data):
    price = data.draw(st.sampled_from((0.0, 0.01, 0.3)))
    plan = Plan(1, frozenset(data.draw(st.sets(st.sampled_from("abcdef")))), quality_per_j=price)
    nodes = [
        member(
            name,
            data.draw(st.sampled_from(("python", "c", "other"))),
            beat=Beat(ready=data.draw(st.booleans())),
            working=data.draw(st.integers(0, 2)),
            concurrency=2,
            prompt_j=data.draw(st.floats(0, 10)),
        )
        for name in "abcdef"
    ]
    chosen = best(ASK, nodes, plan)
    able = [n for n in nodes if n.name in plan.selected and n.beat.ready and n.working < 2]
    assert (chosen is None) == (not able)
    if chosen is not None:
        assert chosen in able
        most = max(worth(ASK, node.capability, plan) for node in able)
        assert worth(ASK, chosen.capability, plan) >= most - 1e-6
