"""Every kind of tokenizer: text, whole or in tokens, is what the `tokenizers` library makes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import (
    Tokenizer as Library,
)

from updraft.errors import BundleError
from updraft.models.bundle import Bundle
from updraft.models.pieces import Pieces
from updraft.models.recipes.tokenizer import train_tokenizer
from updraft.models.tokenizer import TextStream, Tokenizer

_LINES = (
    "def add(a, b):\n    return a + b\n",
    "the quick brown fox jumps over the lazy dog; the dog sleeps\n",
    "for item in items:\n    print(item)\n",
    "é ü 漢字 🙂\n",
)
_SPECIAL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_PADDING = 7
TEXTS = st.text(min_size=1, max_size=40)
# Examples share a bundle folder, which none of them changes.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def llama_2():
    """SentencePiece's BPE with bytes to fall back to, as Llama 2 and Mistral were converted."""
    tokenizer = _byte_fallback()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return tokenizer


def llama_2_by_transformers_5():
    """The same as transformers 5 builds it: a pre-tokenizer sets the first space."""
    tokenizer = _byte_fallback()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    return tokenizer


def unigram():
    """SentencePiece's unigram model, with a decoder that knows the first token."""
    tokenizer = Library(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    return tokenizer


def byte_level():
    """Byte-level BPE as of Llama 3 and Qwen: several special tokens, one added that shows."""
    tokenizer = train_tokenizer(_LINES, 300)
    tokenizer.add_special_tokens(["<s>", "</s>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False), AddedToken("né 漢")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def _byte_fallback():
    tokenizer = Library(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=[*_SPECIAL, *_BYTES, "▁"], show_progress=False
    )
    tokenizer.train_from_iterator(_LINES[:3], trainer)
    # The trainer makes all of them special; bytes are text.
    written = tokenizer.to_str()
    for byte in _BYTES:
        at = written.index(f'"content":"{byte}"')
        written = written[:at] + written[at:].replace('"special":true', '"special":false', 1)
    return Library.from_str(written)


KINDS = {kind.__name__: kind for kind in (llama_2, llama_2_by_transformers_5, unigram, byte_level)}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tiny_bundle, tmp_path_factory):
    """Our tokenizer and the library's, of one file."""
    library = KINDS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    library.save(str(folder / "tokenizer.json"))
    manifest, begin = tiny_bundle.manifest, library.token_to_id("<s>")
    known, end = library.get_vocab_size(), library.token_to_id("<|im_end|>")
    entry = manifest.tokenizer.model_copy(
        update={
            "end_of_text": library.token_to_id("</s>"),
            "stop_tokens": [] if end is None else [end],
            "begin_token": begin,
        }
    )
    shape = manifest.architecture.model_copy(update={"vocabulary_size": known + _PADDING})
    update = {"tokenizer": entry, "architecture": shape}
    return Tokenizer(Bundle(folder, manifest.model_copy(update=update))), library


def stream(tokenizer, tokens, **starts):
    pieces = TextStream(tokenizer, **starts)
    return "".join([*map(pieces.push, tokens), pieces.finish()])


@SHARED
@given(text=TEXTS)
def test_texts_become_the_tokens_of_the_library_behind_the_begin_token(pair, text):
    ours, library = pair
    library.encode_special_tokens = True
    expected = library.encode(text, add_special_tokens=False).ids
    expected = [token for token in expected if token not in {ours.begin_token, ours.end_of_text}]
    assert ours.encode(text) == [ours.begin_token, *expected]


@SHARED
@given(text=TEXTS)
def test_tokens_become_the_text_of_the_library(pair, text):
    ours, library = pair
    tokens = ours.encode(text)
    assert ours.decode(tokens) == library.decode(tokens)
    assert stream(ours, tokens, starts=True) == library.decode(tokens)


@SHARED
@given(data=st.data())
def test_any_tokens_become_the_text_of_the_library(pair, data):
    ours, library = pair
    size = library.get_vocab_size() + _PADDING
    tokens = data.draw(st.lists(st.integers(0, size - 1), max_size=12))
    if any(library.id_to_token(token) in _BYTES for token in tokens):
        # Of bytes that are no character the library makes one mark each, we make one of them.
        tokens = [token for token in tokens if library.id_to_token(token) not in _BYTES]
    assert ours.decode(tokens) == library.decode(tokens)


@SHARED
@given(first=TEXTS, second=TEXTS)
def test_a_continuation_streams_what_the_whole_has_more_than_the_prompt(pair, first, second):
    ours, _ = pair
    prompt, rest = ours.encode(first), ours.encode(second)
    before, whole = ours.decode(prompt), ours.decode(prompt + rest)
    if "�" not in whole and before.strip(" "):
        assert before + stream(ours, rest) == whole


def test_special_tokens_in_a_text_are_text_and_in_a_chat_are_tokens(pair):
    ours, _ = pair
    text = "the dog</s>the"
    assert ours.end_of_text not in ours.encode(text)
    assert ours.encode_chat(text).count(ours.end_of_text) == 1
    assert ours.begin_token not in ours.encode_chat("the dog")
    assert ours.end_of_text not in ours.encode(text)


def test_all_stop_tokens_end_a_text_and_are_silent(pair):
    ours, library = pair
    ends = [token for token in range(library.get_vocab_size()) if ours.ends(token)]
    expected = [library.token_to_id(one) for one in ("</s>", "<|im_end|>")]
    assert ends == sorted(token for token in expected if token is not None)
    assert {ours.bytes_of(token) for token in ends} == {b""}


def test_the_vocabulary_in_bytes_has_a_place_for_padding(pair):
    ours, library = pair
    vocabulary = ours.vocabulary_bytes()
    assert len(vocabulary) == library.get_vocab_size() + _PADDING
    assert vocabulary[-_PADDING:] == [b""] * _PADDING
    assert vocabulary[library.token_to_id("<s>")] == b""
    shown = sum(map(bool, vocabulary))
    assert shown >= library.get_vocab_size() - 5


def test_bytes_to_fall_back_to_are_bytes():
    pieces = Pieces(
        {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
            ],
        }
    )
    assert pieces.bytes_of("<0xE6>") == b"\xe6"
    assert [pieces.bytes_of(piece) for piece in ("<0xZZ>", "<0x41", "▁a")] == [
        b"<0xZZ>", b"<0x41", b" a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        (decoders.WordPiece(), "its decoder WordPiece"),
        (decoders.Sequence([decoders.Strip(" ", 1, 0)]), "its decoder Strip"),
        (None, "it has no decoder"),
    ],
)
def test_a_decoder_that_needs_whole_texts_is_refused(tiny_bundle, tmp_path, decoder, reason):
    library = train_tokenizer(_LINES, 288)
    library.decoder = decoder
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match=reason):
        Tokenizer(Bundle(tmp_path, tiny_bundle.manifest))
