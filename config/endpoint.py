"""Addresses and the rule that only loopback may go without TLS."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple

from updraft.config import Section
from updraft.errors import ConfigError


class Endpoint(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class TlsFiles(Section):
    """PEM files of one side of mutual TLS.

    Attributes:
        authority: the certificate authority that the other side's certificate must come from.
    """

    certificate: Path
    key: Path
    authority: Path

    def read(self) -> TlsMaterial:
        """Read the three files.

        Raises:
            ConfigError: naming each file that cannot be read.
        """
        content, faults = [], []
        for name in ("certificate", "key", "authority"):
            path: Path = getattr(self, name)
            try:
                content.append(path.read_bytes())
            except OSError as error:
                faults.append(f"{path}: tls.{name} cannot be read: {error.strerror}")
        if faults:
            raise ConfigError(faults)
        return TlsMaterial(*content)


class TlsMaterial(NamedTuple):
    """PEM bytes of one side of mutual TLS."""

    certificate: bytes
    key: bytes
    authority: bytes


def parse_endpoint(text: str) -> Endpoint:
    """Parse `HOST:PORT`, with IPv6 hosts in brackets.

    Raises:
        ConfigError: the text has another form.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigError([f"{text!r} is no address: HOST:PORT is expected, as 127.0.0.1:7600"])
    return Endpoint(host, int(port))


def require_tls(endpoint: Endpoint, tls: TlsFiles | None) -> None:
    """Refuse plain text outside loopback.

    Raises:
        ConfigError: the address is not loopback and no certificates are configured.
    """
    if tls is None and not endpoint.is_loopback:
        raise ConfigError(
            [
                f"{endpoint} is not a loopback address and no [tls] files are configured: "
                "prompts would travel in plain text; give certificate, key and authority"
            ]
        )
