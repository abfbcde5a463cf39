"""The model card: what a bundle is, how good it was measured to be, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from updraft.models.evaluate import ModelReport
from updraft.models.manifest import Architecture, Manifest
from updraft.models.recipes.corpus import CALIBRATION_PERCENT, HELDOUT_PERCENT
from updraft.models.scores import THETAS

# A cascade is shown at these thresholds besides the chosen one.
_CASCADE_THETAS = frozenset(THETAS)

_DATA = """\
## Data and licence

Trained on the source of the Python standard library ({corpus}) and nothing else, de-duplicated,
without data tables, encodings and third-party packages. It is split by *file*, with a hash of its
path: about {training}% of the files for training, {calibration}% to choose thresholds
(calibration), {heldout}% only ever measured on (held-out).

That source is © Python Software Foundation and others, under the PSF License Version 2
(https://docs.python.org/3/license.html); a few files carry permissive notices of their own.
`prompts.jsonl`, `calibration.jsonl` and `bounded.jsonl`, where they travel along, are excerpts of
it under the same licence. No user data, no web crawl, no output of another model.
"""

_PROTOCOL = """\
## How it was measured

ONNX Runtime on the partitions as shipped, on {tokens:,} tokens of {files} held-out files
({tests} test code, which is easier: both kinds stand apart below). Windows of one context move by
half of it, so every token sees at least half a context where its file has one. Agreement is with
full depth *after the same, true prefix*; a generation that leaves full depth's path once goes on
from there. Standard errors (±) take files, or lines, as the draws. Seed {seed}; thresholds come
from {calibration:,} tokens of calibration files.
"""

_PAPER = """\
## Beside the paper on code completion

The paper that proposed stopping or exiting early in code completion reports that GPT-2's first
layer already predicts 54.4% of tokens correctly, and that 14.5% are wrong even at full depth.
Here exit {first} is right on {first_accuracy} and full depth wrong on {full_error}. The two are
not directly comparable: theirs is GPT-2 fine-tuned (124 M parameters), with GPT-2's own BPE and on
another corpus; a tokenizer decides how many easy tokens a text has, so shares of tokens do not
carry over.
"""

_LIMITS = """\
## What it cannot do

- It is a demonstration of cloud-edge decoding, not a coding assistant: {full_error} of held-out
  tokens are wrong at full depth{lines}.
- It knows Python in the style of the standard library. It follows no instructions, answers no
  questions, and knows no other language and no third-party package.
- It sees {context} tokens. Like any model of its size it tends to repeat itself when decoded
  greedily for long.
- {verbatim} of the held-out lines of 20 characters or more also stand in a training file: short
  idioms are partly recalled, not composed, and it can reproduce training text, PSF-licensed.
- Its confidence was measured on this corpus only. On other text a threshold may let more wrong
  tokens pass: measure before relying on one.
- Nothing it writes has been checked for correctness or safety. Do not run it unread.
"""

_REPRODUCE = """\
## Reproduce

```
updraft bundle build --recipe code
```

The weights depend on the interpreter, whose library is the corpus, and on the machine by rounding.
Measure any bundle with `python benchmarks/model.py --bundle FOLDER`.
"""


@dataclass(frozen=True)
class Table:
    """A titled table of text cells, ready for Markdown or a terminal."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Render as a Markdown section, figures right-aligned."""
        rule = ["---", *("---:" for _ in self.header[1:])]
        lines = [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]
        note = ["", self.note] if self.note else []
        return "\n".join([f"### {self.title}", "", *lines, *note, ""])


def render_card(
    manifest: Manifest,
    report: ModelReport,
    quantization_agreement: Mapping[int, float] | None = None,
) -> str:
    """Render the model card in Markdown.

    Args:
        manifest: of the measured bundle; its provenance is quoted as the training recipe.
        quantization_agreement: exit → share of tokens on which the bundle says what the same
            weights say in fp32 (`compare_bundles`), where that was measured.
    """
    shallow, full = report.exits["all"][0], report.exits["all"][-1]
    full_error = percent(1 - full.accuracy)
    sections = [
        _summary(manifest),
        _DATA.format(
            corpus=report.corpus,
            training=100 - CALIBRATION_PERCENT - HELDOUT_PERCENT,
            calibration=CALIBRATION_PERCENT,
            heldout=HELDOUT_PERCENT,
        ),
        _recipe(manifest),
        _PROTOCOL.format(
            tokens=report.tokens,
            files=report.files,
            tests=percent(report.test_share, 0),
            seed=report.seed,
            calibration=report.calibration_tokens,
        ),
        "## Results\n",
        *(table.markdown() for table in tables(report)),
        _quantization(manifest, quantization_agreement or {}),
        _PAPER.format(
            first=shallow.layer, first_accuracy=percent(shallow.accuracy), full_error=full_error
        ),
        _LIMITS.format(
            context=manifest.architecture.context_length,
            full_error=full_error,
            lines=_missed_lines(report),
            verbatim=percent(report.verbatim_line_share, 0),
        ),
        _REPRODUCE,
    ]
    return "\n".join(section for section in sections if section)


def tables(report: ModelReport) -> list[Table]:
    """Return the report's tables: exits, confidence, cascade, lines."""
    return [
        *(_exit_table(report, kind) for kind in report.exits),
        _theta_table(report),
        _cascade_table(report),
        *([_line_table(report)] if report.lines else []),
    ]


def percent(share: float, digits: int = 1) -> str:
    """Format a share as a percentage."""
    return f"{100 * share:.{digits}f}%"


def _summary(manifest: Manifest) -> str:
    shape = manifest.architecture
    exits = [entry.layer for entry in manifest.edge_exits]
    graphs = {p.file for p in manifest.partitions} | {entry.head for entry in manifest.exits}
    megabytes = sum(manifest.files[name].bytes for name in graphs) / 1e6
    return f"""\
# Model card: {manifest.name}

A small decoder of Python source code that can stop early: a device runs the first {manifest.split}
of {shape.layers} layers and takes a token at exit {" or ".join(map(str, exits))} when that exit is
sure of it; the cloud runs the rest for the others.

- Llama-style, {_parameters(manifest) / 1e6:.2f} M parameters: width {shape.width}, heads
  {shape.heads}, KV heads {shape.kv_heads}, SwiGLU {shape.ffn_width}, byte-level BPE vocabulary
  {shape.vocabulary_size:,}, context {shape.context_length}; one norm per exit, one head tied to
  the embedding.
- Exits after layers {", ".join(map(str, exits))} and {shape.layers} (full depth); the state
  crosses the wire after layer {manifest.split}.
- Weights {manifest.quantization.weights}, {megabytes:.1f} MB of ONNX graphs; sums in fp32.
"""


def _recipe(manifest: Manifest) -> str:
    if not manifest.provenance:
        return ""
    facts = [
        f"- {key.replace('_', ' ')}: {f'{value:,}' if isinstance(value, int) else value}"
        for key, value in manifest.provenance.items()
    ]
    return "\n".join(["## Training", "", *facts, ""])


def _missed_lines(report: ModelReport) -> str:
    if not report.lines:
        return ""
    missed = percent(1 - report.lines[0].share, 0)
    return f", and so is the rest of a line in {missed} of cases"


def _quantization(manifest: Manifest, agreement: Mapping[int, float]) -> str:
    if not agreement:
        return ""
    weights = manifest.quantization.weights
    rows = [[_place(manifest, layer), percent(share, 2)] for layer, share in agreement.items()]
    title = f"What {weights} weights change"
    note = "Share of held-out tokens on which the best token is that of the same weights in fp32."
    return Table(title, ["", "same token as fp32"], rows, note).markdown()


def _exit_table(report: ModelReport, kind: str) -> Table:
    scores = report.exits[kind]
    rows = [
        [
            f"exit {score.layer}" if score is not scores[-1] else f"full depth ({score.layer})",
            percent(score.accuracy)
            + (f" ± {100 * score.accuracy_se:.1f}" if score.accuracy_se is not None else ""),
            f"{score.cross_entropy:.3f}",
            f"{score.bits_per_byte:.3f}",
            f"{score.ece:.3f}",
            percent(score.agreement),
        ]
        for score in scores
    ]
    names = {
        "all": "Each exit by itself",
        "tests": "Test code only",
        "library": "Library code only",
    }
    return Table(
        f"{names[kind]} ({scores[0].tokens:,} tokens)",
        ["", "accuracy", "nats/token", "bits/byte", "ECE", "agrees with full depth"],
        rows,
    )


def _theta_table(report: ModelReport) -> Table:
    layers = [score.layer for score in report.exits["all"]]
    found = {(score.theta, score.layer): score for score in report.thetas}
    rows = []
    for theta in sorted({score.theta for score in report.thetas}):
        cells = [f"{theta:g}"]
        for layer in layers:
            score = found[theta, layer]
            right = "none" if score.accuracy is None else percent(score.accuracy)
            cells.append(f"{percent(score.share)} ({right})")
        rows.append(cells)
    return Table(
        "Confidence: share of tokens at or above θ (accuracy on those)",
        ["θ", *(f"exit {layer}" for layer in layers[:-1]), "full depth"],
        rows,
    )


def _cascade_table(report: ModelReport) -> Table:
    edge = list(report.chosen.ended)[:-1]
    rows = [
        [
            f"**{score.theta:g}**" if score.theta == report.theta else f"{score.theta:g}",
            *(percent(score.ended[layer]) for layer in edge),
            percent(score.edge),
            percent(score.cloud_requests),
            percent(score.agreement),
            percent(score.accuracy),
        ]
        for score in report.cascade
        if score.theta in _CASCADE_THETAS or score.theta == report.theta
    ]
    columns = ["on the edge", "cloud requests", "agrees with full depth", "accuracy"]
    return Table(
        "Cascade: the first exit with confidence ≥ θ, else full depth",
        ["θ", *(f"exit {layer}" for layer in edge), *columns],
        rows,
        f"θ = {report.theta:g} is the smallest that agrees with full depth on "
        f"{percent(report.agreement_target, 0)} of calibration tokens; chosen on the held-out "
        f"files themselves it would be {report.hindsight_theta:g}.",
    )


def _line_table(report: ModelReport) -> Table:
    rows = [
        [score.policy, percent(score.share), f"± {100 * score.standard_error:.1f}"]
        for score in report.lines
    ]
    return Table(
        f"Rest of a line completed exactly ({report.lines[0].lines} lines)",
        ["", "exact", "standard error"],
        rows,
        "Held-out lines of 20 characters or more, cut at a random token inside; greedy. "
        f"{percent(report.verbatim_line_share)} of such lines also stand in a training file.",
    )


def _parameters(manifest: Manifest) -> int:
    shape = manifest.architecture
    return (
        shape.vocabulary_size * shape.width
        + shape.layers * _layer_parameters(shape)
        + len(manifest.exits) * shape.width
    )


def _layer_parameters(shape: Architecture) -> int:
    attention = 2 * shape.width**2 + 2 * shape.width * shape.kv_heads * shape.head_width
    return attention + 3 * shape.width * shape.ffn_width + 2 * shape.width


def _place(manifest: Manifest, layer: int) -> str:
    return "full depth" if layer == manifest.architecture.layers else f"exit {layer}"
