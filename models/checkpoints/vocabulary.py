"""A checkpoint's tokenizer, the tokens that have a meaning of their own, and its chat template."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as _Tokenizer

from updraft.errors import BundleError
from updraft.models.checkpoints.documents import Fields, read_bytes, read_document
from updraft.models.checkpoints.tokenizer_trial import try_tokenizer
from updraft.models.pieces import Pieces

TOKENIZER = "tokenizer.json"
TEMPLATE = "chat_template.jinja"
_SETTINGS = "tokenizer_config.json"
_GENERATION = "generation_config.json"
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_SETTINGS_BYTES = 8 << 20
_MAX_TEMPLATE_BYTES = 1 << 20
_MOST_ENDS = 64
# Models round their vocabularies up; by more than this, and it is another tokenizer's.
_PADDING = 1024
_PADDING_SHARE = 0.05


@dataclass(frozen=True)
class Vocabulary:
    """What a bundle needs to turn text into a model's tokens.

    Attributes:
        tokenizer: `tokenizer.json` as it is.
        stop_tokens: further tokens that end an answer.
        chat_template: turns messages into text; None: the checkpoint is not for chats.
        sha256: of all files that this was read from.
    """

    tokenizer: bytes
    end_of_text: int
    stop_tokens: tuple[int, ...]
    begin_token: int | None
    chat_template: str | None
    sha256: str


def read_vocabulary(folder: Path, config: Fields, size: int) -> Vocabulary:
    """Read the tokenizer's files and check that they belong to the model.

    Args:
        size: tokens that the model knows.

    Raises:
        BundleError: they are missing, broken, or of another model.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        also = (
            " (tokenizer.model alone is not read)" if (folder / "tokenizer.model").exists() else ""
        )
        raise BundleError(
            f"{folder}: {TOKENIZER} is missing{also}; `AutoTokenizer.from_pretrained(…)"
            ".save_pretrained(…)` of transformers writes it"
        )
    content = read_bytes(path, _MAX_TOKENIZER_BYTES)
    try_tokenizer(path)
    tokenizer = _open(path, content, size)
    settings = _optional(folder / _SETTINGS, _MAX_SETTINGS_BYTES)
    ends = _ends(folder, config, settings, tokenizer)
    begin = _begin_token(path, settings, tokenizer)
    template = _template(folder, settings)
    if template is not None:
        meant = {"bos_token": begin, "eos_token": ends[0]}
        template = _with_names(template, settings, tokenizer, meant)
    read = [content, json.dumps([ends, begin, template]).encode()]
    return Vocabulary(
        tokenizer=content,
        end_of_text=ends[0],
        stop_tokens=tuple(ends[1:]),
        begin_token=begin,
        chat_template=template,
        sha256=hashlib.sha256(b"\0".join(read)).hexdigest(),
    )


def _open(path: Path, content: bytes, size: int) -> _Tokenizer:
    try:
        tokenizer = _Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path}: not a tokenizer: {error}") from error
    known = 1 + max(tokenizer.get_vocab().values(), default=0)
    if known > size:
        raise BundleError(
            f"{path}: {known} tokens, the model knows {size}: it belongs to another model"
        )
    if size - known > max(_PADDING, _PADDING_SHARE * size):
        raise BundleError(
            f"{path}: {known} tokens, the model knows {size}: that is more than padding, it "
            "belongs to another model"
        )
    try:
        Pieces(json.loads(tokenizer.decoder.__getstate__()) if tokenizer.decoder else {})
    except KeyError as error:
        raise BundleError(f"{path}: has no decoder that is known") from error
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    return tokenizer


def _ends(folder: Path, config: Fields, settings: Fields, tokenizer: _Tokenizer) -> list[int]:
    """Return the tokens that end an answer, the tokenizer's own end first."""
    generation = _optional(folder / _GENERATION, _MAX_SETTINGS_BYTES)
    ends = dict.fromkeys(
        [
            *generation.wholes("eos_token_id", _MOST_ENDS),
            *config.wholes("eos_token_id", _MOST_ENDS),
        ]
    )
    special = {
        token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special
    }
    for token in ends:
        if token not in special:
            raise BundleError(
                f"{config.where}: eos_token_id {token} is {tokenizer.id_to_token(token)!r} in "
                f"{TOKENIZER}, which ends nothing: the tokenizer belongs to another model"
            )
    named = _named_token(settings, "eos_token", tokenizer)
    if named is not None and (named in ends or not ends):
        return list(dict.fromkeys([named, *ends]))
    if not ends:
        raise BundleError(
            f"{config.where}: eos_token_id is missing: without it, no answer would ever end"
        )
    return list(ends)


def _begin_token(path: Path, settings: Fields, tokenizer: _Tokenizer) -> int | None:
    """Return what the tokenizer puts before a text."""
    if "add_bos_token" in settings:
        asked = settings.flag("add_bos_token")
        return _named_token(settings, "bos_token", tokenizer) if asked else None
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    before = next((n for n in range(len(whole)) if whole[n : n + len(plain)] == plain), 0)
    if before > 1:
        raise BundleError(f"{path}: puts {before} tokens before a text, one at most is supported")
    return whole[0] if before else None


def _named_token(settings: Fields, name: str, tokenizer: _Tokenizer) -> int | None:
    """Return the token whose text the settings name."""
    found = settings.raw(name)
    if isinstance(found, dict):
        found = found.get("content")
    token: int | None = tokenizer.token_to_id(found) if isinstance(found, str) else None
    return token


def _template(folder: Path, settings: Fields) -> str | None:
    path = folder / TEMPLATE
    if path.is_file():
        try:
            return read_bytes(path, _MAX_TEMPLATE_BYTES).decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"{path}: not valid UTF-8") from error
    found: Any = settings.raw("chat_template")
    if isinstance(found, list):
        # Several by name: the one for plain chats.
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    if found is None:
        return None
    if not isinstance(found, str) or len(found) > _MAX_TEMPLATE_BYTES:
        raise BundleError(
            f"{settings.where}: chat_template: a text of at most {_MAX_TEMPLATE_BYTES} characters "
            "is expected"
        )
    return found


def _with_names(
    template: str, settings: Fields, tokenizer: _Tokenizer, meant: dict[str, int | None]
) -> str:
    """Let a template know the special tokens that it names, where a bundle means others by them.

    A tokenizer may have a begin token that it puts before no text, and a template that does.
    """
    for name, known in meant.items():
        token = _named_token(settings, name, tokenizer)
        if name in template and token is not None and token != known:
            template = f"{{% set {name} = {json.dumps(tokenizer.id_to_token(token))} %}}{template}"
    return template


def _optional(path: Path, most_bytes: int) -> Fields:
    return Fields(read_document(path, most_bytes) if path.is_file() else {}, str(path))
