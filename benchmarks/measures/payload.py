"""Whether the bytes on the wire are those of the formulas."""

from __future__ import annotations

from dataclasses import dataclass, field

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.models.card import Table
from updraft.models.manifest import CodecName

_THETAS = (0.0, 0.5, 0.8, 1.5)
_BYTES: dict[CodecName, int] = {"fp16": 2, "fp32": 4}
_TOKEN_BYTES = 4


@dataclass
class Count:
    """Generations of one kind whose bytes were checked."""

    what: str
    formula: str
    generations: int = 0
    uplink_bytes: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, number: int, sent: int, expected: int) -> None:
        """Check the bytes that the generation of prompt `number` sent up."""
        self.generations += 1
        self.uplink_bytes += sent
        if sent != expected:
            self.wrong.append(f"prompt {number}: {sent} bytes, expected {expected}")


def measure(bench: Bench) -> Section:
    """Compare the payload of every generation with the formula of its mode."""
    prompts = bench.prompts(bench.plan.payload_prompts)
    cloud = Count("`cloud`", f"{_TOKEN_BYTES}·P")
    counts = {
        (codec, theta): Count(f"`threshold`, θ = {theta:g}, {codec} wire", f"{size}·d·(P + N - 1)")
        for codec, size in _BYTES.items()
        for theta in _THETAS
    }
    width = bench.bundle.manifest.architecture.width
    for number in bench.track(range(len(prompts)), "payload bytes"):
        prompt = prompts[number]
        length = len(bench.engine.tokenizer.encode(prompt))
        sent = bench.complete(prompt, mode="cloud").uplink_bytes
        cloud.add(number, sent, _TOKEN_BYTES * length)
        for (codec, theta), count in counts.items():
            result = bench.complete(prompt, mode="threshold", theta=theta, wire=codec)
            positions = length + len(result.tokens) - 1
            count.add(number, result.uplink_bytes, _BYTES[codec] * width * positions)
    rows = [*counts.values(), cloud]
    return Section(
        key="payload",
        tables=[_table(rows, width)],
        figures={"width": width, "counts": [vars(count) for count in rows]},
        failures=[f"{row.what}: {'; '.join(row.wrong[:5])}" for row in rows if row.wrong],
    )


def _table(rows: list[Count], width: int) -> Table:
    return Table(
        "Payload up, against the formula",
        ("generations", "formula (bytes)", "checked", "bytes up", "not equal"),
        [
            (
                row.what,
                row.formula,
                str(row.generations),
                f"{row.uplink_bytes:,}",
                f"**{len(row.wrong)}**",
            )
            for row in rows
        ],
        f"P prompt tokens, N new ones, d = {width} values per state: every position is sent once.",
    )
