"""The catalogue of errors is complete, and each code is explained to people."""

import re
from pathlib import Path

import grpc
import pytest

from updraft import errors
from updraft.errors import BundleError, LinkBroken, UpdraftError
from updraft.errors.catalogue import CATALOGUE, status_of

GUIDE = Path(__file__).parents[2] / "docs/guides/errors.md"
CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UpdraftError)
]
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def sections():
    """Return the text under each `## \\`code\\`` heading of the guide."""
    _, *parts = re.split(r"^## `([a-z-]+)`\n", GUIDE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def subclasses(kind):
    """Return a kind of error and those below it; what benchmarks raise has the root's code."""
    own = [
        below
        for below in kind.__subclasses__()
        if re.match(r"updraft\.(?!benchmarks)", below.__module__)
    ]
    return {kind}.union(*map(subclasses, own))


def test_every_error_has_an_entry_and_every_entry_is_an_error():
    assert set(CATALOGUE) == set(CLASSES)
    assert subclasses(UpdraftError) == set(CLASSES)


@each_class
def test_its_grpc_status_exists_and_says_failure(kind):
    status = grpc.StatusCode[CATALOGUE[kind].grpc]
    assert status is not grpc.StatusCode.OK


@each_class
def test_its_http_status_says_failure(kind):
    assert 400 <= CATALOGUE[kind].http <= 599


def test_no_two_errors_share_a_code():
    codes = [kind.code for kind in CLASSES]
    assert len(set(codes)) == len(codes)


@each_class
def test_the_guide_explains_its_code(kind):
    text = sections()[kind.code]
    assert "**What happened.**" in text
    assert "**What to do.**" in text


def test_the_guide_explains_no_code_that_is_gone():
    assert set(sections()) == {kind.code for kind in CLASSES}


def test_an_error_travels_as_its_nearest_class():
    class LinkReset(LinkBroken):
        pass

    assert status_of(LinkReset("x")) == CATALOGUE[LinkBroken]
    assert status_of(BundleError("x")) == CATALOGUE[BundleError]


@each_class
def test_only_errors_of_the_link_let_the_edge_go_on_alone(kind):
    assert issubclass(kind, errors.LinkError) == kind.code.startswith("link")
