"""The manifest of a bundle: what it holds, in one checked, frozen structure."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from updraft.models.architecture import (
    Architecture,
    Count,
    Mixture,
    Precision,
    Quantization,
    Record,
    Rotary,
)

__all__ = [
    "FORMAT_VERSION",
    "PLAIN_CODECS",
    "SCALED_CODECS",
    "Architecture",
    "Calibration",
    "CodecName",
    "Count",
    "ExitEntry",
    "FileEntry",
    "Guarantee",
    "Manifest",
    "Mixture",
    "PartitionEntry",
    "Precision",
    "Profile",
    "Quantization",
    "Rotary",
    "StopRule",
    "TokenizerEntry",
    "WireEntry",
]

# Raised when a bundle written today could not be read by yesterday's agents.
FORMAT_VERSION = 3

CodecName = Literal["fp32", "fp16", "bf16", "int8", "int6", "int4"]
PLAIN_CODECS: tuple[CodecName, ...] = ("fp32", "fp16")
# Codecs that need the channel scales of `Manifest.wire`.
SCALED_CODECS: tuple[CodecName, ...] = ("bf16", "int8", "int6", "int4")


class PartitionEntry(Record):
    """A contiguous slice of layers in one graph: layers `first` (excluded) to `last` done."""

    file: str
    first: int = Field(ge=0)
    last: Count


class Calibration(Record):
    """Turns the probability that an exit gives its best token into a confidence.

    The confidence is the estimated probability that the full depth says the same token:
    sigmoid(slope × logit(probability) + intercept), fitted on calibration files. Exits at
    different depths then mean the same by the same number, and one threshold serves them all.
    """

    slope: float = Field(gt=0)
    intercept: float


class ExitEntry(Record):
    """Where a token can be produced: after `layer` layers, by row `index` of a head's norms.

    Attributes:
        calibration: without one, the confidence is the best token's probability.
        shortlist: the file with the tokens, int32, that the head's logits stand for, in their
            order; None: the whole vocabulary.
    """

    layer: Count
    head: str
    index: int = Field(ge=0)
    calibration: Calibration | None = None
    shortlist: str | None = None


class StopRule(Record):
    """Turns what an exit on the edge sees into the chance that the line comes out wrong.

    Wrong means: the line, as the whole model completes it, is not the line that its author wrote.
    The chance is sigmoid(surprise × s + doubt × d + fresh × f + intercept), where s is
    -ln(probability of the exit's best token), d the sum of s over the line's tokens so far, and
    f is 1 for a line completed from its start, 0 for one that the prompt begins. Fitted on
    calibration files.

    Attributes:
        layer: of the exit.
    """

    layer: Count
    surprise: float = Field(ge=0)
    doubt: float = Field(ge=0)
    fresh: float
    intercept: float


class TokenizerEntry(Record):
    """The tokenizer's file, and the tokens and texts that have a meaning of their own.

    Attributes:
        end_of_text: the token that ends a text.
        stop_tokens: further tokens that end an answer.
        begin_token: put before every text, where the model was trained so.
        chat_template: the file that turns messages into a text (Jinja).
    """

    file: str
    end_of_text: int = Field(ge=0)
    stop_tokens: list[int] = Field(default_factory=list)
    begin_token: int | None = Field(default=None, ge=0)
    chat_template: str | None = None

    @property
    def ends(self) -> frozenset[int]:
        """All tokens that end an answer."""
        return frozenset({self.end_of_text, *self.stop_tokens})


class WireEntry(Record):
    """What codecs need to know of the states at the split.

    Attributes:
        scales: the file with one scale per channel, little-endian fp32.
    """

    scales: str


class FileEntry(Record):
    """Size and SHA-256 of one file of the bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Profile(Record):
    """Median latency per step of one token, measured when the bundle was built.

    Attributes:
        partition_ms: one value per partition.
        head_ms: one evaluation of an exit head.
    """

    machine: str
    threads: Count
    partition_ms: list[float]
    head_ms: float


class Guarantee(Record):
    """A λ for mode `bounded` that passed its test, and everything that the test was about.

    With probability 1 - `delta` over the calibration prompts, the expected share of wrong tokens
    among those that a sequence commits is at most `epsilon`, for prompts drawn like these.

    Attributes:
        commit_from: λ: the exit at the split keeps its token from this confidence on.
        wire, temperature, max_tokens: the sequences were run with these; it holds with no others.
        sequences: calibration prompts, one sequence each.
        risk: mean over the sequences of the share of committed tokens that were wrong.
        committed_share: of all new tokens.
        prompts_sha256: of the file that the prompts came from.
        fingerprint: of the bundle; for another model it is void.
        exit: the exit that commits, with what makes its confidence; with another it is void.
    """

    epsilon: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    commit_from: float = Field(gt=0, lt=1)
    wire: CodecName
    temperature: float = Field(ge=0)
    max_tokens: Count
    sequences: Count
    risk: float = Field(ge=0, le=1)
    p_value: float = Field(ge=0, le=1)
    committed_share: float = Field(ge=0, le=1)
    prompts_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    fingerprint: str
    exit: ExitEntry


class Manifest(Record):
    """Everything a device must know before it loads a bundle.

    Attributes:
        overflow: what happens when the context is full: `refuse` the request, or `slide`, that
            is, go on from the second half of the context.
        split: layers done when the state crosses the wire.
        exits: by layer, the full depth last.
        stop_rules: when to stop, for exits on the edge.
        codecs: how states may cross the wire, those that need `wire` only where it is there.
        provenance: free text for people: recipe, seed, corpus, licence.
    """

    format: int
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    architecture: Architecture
    overflow: Literal["refuse", "slide"] = "refuse"
    split: Count
    partitions: list[PartitionEntry] = Field(min_length=2)
    exits: list[ExitEntry] = Field(min_length=2)
    stop_rules: list[StopRule] = Field(default_factory=list)
    tokenizer: TokenizerEntry
    codecs: list[CodecName] = Field(min_length=1)
    wire: WireEntry | None = None
    quantization: Quantization
    files: dict[str, FileEntry]
    profile: Profile | None = None
    guarantees: list[Guarantee] = Field(default_factory=list)
    provenance: dict[str, str | int] = Field(default_factory=dict)

    @property
    def edge_exits(self) -> list[ExitEntry]:
        """The exits that an edge node can take, shallow first."""
        return [exit_ for exit_ in self.exits if exit_.layer <= self.split]

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        layers = self.architecture.layers
        bounds = [(entry.first, entry.last) for entry in self.partitions]
        if bounds[0][0] != 0 or bounds[-1][1] != layers:
            raise ValueError(f"partitions must cover layers 0 to {layers}, they are {bounds}")
        if any(first >= last for first, last in bounds) or any(
            before[1] != after[0] for before, after in pairwise(bounds)
        ):
            raise ValueError(f"partitions must follow each other without gaps, they are {bounds}")
        ends = [last for _, last in bounds]
        exits = [entry.layer for entry in self.exits]
        if exits != sorted(set(exits)) or exits[-1] != layers or not set(exits) <= set(ends):
            raise ValueError(f"exits {exits} must rise to {layers} and end partitions {ends}")
        if self.split not in exits[:-1]:
            raise ValueError(f"split {self.split} must be an exit before the last of {exits}")
        ruled = [rule.layer for rule in self.stop_rules]
        if len(ruled) != len(set(ruled)) or not set(ruled) <= {e.layer for e in self.edge_exits}:
            raise ValueError(f"stop_rules {ruled} must belong to one exit on the edge each")
        return self

    @model_validator(mode="after")
    def _heads_agree(self) -> Manifest:
        for head in {entry.head for entry in self.exits}:
            rows = [entry.index for entry in self.exits if entry.head == head]
            if len(rows) != len(set(rows)):
                raise ValueError(f"exits of {head} must use rows of their own, not {rows}")
            if len({entry.shortlist for entry in self.exits if entry.head == head}) > 1:
                raise ValueError(f"exits of {head} must name one and the same shortlist")
        if self.exits[-1].shortlist is not None:
            raise ValueError("the full depth must choose from the whole vocabulary")
        return self

    @model_validator(mode="after")
    def _knows_its_tokens(self) -> Manifest:
        vocabulary = range(self.architecture.vocabulary_size)
        if self.tokenizer.end_of_text not in vocabulary:
            raise ValueError("tokenizer.end_of_text lies outside the vocabulary")
        special = [*self.tokenizer.stop_tokens, self.tokenizer.begin_token or 0]
        if not all(token in vocabulary for token in special):
            raise ValueError("tokenizer.stop_tokens and begin_token must lie in the vocabulary")
        return self

    @model_validator(mode="after")
    def _has_what_it_names(self) -> Manifest:
        if self.wire is None and not set(self.codecs) <= set(PLAIN_CODECS):
            raise ValueError(f"codecs {self.codecs}: only {PLAIN_CODECS} do without wire.scales")
        named = {entry.file for entry in self.partitions} | {entry.head for entry in self.exits}
        named |= {entry.shortlist for entry in self.exits if entry.shortlist is not None}
        named.add(self.tokenizer.file)
        if self.tokenizer.chat_template is not None:
            named.add(self.tokenizer.chat_template)
        if self.wire is not None:
            named.add(self.wire.scales)
        missing = sorted(named - set(self.files))
        if missing:
            raise ValueError(f"files lacks {', '.join(missing)}")
        return self
