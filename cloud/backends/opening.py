"""Makes a coordinator's backend of its configuration."""

from __future__ import annotations

from urllib.parse import urlsplit

from updraft.cloud.backends.backend import Backend
from updraft.cloud.backends.config import BackendSettings
from updraft.cloud.backends.openai import OpenAiServer
from updraft.cloud.backends.partitions import Partitions
from updraft.cloud.desk import Desk
from updraft.errors import ConfigError
from updraft.models.bundle import Bundle

_LONGEST_KEY = 4096


def open_backend(settings: BackendSettings, bundle: Bundle, desk: Desk) -> Backend:
    """Return the backend that is configured; call on the event loop.

    Args:
        bundle, desk: what the coordinator serves itself.

    Raises:
        ConfigError: the settings do not go together, or the key cannot be read.
    """
    if settings.kind == "partitions":
        return Partitions(bundle, desk)
    return OpenAiServer(settings, _url(settings), _key(settings))


def _url(settings: BackendSettings) -> str:
    if settings.url is None:
        raise ConfigError(
            ['backend.url: kind "openai" needs the server\'s, as "http://127.0.0.1:8000/v1"']
        )
    wrong = f"backend.url: {settings.url!r} is no address of a server: http://HOST:PORT/v1"
    try:
        parts = urlsplit(settings.url)
        parts.port  # noqa: B018  # it is looked at when it is asked for
    except ValueError as error:
        raise ConfigError([wrong]) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError([wrong])
    if parts.username is not None or parts.password is not None:
        raise ConfigError(["backend.url: no key belongs there: give it by api_key_file"])
    return settings.url.rstrip("/") + "/"


def _key(settings: BackendSettings) -> str | None:
    """Return the server's key; never put it into a message."""
    if settings.api_key is not None and settings.api_key_file is not None:
        raise ConfigError(["backend.api_key and backend.api_key_file are both set: leave one out"])
    if settings.api_key is not None:
        key, where = settings.api_key.get_secret_value(), "backend.api_key"
    elif settings.api_key_file is not None:
        where = f"{settings.api_key_file}: backend.api_key_file"
        try:
            key = settings.api_key_file.read_text(encoding="ascii")
        except OSError as error:
            raise ConfigError([f"{where} cannot be read: {error.strerror}"]) from error
        except UnicodeDecodeError:
            raise ConfigError([f"{where} holds more than a key: it is not ASCII"]) from None
    else:
        return None
    key = key.strip()
    if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.isprintable():
        raise ConfigError([f"{where} holds no key: one line of printable characters is needed"])
    return key
