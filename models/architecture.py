"""The shape of a decoder: everything about a model that is not its weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(gt=0, le=1 << 24)]
Positive = Annotated[float, Field(gt=0)]
Precision = Literal["fp32", "fp16", "int8", "int4"]

INTEGERS: tuple[Precision, ...] = ("int8", "int4")
_NEEDED_BY_ROTARY = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_frequency_factor", "high_frequency_factor", "original_context"),
    "yarn": ("factor", "original_context"),
    "longrope": ("short_factors", "long_factors", "original_context"),
}


class Record(BaseModel):
    """A part of a manifest: frozen, and nothing in it that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rotary(Record):
    """How positions turn queries and keys; the graphs hold it as tables.

    Attributes:
        kind: as `rope_type` of a checkpoint's configuration.
        width: channels of a head that turn, from its first on; None: all.
        factor: by how much the context was stretched.
        original_context: positions that the model was trained on before it was stretched.
        attention_factor: what cos and sin are multiplied by; None: what the kind says.
        short_factors, long_factors: what each frequency is divided by (longrope), for contexts
            up to `original_context` and beyond it.
    """

    kind: Literal["default", "linear", "llama3", "yarn", "longrope"] = "default"
    width: Count | None = None
    factor: Positive | None = None
    low_frequency_factor: Positive | None = None
    high_frequency_factor: Positive | None = None
    original_context: Count | None = None
    attention_factor: Positive | None = None
    beta_fast: Positive | None = None
    beta_slow: Positive | None = None
    short_factors: list[Positive] | None = None
    long_factors: list[Positive] | None = None

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Rotary:
        missing = [name for name in _NEEDED_BY_ROTARY[self.kind] if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{self.kind} needs {', '.join(missing)}")
        return self


class Mixture(Record):
    """A feed-forward part of several experts, of which a router picks some for each token.

    Attributes:
        active: experts that each token passes.
        ffn_width: of one expert.
        normalized: the weights of the active experts are scaled to sum to one.
        shared_ffn_width: of an expert that every token passes, behind a gate of its own.
        dense_layers: layers, counted from 0, whose feed-forward part is an ordinary one.
    """

    experts: Count
    active: Count
    ffn_width: Count
    normalized: bool
    shared_ffn_width: Count | None = None
    dense_layers: list[int] = []

    @model_validator(mode="after")
    def _has_enough_experts(self) -> Mixture:
        if self.active > self.experts:
            raise ValueError(f"{self.active} active experts of {self.experts}")
        return self


class Architecture(Record):
    """Sizes and kind of a decoder-only model with RMS norms and gated feed-forward parts.

    Attributes:
        head_width: channels of an attention head; width / heads where nothing is said.
        context_length: positions that a KV cache holds.
        tied: the embedding is the LM head too.
        qk_norm: queries and keys are normed per head before they turn.
        windows: how many positions back each layer attends, itself counted; 0: all of them.
    """

    vocabulary_size: Count
    width: Count
    layers: Count
    heads: Count
    kv_heads: Count
    ffn_width: Count
    context_length: Count
    rope_theta: float = Field(default=10_000.0, gt=0)
    norm_epsilon: float = Field(default=1e-5, gt=0)
    head_width: Count = Field(default=0)
    tied: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    windows: list[int] | None = None
    rotary: Rotary = Rotary()
    mixture: Mixture | None = None

    @property
    def attention_width(self) -> int:
        """Channels of all queries together, which need not be the model's width."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """Channels of all keys together, and of all values."""
        return self.kv_heads * self.head_width

    def is_mixture(self, layer: int) -> bool:
        """Whether the feed-forward part of `layer`, counted from 0, is a mixture of experts."""
        return self.mixture is not None and layer not in self.mixture.dense_layers

    def identity(self) -> dict[str, Any]:
        """Return the fields that tell this architecture from others, as a fingerprint takes them.

        What came with format 3 is named only where it says something else than it always was.
        """
        known = self.model_dump()
        added = {"tied", "qkv_bias", "output_bias", "qk_norm", "windows", "rotary", "mixture"}
        for name in added:
            if getattr(self, name) == type(self).model_fields[name].default:
                del known[name]
        if self.head_width * self.heads == self.width:
            del known["head_width"]
        return known

    @model_validator(mode="before")
    @classmethod
    def _fill_head_width(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("head_width") is None:
            width, heads = given.get("width"), given.get("heads")
            if isinstance(width, int) and isinstance(heads, int) and heads > 0:
                if width % heads:
                    raise ValueError(f"width {width} must be a multiple of heads {heads}")
                return {**given, "head_width": width // heads}
        return given

    @model_validator(mode="after")
    def _divides(self) -> Architecture:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.head_width % 16:
            raise ValueError(
                f"a head has {self.head_width} channels: the attention kernel takes multiples of 16"
            )
        turning = self.rotary.width or self.head_width
        if turning > self.head_width or turning % 16:
            raise ValueError(
                f"rotary.width {turning} must be a multiple of 16 up to head_width "
                f"{self.head_width}"
            )
        for factors in (self.rotary.short_factors, self.rotary.long_factors):
            if factors is not None and len(factors) != turning // 2:
                raise ValueError(f"rotary: {len(factors)} factors for {turning // 2} frequencies")
        if self.windows is not None and (len(self.windows) != self.layers or min(self.windows) < 0):
            raise ValueError(f"windows must name a width for each of {self.layers} layers")
        return self


class Quantization(Record):
    """How weights, sums and caches are kept.

    Attributes:
        weights: of every matrix that `overrides` does not name.
        block: weights that share one scale, along a row of the matrix.
        activations: fp32: integer weights are widened when they are loaded, and sums do not
            depend on how tokens are grouped (ADR 0003); int8: what meets them is rounded to int8
            too, one scale per token and block, which is what makes them fast (ADR 0033).
        kv: of the caches of keys and values.
        overrides: precision by the beginning of a weight's name: `head`, `layers.0`,
            `layers.3.down`; the longest that fits counts.
    """

    weights: Precision
    block: Count | None = None
    activations: Literal["fp32", "int8"] = "fp32"
    kv: Literal["fp32", "fp16", "int8"] = "fp32"
    overrides: dict[str, Precision] = {}

    def precision_of(self, weight: str) -> Precision:
        """Return how a weight, say `layers.3.down.weight`, is stored."""
        fitting = [
            name for name in self.overrides if weight == name or weight.startswith(name + ".")
        ]
        return self.overrides[max(fitting, key=len)] if fitting else self.weights

    @model_validator(mode="after")
    def _has_block(self) -> Quantization:
        if ({self.weights, *self.overrides.values()} & set(INTEGERS) == set()) != (
            self.block is None
        ):
            raise ValueError("a block belongs to weights in integers, and only to them")
        return self
