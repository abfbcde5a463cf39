"""Tokens to text: whole characters, whole texts, and stop strings wherever tokens are cut."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle
from updraft.models.tokenizer import TextStream, Tokenizer

REPLACEMENT = "\ufffd"
TOKENS = st.lists(st.integers(0, 256), max_size=30)
TEXTS = st.text(min_size=1, max_size=40)


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle):
    return Tokenizer(tiny_bundle)


def stream_all(tokenizer, tokens, stop=()):
    stream = TextStream(tokenizer, stop)
    pieces = [stream.push(token) for token in tokens]
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text
    return stream, pieces


def bytes_to_tokens(tokenizer, text):
    """Spell a text with one token per byte, the finest cut there is."""
    single = {tokenizer.bytes_of(token): token for token in range(1, 257)}
    return [single[bytes([byte])] for byte in text.encode()]


def first_to_be_complete(text, stops):
    """Return the text before the stop string that ends first, the longest of several."""
    for end in range(len(text) + 1):
        if met := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, met))]
    return text


@given(text=TEXTS)
def test_any_text_survives_tokenizing(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_every_byte_has_a_token_of_its_own(tokenizer):
    singles = {tokenizer.bytes_of(token) for token in range(1, 257)}
    assert singles == {bytes([byte]) for byte in range(256)}


def test_a_prompt_that_spells_the_end_token_is_plain_text(tokenizer):
    tokens = tokenizer.encode("a<|end|>b")
    assert tokenizer.end_of_text not in tokens
    assert tokenizer.decode(tokens) == "a<|end|>b"


@given(tokens=TOKENS)
def test_pieces_add_up_to_the_decoded_whole(tokenizer, tokens):
    stream, _ = stream_all(tokenizer, tokens)
    assert stream.text == tokenizer.decode(tokens)
    assert not stream.stopped


@given(text=TEXTS.filter(lambda text: REPLACEMENT not in text))
def test_no_piece_splits_a_character(tokenizer, text):
    _, pieces = stream_all(tokenizer, bytes_to_tokens(tokenizer, text))
    assert "".join(pieces) == text
    assert [piece for piece in pieces if piece] == list(text)


def test_a_character_waits_for_its_last_byte(tokenizer):
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in bytes_to_tokens(tokenizer, "🙂")]
    assert pieces == ["", "", "", "🙂"]


def test_an_unfinished_character_ends_as_a_replacement_character(tokenizer):
    stream = TextStream(tokenizer)
    for token in bytes_to_tokens(tokenizer, "漢")[:2]:
        assert stream.push(token) == ""
    assert stream.finish() == REPLACEMENT


@given(tokens=TOKENS, data=st.data())
def test_text_ends_before_the_first_stop_string(tokenizer, tokens, data):
    whole = tokenizer.decode(tokens)
    start = data.draw(st.integers(0, max(0, len(whole) - 1)))
    part = whole[start : start + data.draw(st.integers(1, 4))]
    stop = data.draw(st.sampled_from([part or "x", "x", "()"]))
    at = whole.find(stop)
    stream, _ = stream_all(tokenizer, tokens, [stop])
    assert stream.stopped == (at >= 0)
    assert stream.text == (whole[:at] if at >= 0 else whole)


@given(tokens=st.lists(st.integers(257, 287), min_size=1, max_size=5), data=st.data())
def test_of_several_stop_strings_the_first_to_be_complete_wins_however_text_is_cut(
    tokenizer, tokens, data
):
    text = tokenizer.decode(tokens)
    starts = data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=4))
    stops = [text[start : start + data.draw(st.integers(1, 4))] for start in starts]
    expected = first_to_be_complete(text, stops)
    for cut in (tokens, tokenizer.encode(text), bytes_to_tokens(tokenizer, text)):
        assert stream_all(tokenizer, cut, stops)[0].text == expected


def test_a_stop_string_spread_over_tokens_never_shows(tokenizer):
    stream = TextStream(tokenizer, ["\n\ndef"])
    pieces = [stream.push(token) for token in bytes_to_tokens(tokenizer, "x\n\ndef y")]
    assert pieces == ["x", *[""] * 7]
    assert stream.stopped
    assert stream.finish() == ""


def test_a_tail_that_turns_out_harmless_is_given_out(tokenizer):
    stream = TextStream(tokenizer, ["ab!"])
    pieces = [stream.push(token) for token in bytes_to_tokens(tokenizer, "aab?")]
    assert pieces == ["", "a", "", "ab?"]


def test_a_tail_still_undecided_at_the_end_is_given_out(tokenizer):
    stream = TextStream(tokenizer, ["stop"])
    for token in bytes_to_tokens(tokenizer, "sto"):
        assert stream.push(token) == ""
    assert stream.finish() == "sto"
    assert not stream.stopped


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "prompt is empty"),
        ("ab\ud800", "not valid UTF-8 at character 2"),
        ("é" * ((1 << 19) + 1), f"{(1 << 20) + 2} bytes, at most {1 << 20}"),
    ],
    ids=["empty", "surrogate", "giant"],
)
def test_a_prompt_that_cannot_be_tokenized_is_refused(tokenizer, prompt, reason):
    with pytest.raises(RequestError, match=reason):
        tokenizer.encode(prompt)


def test_a_file_that_is_no_tokenizer_is_refused(tiny_bundle, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer(Bundle(tmp_path, tiny_bundle.manifest))


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(tiny_bundle):
    manifest = tiny_bundle.manifest
    smaller = manifest.architecture.model_copy(update={"vocabulary_size": 100})
    bundle = dataclasses.replace(
        tiny_bundle, manifest=manifest.model_copy(update={"architecture": smaller})
    )
    with pytest.raises(BundleError, match="tokens, the model knows 100"):
        Tokenizer(bundle)
