"""JSON files of a checkpoint: read within limits, and asked for values of a type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from updraft.errors import BundleError

_POINTER = b"version https://git-lfs.github.com/"


def read_document(path: Path, most_bytes: int) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        BundleError: it cannot be read, is too large, or is something else.
    """
    return parse_object(read_bytes(path, most_bytes), str(path))


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """Read a whole file.

    Raises:
        BundleError: it cannot be read, is too large, or only points at the file that is meant.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > most_bytes:
        raise BundleError(f"{path}: larger than {most_bytes} bytes, which is all that is read")
    refuse_pointer(path, content)
    return content


def refuse_pointer(path: Path, start: bytes) -> None:
    """Refuse a file that only says where its content lies.

    Raises:
        BundleError: it is such a file.
    """
    if start.startswith(_POINTER[: max(8, len(start))]):
        raise BundleError(f"{path}: a Git LFS pointer, not the file itself: run `git lfs pull`")


def parse_object(content: bytes, where: str) -> dict[str, Any]:
    """Read JSON that is one object, in which no key stands twice.

    Raises:
        BundleError: it is something else.
    """
    try:
        found = json.loads(content, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BundleError(f"{where}: a JSON object is expected")
    return found


class Fields:
    """The values of a JSON object, asked for by name and checked for their type.

    Attributes:
        where: names the object in messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.where = where
        self._values = values

    def __contains__(self, name: str) -> bool:
        """Say whether a key is there and not null."""
        return self._values.get(name) is not None

    def raw(self, name: str) -> Any:
        """Return a value as it is; None if there is none."""
        return self._values.get(name)

    def whole(self, name: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of a size that a model can have."""
        value = self._given(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._fault(name, "a whole number", value)
        if not least <= value <= 1 << 24:
            raise self._fault(name, f"a number from {least} to {1 << 24}", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Return a positive finite number."""
        value = self._given(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._fault(name, "a number", value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not 0 < number < math.inf:
            raise self._fault(name, "a positive number", value)
        return number

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self._given(name, default)
        if not isinstance(value, bool):
            raise self._fault(name, "true or false", value)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        value = self._given(name, default)
        if not isinstance(value, str):
            raise self._fault(name, "a text", value)
        return value

    def wholes(self, name: str, most: int) -> list[int]:
        """Return a list of whole numbers; a single one is a list of one, nothing is empty."""
        value = self._values.get(name)
        found = [] if value is None else value if isinstance(value, list) else [value]
        if len(found) > most or not all(
            isinstance(one, int) and not isinstance(one, bool) and 0 <= one < 1 << 24
            for one in found
        ):
            raise self._fault(name, f"at most {most} whole numbers from 0", value)
        return found

    def texts(self, name: str, most: int) -> list[str]:
        """Return a list of texts; nothing is an empty one."""
        value = self._values.get(name)
        found = [] if value is None else value
        if (
            not isinstance(found, list)
            or len(found) > most
            or not all(isinstance(one, str) for one in found)
        ):
            raise self._fault(name, f"at most {most} texts", value)
        return found

    def fields(self, name: str) -> Fields:
        """Return an object within this one; nothing is an empty one."""
        value = self._values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._fault(name, "an object", value)
        return Fields(value, f"{self.where}: {name}")

    def _given(self, name: str, default: object) -> object:
        value = self._values.get(name)
        value = default if value is None else value
        if value is None:
            raise BundleError(f"{self.where}: {name} is missing")
        return value

    def _fault(self, name: str, expected: str, found: object) -> BundleError:
        shown = repr(found)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        return BundleError(f"{self.where}: {name}: {expected} is expected, found {shown}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:200]!r} stands there twice")
        found[name] = value
    return found
