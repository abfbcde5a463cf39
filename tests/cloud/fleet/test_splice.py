"""One text out of the parts of several nodes."""

from hypothesis import given
from hypothesis import strategies as st

from updraft.cloud.fleet.splice import Given, Part, Splice

TOKENS = ("de", "f ", "", "é", "漢字", "\n")


def parts_of(tokens, sizes=(1,)):
    """Cut tokens into parts of these sizes, over and over."""
    found, at = [], 0
    while at < len(tokens):
        size = sizes[len(found) % len(sizes)]
        piece = tokens[at : at + size]
        found.append(Part(at, "".join(piece), len(piece)))
        at += size
    return found


class Reader:
    """A client: keeps what it was given, voids it when told to."""

    def __init__(self):
        self.text, self.tokens, self.voided = "", 0, 0

    def take(self, given):
        if given.anew:
            self.text, self.tokens = "", 0
            self.voided += 1
        if given.part is not None:
            assert given.part.position == self.tokens
            self.text += given.part.text
            self.tokens += given.part.tokens


def test_one_node_is_passed_on_as_it_speaks():
    splice = Splice()
    assert not splice.begin("v")
    for part in parts_of(TOKENS):
        assert splice.add(part) == Given(part)
    assert splice.end() == Given()


@given(
    st.lists(st.sampled_from(TOKENS), max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(1, 4), min_size=1)), max_size=4),
)
def test_the_same_text_from_many_nodes_is_given_once(tokens, lives):
    splice, reader = Splice(), Reader()
    for number, (length, sizes) in enumerate([*lives, (12, [1])]):
        assert splice.begin("v") == (number > 0)
        for part in parts_of(tokens[:length], sizes):
            reader.take(splice.add(part))
    reader.take(splice.end())
    assert (reader.text, reader.tokens, reader.voided) == ("".join(tokens), len(tokens), 0)


@given(
    st.lists(st.sampled_from(TOKENS), max_size=8),
    st.lists(st.sampled_from(TOKENS), max_size=8),
    st.lists(st.integers(1, 4), min_size=1),
)
def test_another_text_replaces_what_was_given(first, second, sizes):
    splice, reader = Splice(), Reader()
    for tokens in (first, second):
        splice.begin("v")
        for part in parts_of(tokens, sizes):
            reader.take(splice.add(part))
    reader.take(splice.end())
    assert reader.text == "".join(second)
    if reader.text != "".join(first):
        assert reader.tokens == len(second)


def test_another_expert_starts_anew():
    splice = Splice()
    splice.begin("v")
    splice.add(Part(0, "abc", 3))
    assert not splice.begin("w")
    assert splice.add(Part(0, "abd", 3)) == Given(Part(0, "abd", 3))
