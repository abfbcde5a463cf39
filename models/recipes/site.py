"""Invented devices at invented sites: who speaks in the simulated logs and configuration files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random

# fmt: off
_SYLLABLES = (
    "ar", "bel", "cor", "dan", "el", "fen", "gar", "hol", "in", "jor", "kel", "lim", "mar", "nor",
    "ost", "pel", "quin", "ros", "sal", "tor", "ul", "ven", "wes", "yar", "zan", "bri", "cla",
    "dor", "est", "fri", "gol", "har", "kir", "lan", "mon", "nes", "pra", "ras", "ste", "tal",
)
# fmt: on
_ENDINGS = ("ton", "berg", "ford", "mouth", "field", "haven", "bridge", "wick", "dale", "port")
_ROLES = ("gate", "cam", "cell", "press", "belt", "weld", "scale", "door", "pump", "kiosk", "rack")
_BOARDS = (
    "orin-agx-64",
    "orin-nx-16",
    "orin-nano-8",
    "raspberry-pi-5",
    "x86-host",
    "rtx-4090-host",
)
_MODELS = ("generalist", "python", "c", "docs", "logs", "code", "vision-small", "speech-tiny")
_USERS = ("ops", "deploy", "maria", "jonas", "li", "svc-backup", "anders", "root", "priya", "tom")
_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Site:
    """One device with its surroundings.

    Attributes:
        subnet: the first three numbers of every address at the site.
        peers: names of other devices at the site.
        start: when its log starts.
    """

    name: str
    host: str
    board: str
    subnet: str
    peers: tuple[str, ...]
    users: tuple[str, ...]
    models: tuple[str, ...]
    interface: str
    coordinator: str
    start: datetime

    def address(self, random: Random) -> str:
        """Return an address at the site."""
        return f"{self.subnet}.{random.randrange(2, 250)}"


def draw_site(random: Random) -> Site:
    """Invent a device."""
    name = random.choice(_SYLLABLES) + random.choice(_SYLLABLES) + random.choice(_ENDINGS)
    hosts = [f"{name}-{random.choice(_ROLES)}-{random.randrange(1, 40):02d}" for _ in range(6)]
    subnet = f"10.{random.randrange(1, 99)}.{random.randrange(1, 250)}"
    return Site(
        name=name,
        host=hosts[0],
        board=random.choice(_BOARDS),
        subnet=subnet,
        peers=tuple(hosts[1:]),
        users=tuple(random.sample(_USERS, 3)),
        models=tuple(random.sample(_MODELS, 3)),
        interface=random.choice(("eth0", "enp3s0", "wlan0", "end0")),
        coordinator=f"coordinator.{name}.example:{random.choice((8443, 50051, 7443))}",
        start=_START + timedelta(seconds=random.randrange(365 * 86_400)),
    )
