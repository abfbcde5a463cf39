"""The tensors of a checkpoint folder, in however many files they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from updraft.errors import BundleError
from updraft.models.checkpoints.documents import Fields, parse_object, read_bytes
from updraft.models.checkpoints.safetensors import SafetensorsFile

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 32 << 20
_PICKLES = "pytorch_model*.bin"


class Shards:
    """All tensors by name, each with the file that holds it.

    Attributes:
        files: every file, once.
        sha256: of the index, or of the only file's header.
    """

    def __init__(self, folder: Path) -> None:
        """Read the index and the headers of all files.

        Raises:
            BundleError: files or tensors are missing, or a header is not to be believed.
        """
        if (folder / INDEX).is_file():
            index = read_bytes(folder / INDEX, _MAX_INDEX_BYTES)
            self.sha256 = hashlib.sha256(index).hexdigest()
            places = _places(folder, index)
            _refuse_missing(folder, places)
            opened = {name: SafetensorsFile(folder / name) for name in sorted(set(places.values()))}
            self._file_of = {tensor: opened[name] for tensor, name in places.items()}
        elif (folder / SINGLE).is_file():
            only = SafetensorsFile(folder / SINGLE)
            self.sha256 = only.header_sha256
            opened = {SINGLE: only}
            self._file_of = dict.fromkeys(only.tensors, only)
        else:
            raise BundleError(f"{folder}: {_what_is_there(folder)}")
        self.files = tuple(opened.values())
        for tensor, file in self._file_of.items():
            if tensor not in file.tensors:
                raise BundleError(f"{file.path}: lacks {tensor!r}, which {INDEX} says is there")

    @property
    def file_of(self) -> Mapping[str, SafetensorsFile]:
        """The file of each tensor."""
        return self._file_of

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


def _places(folder: Path, index: bytes) -> dict[str, str]:
    where = str(folder / INDEX)
    places = Fields(parse_object(index, where), where).raw("weight_map")
    if not isinstance(places, dict) or not places:
        raise BundleError(
            f"{where}: weight_map: an object with the file of each tensor is expected"
        )
    for name in places.values():
        if (
            not isinstance(name, str)
            or not name.endswith(".safetensors")
            or name.startswith(".")
            or set(name) & {"/", "\\", "\0"}
        ):
            raise BundleError(f"{where}: weight_map: {str(name)[:200]!r} is no file of this folder")
    return places


def _refuse_missing(folder: Path, places: Mapping[str, str]) -> None:
    names = set(places.values())
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        shown = ", ".join(map(repr, missing[:3])) + (" and others" if len(missing) > 3 else "")
        raise BundleError(
            f"{folder}: {len(missing)} of {len(names)} shards are missing: {shown}; fetch the "
            "checkpoint again"
        )


def _what_is_there(folder: Path) -> str:
    if any(folder.glob(_PICKLES)):
        return (
            f"holds {_PICKLES}, which are pickles and run code when they are opened; convert them "
            "to safetensors first"
        )
    if any(folder.glob("*.safetensors")):
        return f"holds safetensors files, and neither {SINGLE} nor {INDEX} that lists them"
    if (folder / "snapshots").is_dir():
        return "a cache folder of the Hugging Face Hub: give the folder in its snapshots/"
    return f"not a checkpoint: it has neither {SINGLE} nor {INDEX}"
