"""Documents become problems, and back; what is wrong with one is named with its place."""

import copy
import json
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ProblemError
from updraft.optimizer.document import document_of, problem_of
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt

_numbers = st.one_of(
    st.floats(0, 2.0**53, exclude_max=True, allow_nan=False),
    st.integers(0, 2**53 - 1).map(float),
    st.sampled_from([0.0, 5e-324, 0.1, 1e-9]),
)
_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def _problems(draw):
    categories = draw(st.lists(_names, min_size=1, max_size=3, unique=True))
    resources = draw(st.lists(_names, max_size=2, unique=True))
    prompts = tuple(
        Prompt(id_, draw(st.sampled_from(categories)), draw(_numbers))
        for id_ in draw(st.lists(_names, min_size=1, max_size=4, unique=True))
    )
    experts = tuple(
        Expert(
            id_,
            draw(_numbers),
            {name: draw(_numbers) for name in categories},
            {name: draw(_numbers) for name in resources},
        )
        for id_ in draw(st.lists(_names, min_size=1, max_size=4, unique=True))
    )
    shape = (len(prompts), len(experts))

    def matrix():
        cells = draw(st.lists(_numbers, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
        return np.array(cells).reshape(shape)

    asked = [name for name in {prompt.category for prompt in prompts} if draw(st.booleans())]
    answers_cost = draw(st.booleans())
    ranks = 1 if answers_cost else draw(st.integers(1, shape[1]))
    falling = sorted((draw(_numbers) for _ in range(ranks)), reverse=True)
    return Problem(
        experts,
        prompts,
        matrix(),
        Budgets(
            draw(st.none() | _numbers),
            {name: draw(_numbers) for name in asked},
            {name: draw(_numbers) for name in resources},
        ),
        tuple(falling) if falling[0] else (1.0,) * ranks,
        draw(st.sampled_from(["parallel", "serial"])),
        draw(st.sampled_from(["lenient", "strict"])),
        matrix() if answers_cost else None,
    )


@settings(max_examples=150)
@given(_problems())
def test_a_problem_survives_its_document_and_json(problem):
    read = problem_of(json.loads(json.dumps(document_of(problem))))
    for name in ("experts", "prompts", "budgets", "rank_weights", "latency_mode", "ineligible"):
        assert getattr(read, name) == getattr(problem, name)
    assert np.array_equal(read.quality, problem.quality)
    if problem.query_energy_j is None:
        assert read.query_energy_j is None
    else:
        assert np.array_equal(read.query_energy_j, problem.query_energy_j)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.data())
def test_anything_in_any_place_is_read_or_refused(data):
    """Whatever stands somewhere in a document: a problem or a ProblemError, nothing else."""
    document = _document()
    place = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            place[key] = data.draw(_json)
            break
        place = place[key]
    try:
        problem = problem_of(document)
    except ProblemError as error:
        assert 1 <= len(error.faults) <= 11
        assert all(fault and fault.isprintable() for fault in error.faults)
    else:
        assert problem.quality.shape == (len(problem.prompts), len(problem.experts))
        assert (problem.quality >= 0).all()


def _document():
    return {
        "experts": [
            {"id": f"e{i}", "energy_j": 1 + i, "latency_ms": {"code": 2.5}, "resources": {"gib": 4}}
            for i in range(3)
        ],
        "prompts": [{"id": f"p{i}", "category": "code", "weight": 1} for i in range(4)],
        "quality": [[0.25, 0.5, 1] for _ in range(4)],
        "budgets": {"energy_j": 3, "latency_ms": {"code": 3}, "resources": {"gib": 8}},
        "top_k": 2,
        "rank_weights": [1, 0.5],
    }


def faults_of(change):
    document = copy.deepcopy(_document())
    change(document)
    with pytest.raises(ProblemError) as caught:
        problem_of(document)
    return caught.value.faults


def setting(*keys):
    """Return a change that puts the last of `keys` at the place that the others lead to."""

    def change(document):
        *path, last, value = keys
        for key in path:
            document = document[key]
        document[last] = value

    return change


def test_defaults():
    document = _document()
    for key in ("top_k", "rank_weights", "budgets"):
        del document[key]
    document["prompts"] = [{"id": f"p{i}"} for i in range(4)]
    document["experts"] = [{"id": f"e{i}", "energy_j": 1} for i in range(3)]
    problem = problem_of(document)
    assert problem.rank_weights == (1.0,)
    assert problem.budgets == Budgets()
    assert problem.prompts[0] == Prompt("p0", "", 1.0)
    assert (problem.latency_mode, problem.ineligible) == ("parallel", "lenient")
    assert problem_of(document | {"top_k": 3}).rank_weights == (1.0, 1.0, 1.0)
    assert problem_of(document | {"rank_weights": [2, 1]}).rank_weights == (2.0, 1.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "nan is not a number >= 0"),
        (float("inf"), "inf is not a number >= 0"),
        (-1, "-1 is not a number >= 0"),
        (True, "true is not a number >= 0"),
        (None, "null is not a number >= 0"),
        ("0.5", '"0.5" is not a number >= 0'),
        ([0.5], "a list is not a number >= 0"),
        ({}, "an object is not a number >= 0"),
        (2**53 + 1, "9007199254740993 is 2**53 or more"),
        (10**400, "an integer of 1329 bits is 2**53 or more"),
    ],
)
def test_what_is_no_number_is_named_with_its_place(value, message):
    for change, place in (
        (setting("quality", 2, 1, value), 'quality row 3, column 2 (prompt "p2", expert "e1")'),
        (setting("experts", 1, "energy_j", value), 'expert 2 ("e1"): energy_j'),
        (setting("experts", 1, "latency_ms", "code", value), 'expert 2 ("e1"): latency_ms.code'),
        (setting("experts", 1, "resources", "gib", value), 'expert 2 ("e1"): resources.gib'),
        (setting("prompts", 3, "weight", value), 'prompt 4 ("p3"): weight'),
        (setting("budgets", "energy_j", value), "budgets: energy_j"),
        (setting("budgets", "latency_ms", "code", value), "budgets: latency_ms.code"),
        (setting("budgets", "resources", "gib", value), "budgets: resources.gib"),
        (setting("rank_weights", 1, value), "rank_weights: number 2"),
    ):
        (fault,) = faults_of(change)
        assert fault.startswith(f"{place}: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            setting("quality", 1, [0.5, 1]),
            'row 2 (prompt "p1"): 2 numbers, but there are 3 experts',
        ),
        (setting("quality", 1, 0.5), "quality row 2: a list is expected, not 0.5"),
        (setting("quality", [[1, 1, 1]] * 3), "quality: 3 rows, but there are 4 prompts"),
        (setting("quality", [[1, 1, 1]] * 5), "quality: 5 rows, but there are 4 prompts"),
        (setting("quality", "q.csv"), 'quality: a list of rows is expected, not "q.csv"'),
        (lambda document: document.pop("quality"), "quality is missing: one row per prompt"),
        (lambda document: document.pop("experts"), "experts: missing"),
        (setting("prompts", []), "prompts: there is none; at least one is needed"),
        (setting("prompts", {"p": 1}), "prompts: a list of objects is expected, not an object"),
        (setting("prompts", 0, "p0"), 'prompt 1: "p0" is no object with id, category, …'),
        (setting("experts", 0, None), "expert 1: null is no object with id, energy_j, …"),
        (setting("experts", 0, {"energy_j": 1}), "expert 1: id is missing"),
        (setting("experts", 0, {"id": "x"}), 'expert 1 ("x"): energy_j is missing'),
        (setting("experts", 0, "id", 7), "expert 1: id: a text is expected, not 7"),
        (setting("experts", 0, "id", "\ud800"), "is not valid Unicode"),
        (setting("experts", 2, "id", "e0"), 'expert 3: the id "e0" is that of expert 1 already'),
        (setting("experts", 0, "latency_ms", 3), "latency_ms: numbers by name are expected, not 3"),
        (setting("experts", 0, "latency_ms", {}), '("e0"): latency_ms.code is missing; a budget'),
        (setting("prompts", 0, "category", None), "category: a text is expected, not null"),
        (setting("budgets", []), "budgets: an object with energy_j, … is expected, not a list"),
        (setting("budgets", "latency_ms", "cod", 1), 'this category; did you mean "code"?'),
        (setting("budgets", "resources", "ram", 1), 'this resource; known are "gib"'),
        (setting("budgets", "enrgy_j", 1), 'budgets: unknown key "enrgy_j"; did you mean "energy'),
        (setting("qualty", []), 'unknown key "qualty"; did you mean "quality"?'),
        (setting("experts", 0, "energy", 1), 'unknown key "energy"; did you mean "energy_j"?'),
        (setting("prompts", 1, "wieght", 1), 'unknown key "wieght"; did you mean "weight"?'),
        (setting("top_k", 0), "top_k: 0 is no whole number >= 1"),
        (setting("top_k", 2.0), "top_k: 2.0 is no whole number >= 1"),
        (setting("top_k", True), "top_k: true is no whole number >= 1"),
        (setting("top_k", 10**9), "top_k: 1000000000 is more than the 3 experts"),
        (setting("top_k", 1), "rank_weights: 2 of them, but top_k is 1"),
        (setting("rank_weights", [0.5, 1]), "rank_weights: number 2, 1, is more than 0.5 before"),
        (setting("latency_mode", "serail"), 'latency_mode: "serail" is unknown; choose from para'),
        (setting("ineligible", None), "ineligible: null is unknown; choose from lenient, strict"),
    ],
)
def test_what_makes_no_sense_is_told_once(change, message):
    faults = faults_of(change)
    assert sum(message in fault for fault in faults) == 1, faults


@pytest.mark.parametrize("document", [None, [], "x", 3, float("nan")])
def test_what_is_no_object_is_refused(document):
    with pytest.raises(ProblemError, match="a problem is an object with experts, prompts"):
        problem_of(document)


def test_faults_of_all_parts_are_told_together():
    def change(document):
        document["quality"][0][0] = -1
        document["experts"][1]["energy_j"] = "much"
        document["prompts"][3]["weight"] = None
        document["top_j"] = 1

    assert len(faults_of(change)) == 4


def test_ten_faults_are_told_and_the_others_counted():
    faults = faults_of(setting("quality", [[None] * 3] * 4))
    assert len(faults) == 11
    assert faults[-1] == "and 2 more"


def test_whole_numbers_and_fractions_mix():
    document = _document()
    document["quality"][0] = [0, 1, 0.1]
    assert problem_of(document).quality[0].tolist() == [0.0, 1.0, 0.1]


def test_a_matrix_may_be_an_array():
    document = _document()
    document["quality"] = np.full((4, 3), 0.5)
    assert np.array_equal(problem_of(document).quality, np.full((4, 3), 0.5))
    document["quality"][2, 1] = np.nan
    with pytest.raises(ProblemError, match=r'quality row 3, column 2 \(prompt "p2", expert "e1"\)'):
        problem_of(document)
