"""Open a checkpoint folder: nothing is converted before configuration and tensors agree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError
from updraft.models.architecture import Architecture
from updraft.models.checkpoints.documents import Fields, read_document
from updraft.models.checkpoints.families import architecture_of, family_of
from updraft.models.checkpoints.layout import DERIVED_SUFFIXES, EMBEDDING, HEAD, Place, places
from updraft.models.checkpoints.licence import find_licence
from updraft.models.checkpoints.shards import Shards
from updraft.models.checkpoints.vocabulary import Vocabulary, read_vocabulary
from updraft.models.exits.recognise import EXIT_KEYS, TrainedExits, recognise_exits

CONFIGURATION = "config.json"
_MAX_CONFIGURATION_BYTES = 1 << 20
_EXIT_NORM = "exit_norms."
_SHOWN = 3


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose configuration, tensors and tokenizer agree.

    Attributes:
        kind: its architecture's name, say `Qwen2ForCausalLM`.
        weights: under our names, each read when it is asked for; exits without a norm of their
            own have the final one.
        identity: changes with any of its files.
        index_sha256: of the index of its tensors.
        dtype: of most of its weights.
        licence: as its files say; None: they say nothing.
        trained_exits: that the model was trained with; None: it was trained without.
    """

    folder: Path
    kind: str
    architecture: Architecture
    weights: CheckpointWeights
    vocabulary: Vocabulary
    identity: str
    index_sha256: str
    size_bytes: int
    dtype: str
    licence: str | None
    trained_exits: TrainedExits | None


def open_checkpoint(folder: Path, context_length: int | None = None) -> Checkpoint:
    """Read everything of a checkpoint but the values of its tensors, and check it.

    Args:
        context_length: positions to make room for; None: some thousand, or what the model knows.

    Raises:
        BundleError: naming the file, what is wrong with it, and what to do.
    """
    if not folder.is_dir():
        raise BundleError(
            f"{folder}: there is no such checkpoint folder; nothing is fetched from the network: "
            "fetch it first, say with `hf download`"
        )
    path = folder / CONFIGURATION
    if not path.is_file():
        raise BundleError(f"{folder}: not a checkpoint, {CONFIGURATION} is missing")
    config = Fields(read_document(path, _MAX_CONFIGURATION_BYTES), str(path))
    family = family_of(config)
    shards = Shards(folder)
    shape = architecture_of(config, _is_tied(config, shards), context_length)
    trained = recognise_exits(_exit_settings(config), shards.file_of, folder.resolve().name)
    known = (*places(shape, family), *_exit_places(shape, trained))
    _check_tensors(shards, known, config)
    vocabulary = read_vocabulary(folder, config, shape.vocabulary_size)
    return Checkpoint(
        folder=folder,
        kind=config.texts("architectures", most=8)[0],
        architecture=shape,
        weights=CheckpointWeights(shards, known, shape.layers),
        vocabulary=vocabulary,
        identity=_identity(shards, path, vocabulary),
        index_sha256=shards.sha256,
        size_bytes=shards.size_bytes,
        dtype=shards.file_of[known[0].theirs].tensors[known[0].theirs].dtype,
        licence=find_licence(folder),
        trained_exits=trained,
    )


class CheckpointWeights(Mapping[str, NDArray[np.float32]]):
    """The weights of a model under our names: read when asked for, and not kept."""

    def __init__(self, shards: Shards, known: tuple[Place, ...], layers: int) -> None:
        self._shards = shards
        self._theirs = {place.ours: place.theirs for place in known}
        self._sizes = {place.ours: 4 * int(np.prod(place.shape)) for place in known}
        self._final_norm = f"{_EXIT_NORM}{layers}.weight"

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        # An exit without a norm of its own has the one that the head was trained with.
        if name.startswith(_EXIT_NORM) and name not in self._theirs:
            name = self._final_norm
        theirs = self._theirs[name]
        return self._shards.file_of[theirs].read(theirs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._theirs or name.startswith(_EXIT_NORM))

    def __iter__(self) -> Iterator[str]:
        return iter(self._theirs)

    def __len__(self) -> int:
        return len(self._theirs)

    def bytes_of(self, name: str) -> int:
        """Return the memory that a weight takes as fp32."""
        return self._sizes.get(name, self._sizes[self._final_norm])


def _exit_settings(config: Fields) -> dict[str, Any]:
    """Return what the configuration says of exits."""
    return {name: config.raw(name) for name in EXIT_KEYS if name in config}


def _exit_places(shape: Architecture, trained: TrainedExits | None) -> Iterator[Place]:
    """Yield the weights that belong to exits alone."""
    for exit_ in trained.exits if trained else ():
        if exit_.norm is not None:
            yield Place(f"{_EXIT_NORM}{exit_.layer}.weight", exit_.norm, (shape.width,))
        if exit_.head is not None:
            size = (shape.vocabulary_size, shape.width)
            yield Place(f"exit_heads.{exit_.layer}.weight", exit_.head, size)


def _is_tied(config: Fields, shards: Shards) -> bool:
    """Return whether the embedding is the LM head; checkpoints may hold both, and alike."""
    both = HEAD in shards.file_of
    if not config.flag("tie_word_embeddings", default=not both) or not both:
        return config.flag("tie_word_embeddings", default=not both)
    if EMBEDDING in shards.file_of:
        heads, embeddings = shards.file_of[HEAD], shards.file_of[EMBEDDING]
        if heads.digest(HEAD) != embeddings.digest(EMBEDDING):
            raise BundleError(
                f"{config.where}: tie_word_embeddings is true, and {heads.path.name} holds a "
                f"{HEAD} that differs from {EMBEDDING}"
            )
    return True


def _check_tensors(shards: Shards, known: tuple[Place, ...], config: Fields) -> None:
    missing = [place.theirs for place in known if place.theirs not in shards.file_of]
    if missing:
        raise BundleError(
            f"{shards.files[0].path.parent}: lacks {_some(missing)}, which {CONFIGURATION} asks for"
        )
    for place in known:
        file = shards.file_of[place.theirs]
        found = file.tensors[place.theirs].shape
        if found != place.shape:
            raise BundleError(
                f"{file.path}: {place.theirs} has shape {list(found)}, {CONFIGURATION} asks for "
                f"{list(place.shape)}"
            )
        file.check_dtype(place.theirs)
    extra = [
        name
        for name in sorted(set(shards.file_of) - {place.theirs for place in known})
        if not name.endswith(DERIVED_SUFFIXES) and name != HEAD
    ]
    if extra:
        raise BundleError(
            f"{config.where}: gives no place to {_some(extra)}: the configuration belongs to "
            "another checkpoint, or the model has parts that are not supported"
        )


def _some(names: list[str]) -> str:
    shown = ", ".join(
        name[:200] if name.isascii() else ascii(name)[:200] for name in names[:_SHOWN]
    )
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more tensors"


def _identity(shards: Shards, config: Path, vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256(config.read_bytes())
    digest.update(shards.sha256.encode())
    digest.update(vocabulary.sha256.encode())
    for file in shards.files:
        changed = file.path.stat().st_mtime_ns
        line = f"{file.path.name} {file.size_bytes} {changed} {file.header_sha256}\n"
        digest.update(line.encode())
    return digest.hexdigest()
