"""Configuration files of simulated devices: one set of settings, written as TOML, INI or YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random

from updraft.models.recipes.site import Site, draw_site

Value = str | int | float | bool
Sections = Mapping[str, Mapping[str, Value]]


def write_settings(seed: str) -> str:
    """Return the settings of some invented devices of one kind; the same seed, the same text."""
    random = Random(seed)
    render = random.choice((_toml, _ini, _yaml))
    draw = random.choice((_agent, _budgets, _coordinator, _pipeline))
    site = draw_site(random)
    head = f"# {draw.__name__.strip('_')} of {site.host}, {site.name}\n"
    return head + "\n" + render(draw(site, random))


def _agent(site: Site, random: Random) -> Sections:
    context = random.choice((256, 512, 1024, 2048))
    agent: dict[str, Value] = {
        "name": site.host,
        "model": site.board,
        "bundle": f"/var/lib/updraft/bundles/{random.choice(site.models)}",
        "threads": random.choice((1, 2, 4, 8)),
        "context_length": context,
        "max_new_tokens": context // random.choice((2, 4)),
    }
    link: dict[str, Value] = {
        "coordinator": site.coordinator,
        "timeout_s": random.choice((1.0, 2.0, 5.0, 10.0)),
        "keepalive_s": random.choice((5, 10, 20, 30)),
        "codec": random.choice(("fp16", "int8", "int4")),
        "tls": random.random() < 0.8,
    }
    if link["tls"]:
        link["certificate"] = f"/etc/updraft/tls/{site.host}.pem"
        link["key"] = f"/etc/updraft/tls/{site.host}.key"
        link["authority"] = f"/etc/updraft/tls/{site.name}-ca.pem"
    energy: dict[str, Value] = {
        "meter": random.choice(("auto", "ina3221", "rapl", "nvml", "pi5-pmic", "modelled")),
        "rate_hz": random.choice((10, 20, 50)),
        "idle_w": round(random.uniform(1, 20), 1),
    }
    api: dict[str, Value] = {
        "listen": f"{site.address(random)}:{random.choice((8080, 8000, 9000))}",
        "max_requests": random.choice((1, 2, 4, 8, 16)),
        "log_level": random.choice(("debug", "info", "warning")),
    }
    return _some({"agent": agent, "link": link, "energy": energy, "api": api}, random)


def _budgets(site: Site, random: Random) -> Sections:
    sections: dict[str, dict[str, Value]] = {"fleet": _lines(random)}
    for group in random.sample(("line", "yard", "night", "lab", "field"), 2):
        sections[f"group.{group}"] = {"inherits": "fleet", **_lines(random)}
    groups = [name.removeprefix("group.") for name in sections if name.startswith("group.")]
    for host in (site.host, *site.peers[: random.randrange(1, 5)]):
        sections[f"device.{host}"] = {
            "model": site.board,
            "inherits": random.choice(groups),
            **_lines(random),
        }
    return sections


def _lines(random: Random) -> dict[str, Value]:
    drawn: dict[str, Value] = {
        "energy_per_request": f"{random.choice((1, 2, 5, 10))} J",
        "energy_per_day": f"{random.choice((5, 10, 20, 50))} kJ",
        "average_power": f"{random.choice((2, 5, 7, 10, 15))} W",
        "first_token": f"{random.choice((200, 300, 500, 800))} ms",
        "per_token": f"{random.choice((20, 40, 50, 100))} ms",
        "uplink_per_day": f"{random.choice((1, 5, 20, 100))} MB",
        "cloud_tokens_per_hour": f"{random.choice((500, 1000, 5000))} tokens",
        "memory": f"{random.choice((64, 128, 256, 512))} MB",
        "on_exhausted": random.choice(("standalone", "shallower_exits", "refuse", "queue")),
    }
    return {name: value for name, value in drawn.items() if random.random() < 0.4}


def _coordinator(site: Site, random: Random) -> Sections:
    sections: dict[str, dict[str, Value]] = {
        "server": {
            "listen": f"0.0.0.0:{site.coordinator.rpartition(':')[2]}",
            "workers": random.choice((1, 2, 4, 8)),
            "max_sessions": random.choice((16, 64, 256, 1024)),
            "idle_timeout_s": random.choice((30, 60, 300)),
        },
        "planner": {
            "power_w": random.choice((20, 40, 80, 120)),
            "replan_s": random.choice((5, 10, 30, 60)),
            "hysteresis": random.choice((0.02, 0.05, 0.1)),
            "gate": "/var/lib/updraft/gate.npz",
        },
    }
    for host in site.peers[: random.randrange(1, 6)]:
        sections[f"node.{host}"] = {
            "address": f"{site.address(random)}:{random.choice((7443, 8443))}",
            "expert": random.choice(site.models),
            "joules_per_token": round(random.uniform(0.01, 0.3), 3),
            "enabled": random.random() < 0.85,
        }
    return sections


def _pipeline(site: Site, random: Random) -> Sections:
    width, height = random.choice(((640, 480), (1280, 720), (1920, 1080)))
    sections: dict[str, dict[str, Value]] = {
        "camera": {
            "device": f"/dev/video{random.randrange(0, 4)}",
            "width": width,
            "height": height,
            "frames_per_s": random.choice((5, 10, 15, 30)),
            "exposure": random.choice(("auto", "manual")),
        },
        "detector": {
            "model": random.choice(site.models),
            "threshold": round(random.uniform(0.2, 0.9), 2),
            "classes": ", ".join(random.sample(("person", "pallet", "truck", "part", "dog"), 2)),
        },
        "mqtt": {
            "broker": f"{site.address(random)}:1883",
            "topic": f"{site.name}/{site.host}/objects",
            "qos": random.choice((0, 1, 2)),
            "retain": random.random() < 0.3,
            "user": random.choice(site.users),
        },
        "storage": {
            "path": "/var/lib/camera",
            "keep_days": random.choice((1, 3, 7, 30)),
            "max_gb": random.choice((2, 8, 32)),
        },
    }
    return _some(sections, random)


def _some(sections: dict[str, dict[str, Value]], random: Random) -> Sections:
    """Leave out a setting here and there: nobody writes them all."""
    return {
        name: {key: value for key, value in section.items() if random.random() < 0.85}
        for name, section in sections.items()
    }


def _toml(sections: Sections) -> str:
    return _blocks(sections, "[{}]", lambda key, value: f"{key} = {json.dumps(value)}")


def _ini(sections: Sections) -> str:
    def line(key: str, value: Value) -> str:
        return f"{key} = {('no', 'yes')[value] if isinstance(value, bool) else value}"

    return _blocks(sections, "[{}]", line)


def _yaml(sections: Sections) -> str:
    def line(key: str, value: Value) -> str:
        quoted = isinstance(value, str) and (":" in value or "," in value)
        plain = str(value).lower() if isinstance(value, bool) else value
        return f"  {key}: {json.dumps(value) if quoted else plain}"

    return _blocks(sections, "{}:", line)


def _blocks(sections: Sections, head: str, line: Callable[[str, Value], str]) -> str:
    blocks = [
        "\n".join([head.format(name), *(line(key, value) for key, value in section.items())])
        for name, section in sections.items()
    ]
    return "\n\n".join(blocks) + "\n"
