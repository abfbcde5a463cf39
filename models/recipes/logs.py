"""Logs of simulated devices: episodes that unfold over several lines, in five formats.

A log is not a row of unrelated lines. A link goes down, the agent says so, requests run without
the cloud, the link comes back and the address is the same: what a line says follows from the lines
before it, and that is what there is to learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from updraft.models.recipes.site import Site, draw_site


class Line(NamedTuple):
    """One message of one program.

    Attributes:
        wait_s: seconds since the line before.
    """

    program: str
    level: str
    message: str
    wait_s: float


@dataclass
class _Device:
    """What changes while a device runs."""

    site: Site
    random: Random
    temperature_c: float = 48.0
    disk_percent: int = 40
    energy_j: float = 0.0
    session: int = 1
    frame: int = 0
    pids: dict[str, int] = field(default_factory=dict)

    def line(self, program: str, message: str, level: str = "info", most_s: float = 0.4) -> Line:
        return Line(program, level, message, self.random.uniform(0.0, most_s))

    def hex(self, digits: int) -> str:
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def pid(self, program: str) -> int:
        return self.pids.setdefault(program, self.random.randrange(300, 32_000))


Episode = Callable[[_Device], Iterator[Line]]


def write_log(seed: str, lines: int) -> str:
    """Return the log of an invented device; the same seed gives the same text.

    Args:
        lines: how many at least; an episode is told to its end.
    """
    random = Random(seed)
    site = draw_site(random)
    device = _Device(site, random, random.uniform(40, 60), random.randrange(20, 80))
    # A device does some things often and others never.
    weights = [random.choice((0.0, 0.5, 1.0, 3.0)) for _ in _EPISODES]
    weights[random.randrange(len(weights))] += 2.0
    render = random.choice(_FORMATS)(device)
    now, rows = site.start, list[str]()
    while len(rows) < lines:
        now += timedelta(seconds=random.expovariate(1 / 40))
        for line in random.choices(_EPISODES, weights)[0](device):
            now += timedelta(seconds=line.wait_s)
            rows.append(render(now, line))
    return "\n".join(rows) + "\n"


def _request(device: _Device) -> Iterator[Line]:
    random, name = device.random, f"r-{device.hex(6)}"
    prompt, new = random.randrange(8, 200), random.choice((16, 32, 64, 128, 256))
    model, deferred = random.choice(device.site.models), random.randrange(0, new // 2)
    yield device.line(
        "updraft-edge",
        f"request {name}: model {model}, {prompt} prompt tokens, at most {new} new tokens",
    )
    if random.random() < 0.2:
        left = random.randrange(0, 40)
        yield device.line(
            "updraft-edge",
            f"request {name}: refused, energy_per_day has {left} J left, {2 * new} J are needed",
            "warning",
        )
        return
    if random.random() < 0.5:
        yield device.line(
            "updraft-edge", f"request {name}: first token after {random.randrange(20, 900)} ms"
        )
    spent = new * random.uniform(0.01, 0.2)
    device.energy_j += spent
    yield device.line(
        "updraft-edge",
        f"request {name}: done, {new} tokens in {new * random.randrange(4, 40)} ms, "
        f"{spent:.2f} J, {deferred} tokens from the cloud, {new - deferred} from exit "
        f"{random.choice((2, 4))}",
        most_s=4,
    )


def _budget(device: _Device) -> Iterator[Line]:
    limit = device.random.choice((5, 10, 20, 50)) * 1000
    spent = device.energy_j % limit
    yield device.line(
        "updraft-edge",
        f"budget energy_per_day: {spent:.1f} J of {limit} J spent ({100 * spent / limit:.0f}%)",
    )
    if spent > 0.9 * limit:
        yield device.line(
            "updraft-edge", "budget energy_per_day: on_exhausted standalone", "warning"
        )


def _link(device: _Device) -> Iterator[Line]:
    random, site = device.random, device.site
    name, away = site.interface, random.uniform(2, 90)
    yield device.line("kernel", f"{name}: Link is Down", "warning")
    yield device.line(
        "NetworkManager",
        f"device ({name}): state change: activated -> unavailable (reason 'carrier-changed')",
    )
    yield device.line(
        "updraft-edge", f"link to {site.coordinator} lost, going on standalone", "warning"
    )
    for attempt in range(1, random.randrange(2, 5)):
        yield device.line(
            "updraft-edge",
            f"link to {site.coordinator}: attempt {attempt} failed, next in {2**attempt} s",
            "warning",
            2.0**attempt,
        )
    yield device.line("kernel", f"{name}: Link is Up - 1Gbps/Full - flow control rx/tx", most_s=30)
    yield device.line(
        "NetworkManager",
        f"device ({name}): state change: unavailable -> activated (reason 'carrier-changed')",
    )
    yield device.line(
        "NetworkManager", f"dhcp4 ({name}): state changed new lease, address={site.address(random)}"
    )
    yield device.line(
        "updraft-edge",
        f"link to {site.coordinator} restored after {away:.1f} s, "
        f"{random.randrange(0, 400)} positions caught up",
    )


def _login(device: _Device) -> Iterator[Line]:
    random, user = device.random, device.random.choice(device.site.users)
    source, port = device.site.address(random), random.randrange(32_768, 61_000)
    if random.random() < 0.3:
        for _ in range(random.randrange(1, 4)):
            yield device.line(
                "sshd", f"Failed password for {user} from {source} port {port} ssh2", "warning", 3
            )
        yield device.line(
            "sshd",
            f"Connection closed by authenticating user {user} {source} port {port} [preauth]",
        )
        return
    device.session += 1
    yield device.line(
        "sshd",
        f"Accepted publickey for {user} from {source} port {port} ssh2: ED25519 "
        f"SHA256:{device.hex(16)}",
    )
    yield device.line("sshd", f"pam_unix(sshd:session): session opened for user {user}(uid=1000)")
    yield device.line("systemd-logind", f"New session {device.session} of user {user}.")
    if random.random() < 0.5:
        service = random.choice(_SERVICES)[0]
        yield device.line(
            "sudo",
            f"{user} : TTY=pts/0 ; PWD=/home/{user} ; USER=root ; "
            f"COMMAND=/usr/bin/systemctl restart {service}",
            most_s=20,
        )
        yield from _restart(device, service)
    yield device.line("sshd", f"Disconnected from user {user} {source} port {port}", most_s=60)
    yield device.line("sshd", f"pam_unix(sshd:session): session closed for user {user}")
    yield device.line("systemd-logind", f"Removed session {device.session}.")


def _restart(device: _Device, name: str | None = None) -> Iterator[Line]:
    random = device.random
    service, title = next((s for s in _SERVICES if s[0] == name), random.choice(_SERVICES))
    yield device.line("systemd", f"Stopping {service}.service - {title}...")
    if random.random() < 0.3:
        yield device.line(
            "systemd", f"{service}.service: State 'stop-sigterm' timed out. Killing.", "warning", 90
        )
        yield device.line(
            "systemd",
            f"{service}.service: Killing process {device.pid(service)} ({service}) with signal "
            "SIGKILL.",
        )
        yield device.line("systemd", f"{service}.service: Failed with result 'timeout'.", "warning")
    else:
        yield device.line("systemd", f"{service}.service: Deactivated successfully.")
    yield device.line("systemd", f"Stopped {service}.service - {title}.")
    yield device.line("systemd", f"Starting {service}.service - {title}...")
    yield device.line("systemd", f"Started {service}.service - {title}.")
    if service == "updraft-edge":
        yield from _load(device)


def _load(device: _Device) -> Iterator[Line]:
    random = device.random
    model, needed = random.choice(device.site.models), random.randrange(12, 900)
    yield device.line("updraft-edge", f"loading bundle {model}, {needed} MB are needed")
    free = random.randrange(10, 4000)
    if free < needed:
        yield device.line(
            "updraft-edge",
            f"bundle {model} does not fit: {needed} MB needed, {free} MB free",
            "error",
        )
        return
    yield device.line(
        "updraft-edge", f"bundle {model} loaded in {random.randrange(40, 3000)} ms, {free} MB free"
    )
    yield device.line("updraft-edge", f"listening on {device.site.address(random)}:8080")
    yield device.line("updraft-edge", f"joined {device.site.coordinator} as {device.site.host}")


def _heat(device: _Device) -> Iterator[Line]:
    random = device.random
    trip, clock = random.choice((75, 80, 85)), random.choice((1200, 1510, 1800))
    device.temperature_c = trip + random.uniform(0.1, 6)
    yield device.line(
        "kernel",
        f"thermal thermal_zone0: {device.temperature_c:.1f} C is above the trip point {trip}.0 C",
        "warning",
    )
    yield device.line("kernel", f"cpufreq: policy0 limited to {clock} MHz", "warning")
    yield device.line("updraft-edge", f"controller: exit 2 in place of 4, clock {clock} MHz")
    while device.temperature_c > trip - 3:
        device.temperature_c -= random.uniform(0.8, 3)
        yield device.line("updraft-edge", f"temperature {device.temperature_c:.1f} C", most_s=20)
    yield device.line("kernel", f"thermal thermal_zone0: below the trip point {trip}.0 C")
    yield device.line("kernel", "cpufreq: policy0 limit removed")


def _disk(device: _Device) -> Iterator[Line]:
    random = device.random
    device.disk_percent += random.randrange(1, 9)
    if device.disk_percent < 90:
        yield device.line("diskwatch", f"/var is {device.disk_percent}% full")
        return
    yield device.line("diskwatch", f"/var is {device.disk_percent}% full, 90% allowed", "warning")
    yield device.line("systemd", "Starting logrotate.service - Rotate log files...")
    removed = random.randrange(3, 40)
    for number in range(random.randrange(1, 4), 0, -1):
        yield device.line("logrotate", f"removing /var/log/updraft/edge.log.{number}.gz")
    device.disk_percent -= removed
    yield device.line("systemd", "logrotate.service: Deactivated successfully.")
    yield device.line("diskwatch", f"/var is {device.disk_percent}% full")


def _camera(device: _Device) -> Iterator[Line]:
    random = device.random
    width, height = random.choice(((640, 480), (1280, 720), (1920, 1080)))
    for _ in range(random.randrange(1, 5)):
        device.frame += random.randrange(25, 40)
        yield device.line(
            "camera",
            f"frame {device.frame}: {width}x{height}, {random.randrange(0, 9)} objects, "
            f"{random.uniform(8, 60):.1f} ms",
            most_s=1.2,
        )
    if random.random() < 0.2:
        yield device.line(
            "camera",
            f"frame {device.frame + 1} dropped, queue holds {random.randrange(4, 9)}",
            "warning",
        )


def _cron(device: _Device) -> Iterator[Line]:
    job = device.random.choice(_JOBS)
    yield device.line("CRON", "pam_unix(cron:session): session opened for user root(uid=0)")
    yield device.line("CRON", f"(root) CMD ({job})")
    yield device.line("CRON", "pam_unix(cron:session): session closed for user root", most_s=5)


def _clock(device: _Device) -> Iterator[Line]:
    random = device.random
    server = device.site.address(random)
    yield device.line("chronyd", f"Selected source {server}")
    if random.random() < 0.4:
        off = random.uniform(0.001, 2.0)
        yield device.line("chronyd", f"System clock wrong by {off:.6f} seconds", "warning")
        yield device.line("chronyd", f"System clock was stepped by {off:.6f} seconds", "warning")


def _memory(device: _Device) -> Iterator[Line]:
    random = device.random
    service = random.choice(_SERVICES)[0]
    kilobytes = random.randrange(200_000, 8_000_000)
    pid = device.pid(service)
    yield device.line(
        "kernel", f"{service} invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0", "warning"
    )
    yield device.line(
        "kernel",
        f"Out of memory: Killed process {pid} ({service}) total-vm:{kilobytes}kB, "
        f"anon-rss:{kilobytes // 2}kB, oom_score_adj:0",
        "error",
    )
    yield device.line(
        "systemd", f"{service}.service: Main process exited, code=killed, status=9/KILL", "warning"
    )
    yield device.line("systemd", f"{service}.service: Failed with result 'oom-kill'.", "warning")
    device.pids[service] = random.randrange(300, 32_000)
    yield from _restart(device, service)


def _publish(device: _Device) -> Iterator[Line]:
    random, site = device.random, device.site
    quantity, low, high = random.choice(_QUANTITIES)
    topic = f"{site.name}/{site.host}/{quantity}"
    for _ in range(random.randrange(1, 4)):
        yield device.line(
            "mosquitto",
            f"publish {topic} qos {random.choice((0, 1))}: {random.uniform(low, high):.1f}",
            most_s=10,
        )


def _web(device: _Device) -> Iterator[Line]:
    random = device.random
    source = device.site.address(random)
    for _ in range(random.randrange(1, 5)):
        path = random.choice(_PATHS)
        status = random.choices((200, 204, 404, 429, 503), (20, 2, 1, 2, 1))[0]
        yield device.line(
            "nginx",
            f'{source} "{"POST" if "completions" in path else "GET"} {path} HTTP/1.1" {status} '
            f"{random.randrange(2, 4000)}",
            "info" if status < 400 else "warning",
            2,
        )


def _update(device: _Device) -> Iterator[Line]:
    random = device.random
    model, version = (
        random.choice(device.site.models),
        f"{random.randrange(4)}.{random.randrange(12)}",
    )
    size, digest = random.randrange(1, 60), device.hex(12)
    yield device.line("updraft-edge", f"bundle {model} {version}: fetching {size} MB")
    for share in sorted(random.sample(range(5, 100, 5), random.randrange(1, 4))):
        yield device.line("updraft-edge", f"bundle {model} {version}: {share}%", most_s=8)
    if random.random() < 0.15:
        yield device.line(
            "updraft-edge", f"bundle {model} {version}: sha256 is {digest}, not as listed", "error"
        )
        return
    yield device.line("updraft-edge", f"bundle {model} {version}: sha256 {digest} verified")
    yield device.line("updraft-edge", f"bundle {model} {version}: in use from the next request")


def _peer(device: _Device) -> Iterator[Line]:
    random, site = device.random, device.site
    peer = random.choice(site.peers)
    yield device.line("updraft-coord", f"node {peer} joined with {random.choice(site.models)}")
    yield device.line(
        "updraft-coord",
        f"plan {random.randrange(1, 400)}: {random.randrange(1, 6)} experts on, "
        f"{random.uniform(2, 80):.1f} W of {random.choice((20, 40, 80, 120))} W, cause join",
        most_s=1,
    )
    if random.random() < 0.5:
        yield device.line(
            "updraft-coord", f"node {peer} is silent for {random.randrange(2, 9)} s", "warning", 40
        )
        yield device.line(
            "updraft-coord", f"node {peer} left, {random.randrange(0, 9)} requests moved"
        )


def _syslog(device: _Device) -> Callable[[datetime, Line], str]:
    def render(now: datetime, line: Line) -> str:
        name = line.program if line.program == "kernel" else _with_pid(device, line.program)
        return f"{now:%b %d %H:%M:%S} {device.site.host} {name}: {line.message}"

    return render


def _journal(device: _Device) -> Callable[[datetime, Line], str]:
    def render(now: datetime, line: Line) -> str:
        stamp = now.isoformat(timespec="milliseconds")
        return f"{stamp} {device.site.host} {_with_pid(device, line.program)}: {line.message}"

    return render


def _json_lines(device: _Device) -> Callable[[datetime, Line], str]:
    time, level, source, text = device.random.choice(
        (("ts", "level", "service", "msg"), ("time", "severity", "unit", "message"))
    )
    with_host = device.random.random() < 0.5

    def render(now: datetime, line: Line) -> str:
        row = {time: now.isoformat(timespec="milliseconds"), level: line.level}
        if with_host:
            row["host"] = device.site.host
        return json.dumps({**row, source: line.program, text: line.message})

    return render


def _logfmt(device: _Device) -> Callable[[datetime, Line], str]:
    def render(now: datetime, line: Line) -> str:
        stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"ts={stamp} level={line.level} svc={line.program} msg={json.dumps(line.message)}"

    return render


def _bracketed(device: _Device) -> Callable[[datetime, Line], str]:
    def render(now: datetime, line: Line) -> str:
        return f"[{now:%Y-%m-%d %H:%M:%S}] {line.level.upper():<7} {line.program} - {line.message}"

    return render


def _with_pid(device: _Device, program: str) -> str:
    return f"{program}[{device.pid(program)}]"


_SERVICES = (
    ("updraft-edge", "Updraft edge agent"),
    ("updraft-coord", "Updraft coordinator"),
    ("camera", "Camera pipeline"),
    ("mosquitto", "Mosquitto MQTT broker"),
    ("nginx", "A high performance web server and a reverse proxy server"),
    ("chronyd", "NTP client/server"),
    ("diskwatch", "Disk watcher"),
)
_JOBS = (
    "/usr/local/bin/backup --target /mnt/backup",
    "test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily",
    "cd / && run-parts --report /etc/cron.hourly",
    "/usr/bin/updraft budget show --json > /var/lib/updraft/budget.json",
    "find /var/lib/camera -mtime +7 -delete",
)
_QUANTITIES = (
    ("temperature", 15.0, 60.0),
    ("humidity", 20.0, 90.0),
    ("power_w", 2.0, 40.0),
    ("pressure", 980.0, 1040.0),
    ("rpm", 400.0, 3000.0),
)
_PATHS = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/health",
    "/v1/budget",
    "/v1/models",
    "/metrics",
    "/favicon.ico",
)
_EPISODES: tuple[Episode, ...] = (
    _request,
    _budget,
    _link,
    _login,
    _restart,
    _load,
    _heat,
    _disk,
    _camera,
    _cron,
    _clock,
    _memory,
    _publish,
    _web,
    _update,
    _peer,
)
_FORMATS = (_syslog, _journal, _json_lines, _logfmt, _bracketed)
