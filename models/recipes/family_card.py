"""The card of an expert: what it read, how good it was measured to be, and whose text that was."""

from __future__ import annotations

from collections.abc import Mapping

from updraft.models.card import Table, percent
from updraft.models.manifest import Manifest

_CARD = """\
# Model card: {name}

One of five small decoders that share a tokenizer and a trunk: a generalist and an expert each for
Python, C headers, English documentation, and logs with configuration files. A gate sends each
prompt to the one that will do best; `docs/experts.md` tells how they were made.

- Llama-style, {layers} layers of width {width}, vocabulary {vocabulary:,}, context {context}.
- Exits after {exits} of {layers} layers; the state crosses the wire after layer {split}.
- Weights {weights}.

## Training

{facts}

All branches start from the trunk's weights. An expert's weights are then mixed with the
generalist's, 7 parts to 3.

## Results

{table}
## Data and licence

- Python source, help topics and docstrings: the standard library of the interpreter, © Python
  Software Foundation, PSF License Version 2 (`LICENSE-PSF.txt`).
- C headers: CPython's own (PSF License Version 2) and numpy's own. Headers that others wrote are
  left out.
- numpy's headers and docstrings: © NumPy Developers, BSD 3-clause (`LICENSE-numpy.txt`).
- Logs and configuration files: written by Updraft's own simulator; every name in them is invented.

Every member of the family has read all four, in the trunk. No user data, no web crawl, no output
of another model.

## What it cannot do

It is a demonstration of routing among experts. It follows no instructions, answers no questions
and is wrong about most tokens of text unlike its own. It can reproduce training text. Nothing that
it writes has been checked for correctness or safety: do not run it unread.

## Reproduce

```
updraft bundle build --recipe family
```
"""


def render_expert_card(
    manifest: Manifest, accuracy: Mapping[str, Mapping[int, float]], tokens: int
) -> str:
    """Render an expert's card in Markdown.

    Args:
        accuracy: domain → exit layer → share of held-out tokens that it predicts.
        tokens: held-out tokens scored per domain, at most.
    """
    shape = manifest.architecture
    exits = [entry.layer for entry in manifest.exits]
    rows = [
        [domain, *(percent(by_layer[layer]) for layer in exits)]
        for domain, by_layer in accuracy.items()
    ]
    *early, full = exits
    header = ["domain", *(f"exit {layer}" for layer in early), f"full depth ({full})"]
    note = f"Held-out files, up to {tokens:,} tokens of each domain."
    facts = (
        f"- {key.replace('_', ' ')}: {f'{value:,}' if isinstance(value, int) else value}"
        for key, value in manifest.provenance.items()
    )
    return _CARD.format(
        name=manifest.name,
        layers=shape.layers,
        width=shape.width,
        vocabulary=shape.vocabulary_size,
        context=shape.context_length,
        exits=" and ".join(map(str, early)),
        split=manifest.split,
        weights=manifest.quantization.weights,
        facts="\n".join(facts),
        table=Table("Share of next tokens predicted", header, rows, note).markdown(),
    )
