"""Open a bundle: nothing of it is loaded before all of it has been checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import ValidationError

from updraft.errors import BundleError
from updraft.models.manifest import FORMAT_VERSION, FileEntry, Manifest, PartitionEntry
from updraft.models.onnx_places import read_places
from updraft.models.onnx_signature import Signature, Tensor, read_signature
from updraft.models.scales import Scales, read_scales

MANIFEST = "manifest.json"
# Files that hold weights of graphs; no other file may be named so.
DATA_SUFFIX = ".data"
_MAX_MANIFEST_BYTES = 1 << 20
# Heads of formats 1 and 2 chose the token themselves.
_FORMER_OUTPUTS = {"token", "probability"}
_CACHE_ELEMENTS = {"fp32": "float32", "fp16": "float16", "int8": "int8"}


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked against its manifest.

    Attributes:
        folder: where it lies.
    """

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Return the path of one of the bundle's files."""
        return self.folder / name

    @cached_property
    def fingerprint(self) -> str:
        """What edge and coordinator compare: equal if and only if both run the same model.

        Depends on the content of the graphs, the tokenizer and the channel scales and on how
        the graphs are cut, not on the card, the prompts, the profile or the calibration of exits.
        """
        manifest = self.manifest
        names = {entry.file for entry in manifest.partitions} | {
            entry.head for entry in manifest.exits
        }
        names |= {entry.shortlist for entry in manifest.exits if entry.shortlist is not None}
        names |= {name for name in manifest.files if name.endswith(DATA_SUFFIX)}
        if manifest.wire is not None:
            names.add(manifest.wire.scales)
        identity = {
            "architecture": manifest.architecture.identity(),
            "overflow": manifest.overflow,
            "partitions": [entry.model_dump() for entry in manifest.partitions],
            "exits": [
                entry.model_dump(exclude={"calibration"}, exclude_none=True)
                for entry in manifest.exits
            ],
            "files": {n: manifest.files[n].sha256 for n in {*names, manifest.tokenizer.file}},
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @cached_property
    def channel_scales(self) -> Scales:
        """The scales of the split states' channels, which some wire codecs need.

        Raises:
            BundleError: the bundle has none.
        """
        manifest = self.manifest
        if manifest.wire is None:
            raise BundleError(f"{self.folder}: has no channel scales, build the bundle again")
        return read_scales(self.path(manifest.wire.scales), manifest.architecture.width)


def open_bundle(folder: Path) -> Bundle:
    """Check every file of a bundle and return it, ready to be loaded.

    Raises:
        BundleError: with the file and the reason; checked are the manifest and its format
            version, paths that leave the folder, sizes, hashes, the shapes of the graphs, where
            their weights lie, shortlists, and the channel scales.
    """
    manifest = _read_manifest(folder)
    for name, entry in manifest.files.items():
        try:
            _check_file(folder, name, entry)
        except (OSError, RuntimeError, ValueError) as error:  # no file name, a loop, no permission
            raise BundleError(f"{folder}: {name!r} cannot be read: {error}") from error
    for partition in manifest.partitions:
        _check_graph(folder / partition.file, _partition_signature(manifest, partition))
        _check_places(folder / partition.file, manifest)
    for head, shortlist in {(entry.head, entry.shortlist) for entry in manifest.exits}:
        size = _shortlist_size(folder, manifest, shortlist)
        _check_graph(folder / head, _head_signature(manifest, size))
        _check_places(folder / head, manifest)
    if manifest.wire is not None:
        read_scales(folder / manifest.wire.scales, manifest.architecture.width)
    return Bundle(folder, manifest)


def describe_files(folder: Path, names: Iterable[str]) -> dict[str, FileEntry]:
    """Return size and hash of each named file, as a manifest lists them."""
    return {
        name: FileEntry(bytes=(folder / name).stat().st_size, sha256=_sha256(folder / name))
        for name in sorted(names)
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest in today's format, whole or not at all."""
    temporary = folder / f"{MANIFEST}.tmp"
    current = manifest.model_copy(update={"format": FORMAT_VERSION})
    temporary.write_text(current.model_dump_json(indent=2, exclude_none=True) + "\n")
    temporary.replace(folder / MANIFEST)


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"{folder}: there is no such bundle folder")
    if not path.is_file():
        raise BundleError(f"{folder}: not a bundle, {MANIFEST} is missing")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: larger than {_MAX_MANIFEST_BYTES} bytes")
    try:
        raw = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not JSON: {error}") from error
    version = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{path}: format: an integer is expected, found {version!r}")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{path}: format {version} is newer than {FORMAT_VERSION}, the newest that this "
            "version of updraft reads; upgrade updraft on this device"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        faults = (
            f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors()
        )
        raise BundleError(f"{path}: {'; '.join(faults)}") from error
    for name in manifest.files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or name != pure.as_posix():
            raise BundleError(f"{path}: files: {name!r} would leave the bundle's folder")
    return manifest


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{path}: a link leads out of the bundle's folder")
    if not path.is_file():
        raise BundleError(f"{path}: listed in {MANIFEST} and missing")
    size = path.stat().st_size
    if size != entry.bytes:
        what = "truncated" if size < entry.bytes else "too long"
        raise BundleError(f"{path}: {what}, {size} bytes where {MANIFEST} says {entry.bytes}")
    digest = _sha256(path)
    if digest != entry.sha256:
        raise BundleError(
            f"{path}: changed since it was built, sha256 {digest[:12]}… where {MANIFEST} says "
            f"{entry.sha256[:12]}…; fetch the bundle again"
        )


def _check_graph(path: Path, expected: Signature) -> None:
    try:
        found = read_signature(path)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    for kind, want, have in (
        ("input", expected.inputs, found.inputs),
        ("output", expected.outputs, found.outputs),
    ):
        odd_names = want.keys() ^ have.keys()
        if kind == "output":
            odd_names -= _FORMER_OUTPUTS
        if odd_names:
            odd = ", ".join(sorted(odd_names))
            raise BundleError(f"{path}: its {kind}s are not those of the manifest: {odd}")
        for name, tensor in want.items():
            if have[name] != tensor:
                raise BundleError(
                    f"{path}: {kind} {name} is {_show(have[name])}, the manifest's architecture "
                    f"asks for {_show(tensor)}"
                )


def _check_places(path: Path, manifest: Manifest) -> None:
    """Refuse a graph whose weights lie anywhere but within a file of weights of the bundle."""
    try:
        places = read_places(path)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    for place in places:
        if place.file not in manifest.files or not place.file.endswith(DATA_SUFFIX):
            raise BundleError(
                f"{path}: keeps weights in {place.file[:200]!r}, which is not among the files "
                f"ending in {DATA_SUFFIX} that {MANIFEST} lists"
            )
        size = manifest.files[place.file].bytes
        if place.offset + place.length > size:
            raise BundleError(
                f"{path}: keeps weights in {place.file} up to byte {place.offset + place.length}, "
                f"which has {size}"
            )


def _shortlist_size(folder: Path, manifest: Manifest, name: str | None) -> int | None:
    """Return how many tokens a shortlist holds, once it is known that they are tokens."""
    if name is None:
        return None
    path, vocabulary = folder / name, manifest.architecture.vocabulary_size
    tokens = np.frombuffer(path.read_bytes()[: 4 * vocabulary + 4], np.uint8)
    if len(tokens) % 4 or not 0 < len(tokens) <= 4 * vocabulary:
        raise BundleError(f"{path}: not a list of up to {vocabulary} tokens in 4 bytes each")
    listed = tokens.view("<i4")
    if listed.min() < 0 or listed.max() >= vocabulary or len(np.unique(listed)) < len(listed):
        raise BundleError(f"{path}: names a token twice, or one outside of the vocabulary")
    return len(listed)


def _show(tensor: Tensor) -> str:
    return f"{tensor.element}[{', '.join(map(str, tensor.shape))}]"


def _partition_signature(manifest: Manifest, entry: PartitionEntry) -> Signature:
    shape = manifest.architecture
    state = Tensor("float32", (1, "n", shape.width))
    cache = Tensor(
        _CACHE_ELEMENTS[manifest.quantization.kv],
        (1, shape.kv_heads, shape.context_length, shape.head_width),
    )
    inputs = {
        **({"tokens": Tensor("int64", (1, "n"))} if entry.first == 0 else {"state_in": state}),
        "seqlens_k": Tensor("int32", (1,)),
        "total_length": Tensor("int32", ()),
    }
    outputs = {"state_out": state}
    for layer in range(entry.first, entry.last):
        for which in ("key", "value"):
            inputs[f"past_{which}_{layer}"] = cache
            outputs[f"present_{which}_{layer}"] = cache
    return Signature(inputs, outputs)


def _head_signature(manifest: Manifest, shortlist_size: int | None) -> Signature:
    shape = manifest.architecture
    choices = shortlist_size or shape.vocabulary_size
    return Signature(
        inputs={
            "state": Tensor("float32", ("n", shape.width)),
            "exit": Tensor("int64", ()),
        },
        outputs={"logits": Tensor("float32", ("n", choices))},
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
