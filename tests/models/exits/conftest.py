"""A text of made-up sentences, the same every time, and exits trained on it."""

import random

import pytest

from updraft.models.exits.train import ExitPlan, train_exits
from updraft.models.runtime import RuntimeOptions

_WORDS = ("def", "return", "for", "item", "in", "items", "print", "add", "(", ")", ":", "=", "1")


@pytest.fixture(scope="session")
def sentences():
    """Return a function that makes a text of some lines; another seed gives another text."""

    def make(lines, seed=0):
        draw = random.Random(seed)
        return "".join(" ".join(draw.choices(_WORDS, k=8)) + "\n" for _ in range(lines))

    return make


@pytest.fixture(scope="session")
def plan():
    """A small training run."""
    options = RuntimeOptions(threads=1)
    return ExitPlan(rank=24, tokens=8000, steps=120, shortlist=200, options=options)


@pytest.fixture(scope="session")
def trained(tiny_bundle, sentences, plan, tmp_path_factory):
    """Where the tiny bundle with trained exits lies, and the report on it."""
    output = tmp_path_factory.mktemp("exits") / "trained"
    work = output.with_name("work")
    report = train_exits(tiny_bundle, [sentences(800)], output, work, plan, lambda *_: None)
    return output, report
