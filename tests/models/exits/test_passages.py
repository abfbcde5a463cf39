"""A text cut into windows that share nothing."""

import numpy as np
import pytest

from updraft.errors import RequestError
from updraft.models.exits.passages import cut_passages, cut_prompts, encode_long, read_text
from updraft.models.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle):
    return Tokenizer(tiny_bundle)


def test_parts_hold_the_whole_text_once_and_in_order(tokenizer, sentences):
    text = sentences(500)
    passages = cut_passages(tokenizer, [text], 0, 32)
    parts = (passages.train, passages.calibration, passages.heldout)
    windows = np.concatenate(parts)
    assert (windows[:, 0] == 0).all()
    tokens = windows[:, 1:].ravel()
    assert tokens.tolist() == tokenizer.encode(text)[: len(tokens)]
    assert [round(len(part) / len(windows), 1) for part in parts] == [0.8, 0.1, 0.1]


def test_every_text_gives_its_share_to_every_part(tokenizer, sentences):
    both = cut_passages(tokenizer, [sentences(300), sentences(300, 1)], 0, 32, limit=4000)
    assert 3500 < sum(p.size for p in (both.train, both.calibration, both.heldout)) <= 4200
    first = cut_passages(tokenizer, [sentences(300)], 0, 32)
    assert both.heldout.shape[0] < first.heldout.shape[0] * 2
    assert both.sha256 != first.sha256


def test_long_texts_are_tokenized_in_pieces(tokenizer, monkeypatch, sentences):
    text = sentences(300)
    monkeypatch.setattr("updraft.models.exits.passages._PIECE_CHARS", 1000)
    assert tokenizer.decode(list(encode_long(tokenizer, text))) == text
    assert tokenizer.decode(list(encode_long(tokenizer, "x" * 2500))) == "x" * 2500


def test_prompts_share_no_token_with_each_other_or_the_windows(tokenizer):
    text = "".join(f"{number:07d}" for number in range(2000))
    prompts, windows = cut_prompts(tokenizer, [text], 0, 28, 50)
    assert len(prompts) == 50
    places = [text.find(prompt) for prompt in prompts]
    assert min(places) >= 0
    assert min(np.diff(np.sort(places))) >= 28
    for window in windows:
        assert tokenizer.decode(window[1:].tolist()) not in "|".join(prompts)


def test_what_is_no_text_is_refused(tmp_path, tokenizer):
    with pytest.raises(RequestError, match="cannot be read"):
        read_text(tmp_path / "missing")
    with pytest.raises(RequestError, match="cannot be read"):
        read_text(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="UTF-8"):
        read_text(tmp_path / "binary")
    (tmp_path / "blank").write_text(" \n")
    with pytest.raises(RequestError, match="holds no text"):
        read_text(tmp_path / "blank")
    with pytest.raises(RequestError, match="needed to calibrate"):
        cut_prompts(tokenizer, ["short"], 0, 28, 50)
