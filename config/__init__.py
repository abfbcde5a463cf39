"""Configuration: TOML and environment variables into checked, frozen models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from updraft.config.key_lines import key_lines
from updraft.config.syntax import parse_toml
from updraft.errors import ConfigError


class Section(BaseModel):
    """Base of every configuration model: frozen, and unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=Section)


def load_config(
    schema: type[SectionT], path: Path | None, environment: Mapping[str, str], prefix: str
) -> SectionT:
    """Read a configuration file, let environment variables override it, and check it.

    `PREFIX__SECTION__KEY=value` overrides `key` of `[section]`.

    Args:
        path: a TOML file; `None` takes the defaults.
        environment: usually `os.environ`; an argument so that library code never reads it.

    Raises:
        ConfigError: with every fault: file, line, key, and what to write instead.
    """
    text = ""
    values: dict[str, Any] = {}
    if path is not None:
        text, values = read_toml(path)
    origin = _apply_environment(values, environment, prefix)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError(describe_faults(schema, error, path, text, origin)) from error


def describe_faults(
    schema: type[BaseModel],
    error: ValidationError,
    path: Path | None,
    text: str,
    origin: Mapping[tuple[str, ...], str] | None = None,
) -> list[str]:
    """Say of every fault where it is (file and line), what is wrong and what is known instead.

    Args:
        text: of the file, for the lines.
        origin: the place of keys that are not from the file.
    """
    faults = []
    for fault in error.errors():
        keys = [str(key) for key in fault["loc"]]
        where = (origin or {}).get(tuple(keys)) or place_of(path, text, keys)
        faults.append(f"{where}: {'.'.join(keys)}: {_explain(schema, keys, fault)}")
    return faults


def override(settings: SectionT, options: Mapping[str, Any]) -> SectionT:
    """Return settings with a command's options in place; an option that is `None` was not given.

    Args:
        options: value by key, as `cloud.address`.
    """
    for name, value in options.items():
        if value is not None:
            settings = _replaced(settings, name.split("."), value)
    return settings


def _replaced(section: SectionT, keys: list[str], value: Any) -> SectionT:
    key, *deeper = keys
    if deeper:
        value = _replaced(getattr(section, key), deeper, value)
    return section.model_copy(update={key: value})


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Read a TOML file: its text, for naming lines, and its values.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    values, faults = parse_toml(text)
    if faults:
        raise ConfigError([f"{path}:{line}: {message}" for line, message in faults])
    return text, values


def _apply_environment(
    values: dict[str, Any], environment: Mapping[str, str], prefix: str
) -> dict[tuple[str, ...], str]:
    origin: dict[tuple[str, ...], str] = {}
    for name, value in environment.items():
        if not name.startswith(prefix + "__"):
            continue
        keys = name[len(prefix) + 2 :].lower().split("__")
        section = values
        for key in keys[:-1]:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError([f"environment variable {name}: {key!r} is a value, no section"])
        section[keys[-1]] = value
        origin[tuple(keys)] = f"environment variable {name}"
    return origin


def place_of(path: Path | None, text: str, keys: Sequence[str]) -> str:
    """Name the file and the line of the key, or else of the section that it is missing from."""
    lines = key_lines(text)
    places = (tuple(keys[:end]) for end in range(len(keys), 0, -1))
    line = next((lines[place] for place in places if place in lines), None)
    if path is None:
        return "defaults"
    return f"{path}:{line}" if line else str(path)


def _explain(schema: type[BaseModel], keys: list[str], fault: Any) -> str:
    if fault["type"] == "missing":
        return str(fault["msg"])  # what was found is all that stands beside it
    if fault["type"] != "extra_forbidden":
        return f"{fault['msg']}, found {fault['input']!r}"
    known = _keys_beside(schema, keys)
    close = difflib.get_close_matches(keys[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"unknown key; {hint}"


def _keys_beside(schema: type[BaseModel], keys: list[str]) -> list[str]:
    for key in keys[:-1]:
        if key.isdigit():
            continue
        field = schema.model_fields.get(key)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not sections:
            return []
        schema = sections[0]
    return list(schema.model_fields)
