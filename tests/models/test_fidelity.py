"""What quantization cost a bundle, and the gate that refuses one that lost too much."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from updraft.errors import BundleError, RequestError
from updraft.models.build import write_bundle
from updraft.models.fidelity import Effort, Limits, compare, require_fidelity
from updraft.models.manifest import Quantization
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tasks import Item, draw_items, read_item, score_item
from updraft.models.tokenizer import Tokenizer

_OPTIONS = RuntimeOptions(threads=1)
_EFFORT = Effort(tokens=600, items=20, options=_OPTIONS)


@pytest.fixture(scope="module")
def text():
    draw = random.Random(5)
    words = ("def", "return", "for", "item", "in", "items", "print", "add", "(", ")", ":", "=")
    return "".join(" ".join(draw.choices(words, k=8)) + "\n" for _ in range(120))


@pytest.fixture(scope="module")
def reference(tiny_plan, tiny_weights, tmp_path_factory):
    """The tiny model in fp32."""
    plan = replace(tiny_plan, quantization=Quantization(weights="fp32"))
    return write_bundle(tmp_path_factory.mktemp("fidelity") / "fp32", plan, tiny_weights)


@pytest.fixture(scope="module")
def damaged(tiny_plan, tiny_weights, tmp_path_factory):
    """The same with noise in a layer: what a bad conversion does."""
    rng = np.random.default_rng(0)
    name = "layers.3.down.weight"
    noisy = tiny_weights | {name: tiny_weights[name] + rng.normal(0, 1, (64, 96)).astype("f4")}
    plan = replace(tiny_plan, quantization=Quantization(weights="fp32"))
    return write_bundle(tmp_path_factory.mktemp("fidelity") / "damaged", plan, noisy)


@pytest.fixture(scope="module")
def model(reference):
    return Model.load(reference, range(reference.manifest.architecture.layers), _OPTIONS)


def test_a_bundle_is_as_good_as_itself(reference, text):
    found = compare(reference, reference, [text], effort=_EFFORT)
    assert found.perplexity_ratio.low == found.perplexity_ratio.high == 1
    assert found.agreement == 1
    assert {task.task for task in found.tasks} == {"completion", "choice"}
    assert all(task.loss.low == task.loss.high == 0 for task in found.tasks)
    assert not found.faults(Limits(perplexity_ratio=1, task_loss=0))


def test_eight_bits_cost_little_and_damage_costs_much(reference, tiny_bundle, damaged, text):
    fine = compare(tiny_bundle, reference, [text], effort=_EFFORT)
    assert fine.perplexity_ratio.estimate == pytest.approx(1, abs=0.05)
    assert 0.8 < fine.agreement < 1
    bad = compare(damaged, reference, [text], effort=_EFFORT)
    assert abs(math.log(bad.perplexity_ratio.estimate)) > abs(
        math.log(fine.perplexity_ratio.estimate)
    )
    assert bad.agreement < fine.agreement
    ratio = bad.perplexity_ratio
    assert ratio.low <= ratio.estimate <= ratio.high


def test_the_gate_names_both_values_and_the_limit(reference, damaged, text):
    # The reference's own greedy answer: what it says and the damaged one does not.
    asked = tuple(Tokenizer(reference).encode("for item in items"))
    items = [_own_answer(reference, (*asked, token)) for token in range(20, 60)]
    limits = Limits(task_loss=0.1)
    with pytest.raises(
        BundleError,
        match=r"refused: .*exact match: 0.* where the reference reaches "
        r"1.0000, a loss of .*, at most 0.1 is allowed",
    ):
        require_fidelity(damaged, reference, [text], limits, items, _EFFORT)
    passed = require_fidelity(reference, reference, [text], limits, items, _EFFORT)
    assert passed.tasks[-1].reference == 1
    worse = compare(reference, damaged, [text], effort=_EFFORT)
    limit = worse.perplexity_ratio.estimate * 0.99
    assert any("times the reference's" in f for f in worse.faults(Limits(perplexity_ratio=limit)))


def _own_answer(bundle, context, length=4):
    model = Model.load(bundle, range(bundle.manifest.architecture.layers), _OPTIONS)
    sequence = model.new_sequence()
    sequence.append(context)
    said = []
    for _ in range(length):
        states = sequence.advance(model.top)
        said.append(int(model.heads.predict(model.top, states[-1:]).token[0]))
        sequence.append(said[-1:])
    return Item("exact match", context, (tuple(said),))


def test_scores_of_items(model, reference):
    context = tuple(Tokenizer(reference).encode("def add(a, b):"))
    right = _own_answer(reference, context)
    sequence = model.new_sequence()
    assert score_item(model, sequence, right) == 1
    token = right.answers[0]
    wrong = (*token[:2], token[2] ^ 1, token[3])
    assert score_item(model, sequence, replace(right, answers=(wrong,))) == 0
    half = Item("completion", context, (wrong,))
    assert score_item(model, sequence, half) == 0.5
    # The likeliest first token makes the likelier of two answers of one token.
    choice = Item("choice", context, (token[:1], (token[0] ^ 1,)))
    assert score_item(model, sequence, choice) == 1
    assert score_item(model, sequence, replace(choice, answers=choice.answers[::-1])) == 0


def test_items_are_cut_from_the_text(reference, text):
    stream = np.array(Tokenizer(reference).encode(text))
    items = draw_items(stream, 0, 64, 15, np.random.default_rng(1))
    whole = ",".join(map(str, stream)) + ","
    for item in items:
        assert item.context[0] == 0
        joined = ",".join(map(str, (*item.context[1:], *item.answers[0]))) + ","
        assert joined in whole
        assert item.tokens <= 64
        assert len(set(item.answers)) == len(item.answers)
    assert all(len(item.answers) == 4 for item in items if item.task == "choice")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "a"}, 'a text "prompt" is expected'),
        ({"prompt": "a"}, 'a "completion", or "choices"'),
        ({"prompt": "a", "completion": ""}, 'a "completion", or "choices"'),
        ({"prompt": "a", "choices": ["b"], "answer": 0}, "must be 2 to 64 texts"),
        ({"prompt": "a", "choices": ["b", ""], "answer": 0}, "must be 2 to 64 texts"),
        ({"prompt": "a", "choices": ["b", "c"], "answer": 2}, "must be a number from 0 to 1"),
        ({"prompt": "a", "choices": ["b", "c"]}, "must be a number from 0 to 1"),
        ({"prompt": "a" * 100, "completion": "b"}, "tokens, the context has 64"),
    ],
)
def test_rows_that_are_no_items_are_refused(reference, row, message):
    with pytest.raises(RequestError, match=message):
        read_item(row, Tokenizer(reference), 0, 64)


def test_rows_of_a_user_become_items(reference):
    tokenizer = Tokenizer(reference)
    row = {"prompt": "for", "choices": ["x", " item", "y"], "answer": 1}
    item = read_item(row, tokenizer, 0, 64)
    assert tokenizer.decode(item.answers[0]) == " item"
    assert {tokenizer.decode(answer) for answer in item.answers[1:]} == {"x", "y"}
    assert read_item({"prompt": "a", "completion": "b"}, tokenizer, 0, 64).task == "exact match"


def test_what_cannot_be_compared_is_refused(reference, bundle, text):
    with pytest.raises(BundleError, match="different tokenizers"):
        compare(reference, bundle, [text])
    with pytest.raises(RequestError, match="at least 512 are needed"):
        compare(reference, reference, ["short"])
