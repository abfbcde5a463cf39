"""What is measured: the rows, the links, and how much of both in each tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from updraft.benchmarks.collab.wire import Link
from updraft.errors import RequestError
from updraft.models.manifest import CodecName

# What a row is for: a rival of ours, ours, or what both are compared with.
Side = Literal["reference", "rival", "ours"]
TierName = Literal["quick", "default", "long"]

# Modes of a fixed kind in which the edge drafts ahead.
SPECULATING = ("lossless", "bounded", "ids")
# More than any confidence: no exit is taken.
NEVER = 1.5


@dataclass(frozen=True)
class Row:
    """One way to decode.

    Attributes:
        mode: of our engine; `naive` is a client without any cache (`rivals.py`).
        paper: confidences are the exits' probabilities, as in CE-CoLLM; else calibrated ones.
        serial: the edge never computes while the cloud does.
    """

    name: str
    side: Side
    mode: str
    wire: CodecName = "fp16"
    theta: float = NEVER
    epsilon: float | None = None
    paper: bool = False
    serial: bool = False

    def choices(self) -> dict[str, Any]:
        """Return what a `GenerationRequest` needs of this row."""
        own = {"mode": self.mode, "wire": self.wire, "theta": self.theta}
        return own if self.epsilon is None else own | {"epsilon": self.epsilon}


CLOUD = Row("cloud-only, streamed", "reference", "cloud")
NAIVE = Row("naive, fp32, whole context", "rival", "naive", wire="fp32", serial=True)
LOSSLESS = Row("lossless, fp16", "ours", "lossless")
THETAS = tuple(
    Row(f"CE-CoLLM, θ = {theta:.1f}", "rival", "threshold", theta=theta, paper=True, serial=True)
    for theta in (0.8, 0.9, 1.0)
)
ROWS = (
    CLOUD,
    NAIVE,
    Row("naive + KV, fp16", "rival", "threshold", serial=True),
    *THETAS,
    Row("standalone", "reference", "standalone", theta=0.8, serial=True),
    LOSSLESS,
    Row("lossless, bf16", "ours", "lossless", wire="bf16"),
    Row("lossless, int8", "ours", "lossless", wire="int8"),
    Row("lossless, int6", "ours", "lossless", wire="int6"),
    Row("bounded, ε = .02", "ours", "bounded", epsilon=0.02),
    Row("bounded, ε = .05", "ours", "bounded", epsilon=0.05),
    Row("ids", "ours", "ids"),
    Row("auto", "ours", "auto"),
)
# A row at one temperature.
Case = tuple[Row, float]
# What many clients run at once: the reference, the rival at each θ, ours.
CROWD = (CLOUD, *THETAS, LOSSLESS)
# What goes through a blackout.
STRICKEN = (CLOUD, THETAS[0], LOSSLESS)


@dataclass(frozen=True)
class Leg:
    """One link and how much is decoded over it.

    Attributes:
        naive_prompts: prompts of the row that takes by far the longest.
    """

    link: Link
    prompts: int
    naive_prompts: int
    repeats: int
    temperatures: tuple[float, ...] = (0.0, 0.8)


@dataclass(frozen=True)
class Tier:
    """How much is measured.

    Attributes:
        agreement_prompts: completions over which agreement, α and m are measured; the rows'
            texts do not depend on the link, so these need no slow one.
        clients: numbers of clients at once, each with `client_prompts` prompts; of few clients
            each does more, `client_completions` in all.
        tight_mib: memory for all sessions' context that the most clients exceed.
        shallow: what is measured once more with the first exit as the split, where drafts are
            worse.
    """

    name: TierName
    legs: tuple[Leg, ...]
    max_tokens: int
    agreement_prompts: int
    clients: tuple[int, ...]
    client_links: tuple[Link, ...]
    client_prompts: int
    client_completions: int
    blackout_s: float
    blackout_prompts: int
    samples: int = 200
    tight_mib: int = 96
    rows: tuple[Row, ...] = ROWS
    shallow: Tier | None = None


NEAR = Link(2, 31)
FAR = Link(50, 20)
_LOSSY = Link(50, 20, loss=0.01)
_GRID = tuple(Link(rtt, mbit) for rtt in (10, 50, 100) for mbit in (5, 20, 100))


def _shallow(name: TierName, prompts: int, far_prompts: int, repeats: int) -> Tier:
    return Tier(
        name,
        legs=(Leg(NEAR, prompts, 0, repeats), Leg(FAR, far_prompts, 0, repeats)),
        max_tokens=64,
        agreement_prompts=prompts,
        clients=(),
        client_links=(FAR,),
        client_prompts=0,
        client_completions=0,
        blackout_s=0,
        blackout_prompts=0,
        rows=CROWD,
    )


TIERS: dict[TierName, Tier] = {
    "quick": Tier(
        "quick",
        legs=(
            Leg(NEAR, prompts=3, naive_prompts=1, repeats=1, temperatures=(0.0,)),
            Leg(FAR, prompts=2, naive_prompts=1, repeats=1, temperatures=(0.0,)),
        ),
        max_tokens=32,
        agreement_prompts=6,
        clients=(1, 4),
        client_links=(FAR,),
        client_prompts=1,
        client_completions=2,
        blackout_s=1,
        blackout_prompts=1,
        samples=50,
    ),
    "default": Tier(
        "default",
        legs=(
            Leg(NEAR, prompts=10, naive_prompts=1, repeats=3),
            Leg(Link(10, 20), prompts=4, naive_prompts=1, repeats=1, temperatures=(0.0,)),
            Leg(FAR, prompts=2, naive_prompts=1, repeats=2),
            Leg(_LOSSY, prompts=2, naive_prompts=1, repeats=1, temperatures=(0.0,)),
        ),
        max_tokens=64,
        agreement_prompts=20,
        clients=(1, 4, 16),
        client_links=(FAR,),
        client_prompts=2,
        client_completions=4,
        blackout_s=5,
        blackout_prompts=1,
        shallow=_shallow("default", prompts=6, far_prompts=1, repeats=1),
    ),
    "long": Tier(
        "long",
        legs=(
            Leg(NEAR, prompts=40, naive_prompts=2, repeats=3),
            *(Leg(link, prompts=6, naive_prompts=1, repeats=2) for link in (*_GRID, _LOSSY)),
        ),
        max_tokens=64,
        agreement_prompts=100,
        clients=(1, 2, 4, 8, 16),
        client_links=(NEAR, FAR),
        client_prompts=4,
        client_completions=16,
        blackout_s=5,
        blackout_prompts=6,
        samples=1000,
        shallow=_shallow("long", prompts=40, far_prompts=6, repeats=2),
    ),
}


def parse_link(text: str) -> Link:
    """Parse `RTT/MBIT` or `RTT/MBIT/LOSS`, in milliseconds, Mbit/s and percent.

    Raises:
        RequestError: it is something else.
    """
    try:
        round_trip_ms, mbit_s, *loss = (float(part) for part in text.split("/"))
        link = Link(round_trip_ms, mbit_s, *(share / 100 for share in loss))
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"link {text!r}: RTT/MBIT or RTT/MBIT/LOSS is expected, in ms, Mbit/s and percent, "
            "for example 50/20 or 50/20/1"
        ) from error
    if link.round_trip_ms < 0 or link.mbit_s <= 0 or not 0 <= link.loss < 1:
        raise RequestError(f"link {text!r}: there is no link like this")
    return link
