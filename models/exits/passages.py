"""A user's own text as windows of tokens, in three parts that share no window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.errors import RequestError
from updraft.models.tokenizer import Tokenizer

Windows = NDArray[np.int32]

# Where a bundle's provenance names the texts that its exits were trained on.
TEXTS = "exits_texts"

# One call of the tokenizer: small enough for its limit on prompts.
_PIECE_CHARS = 1 << 17
# Read at most: half a billion characters are more tokens than anybody trains an exit on.
_MAX_FILE_BYTES = 1 << 30
# Shares of each file, from its end: what results are measured on, and what confidences are
# fitted on. Whole stretches, so that neighbours of a measured window were not trained on.
_HELD_OUT_SHARE = 0.1
_CALIBRATION_SHARE = 0.1
_FEWEST_WINDOWS = 3


@dataclass(frozen=True)
class Passages:
    """Windows of a text, each (windows, length): the token that starts a text, then tokens.

    Attributes:
        train: most of the text.
        calibration: confidences are fitted on it, and on nothing else.
        heldout: results are measured on it, and nothing is fitted on it.
        sha256: of the files and how they were cut.
    """

    train: Windows
    calibration: Windows
    heldout: Windows
    sha256: str

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.train.shape[1]


def read_text(path: Path) -> str:
    """Read a plain text file.

    Raises:
        RequestError: it cannot be read, is too large, is empty, or is not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_FILE_BYTES:
            raise RequestError(f"{path}: {size} bytes, at most {_MAX_FILE_BYTES} are read")
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RequestError(f"{path}: cannot be read as UTF-8 text: {reason}") from error
    if not text.strip():
        raise RequestError(f"{path}: holds no text")
    return text


def cut_passages(
    tokenizer: Tokenizer, texts: Sequence[str], start: int, length: int, limit: int | None = None
) -> Passages:
    """Cut texts into windows and share these out: eight tenths, one and one of every text.

    Args:
        start: the token that every window begins with.
        length: tokens of a window, with the starting one.
        limit: tokens used at most; every text gives the same share of itself.

    Raises:
        RequestError: the texts are too short.
    """
    streams = [np.fromiter(encode_long(tokenizer, text), np.int32) for text in texts]
    found = sum(len(stream) for stream in streams)
    share = min(1.0, limit / found) if limit and found else 1.0
    parts: tuple[list[Windows], ...] = ([], [], [])
    digest = sha256(f"{start} {length} {share}".encode())
    for stream in streams:
        body = length - 1
        count = int(len(stream) * share) // body
        rows = stream[: count * body].reshape(count, body)
        windows = np.concatenate((np.full((count, 1), start, np.int32), rows), axis=1)
        digest.update(windows.tobytes())
        held_out = round(count * _HELD_OUT_SHARE)
        calibration = round(count * _CALIBRATION_SHARE)
        bounds = (0, count - held_out - calibration, count - held_out, count)
        for part, first, last in zip(parts, bounds, bounds[1:], strict=False):
            part.append(windows[first:last])
    train, fit, held = (np.concatenate(part) for part in parts)
    if min(len(train), len(fit), len(held)) < _FEWEST_WINDOWS:
        least = 10 * _FEWEST_WINDOWS * (length - 1)
        raise RequestError(
            f"the text has {found} tokens, at least {least} are needed: 10% are held out, 10% fit "
            "confidences, and the rest trains; give more text"
        )
    return Passages(train, fit, held, digest.hexdigest())


def encode_long(tokenizer: Tokenizer, text: str) -> Iterator[int]:
    """Tokenize a text of any length, a piece that ends with a line at a time."""
    at = 0
    while at < len(text):
        stop = min(at + _PIECE_CHARS, len(text))
        line = text.rfind("\n", at, stop) + 1
        stop = line if line > at and stop < len(text) else stop
        yield from tokenizer.encode(text[at:stop])
        at = stop


def text_digest(text: str) -> str:
    """Return what a bundle remembers a text by that its exits were trained on."""
    return sha256(text.encode()).hexdigest()[:16]


def cut_prompts(
    tokenizer: Tokenizer, texts: Sequence[str], start: int, length: int, count: int
) -> tuple[list[str], Windows]:
    """Cut prompts that share no token out of texts, and windows to fit confidences on.

    Args:
        start: the token that every window begins with.
        length: tokens of a prompt.
        count: prompts at most; they are spread over the texts.

    Raises:
        RequestError: the texts are too short.
    """
    stream = np.concatenate([np.fromiter(encode_long(tokenizer, t), np.int32) for t in texts])
    total = len(stream) // length
    if total < 2 * _FEWEST_WINDOWS:
        raise RequestError(
            f"the text has {len(stream)} tokens, at least {2 * _FEWEST_WINDOWS * length} are "
            "needed to calibrate; give more text"
        )
    pieces = stream[: total * length].reshape(total, length)
    fitted = max(_FEWEST_WINDOWS, min(total // 5, count))
    order = np.random.default_rng(0).permutation(total)
    windows = np.concatenate(
        (np.full((fitted, 1), start, np.int32), pieces[order[:fitted], :-1]), axis=1
    )
    # A cut character, or a prompt that comes twice, is passed over.
    prompts = (tokenizer.decode(pieces[place].tolist()) for place in order[fitted:])
    whole = dict.fromkeys(text for text in prompts if text.strip() and "\ufffd" not in text)
    return list(whole)[:count], windows
