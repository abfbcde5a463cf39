"""How sure exits are, fitted on a text of the user's: for bundles whose exits nobody has fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from updraft.models.bundle import Bundle
from updraft.models.calibration import fit_calibration
from updraft.models.exits.passages import Windows
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

_ROWS = 128


def fit_confidences(bundle: Bundle, windows: Windows, report: Report) -> Bundle:
    """Return the bundle with a confidence for every edge exit that has none; nothing is written.

    Args:
        windows: (windows, length) token ids that no exit was trained on.
    """
    manifest = bundle.manifest
    unfitted = [entry.layer for entry in manifest.edge_exits if entry.calibration is None]
    if not unfitted:
        return bundle
    model = Model.load(bundle, range(manifest.architecture.layers), RuntimeOptions())
    sequence = model.new_sequence()
    said = defaultdict(list)
    for count, window in enumerate(windows, start=1):
        sequence.truncate(0)
        sequence.append(window.astype(np.int64))
        for layer in (*unfitted, model.top):
            sequence.advance(layer)
            states = sequence.states(layer, 0, sequence.length)
            for at in range(0, len(states), _ROWS):
                found = model.heads.predict(layer, states[at : at + _ROWS])
                said[layer].append((found.probability, found.token))
        report("confidences", count, len(windows))
    probability, token = (
        {layer: np.concatenate([part[i] for part in parts]) for layer, parts in said.items()}
        for i in (0, 1)
    )
    fits = {
        layer: fit_calibration(probability[layer], token[layer] == token[model.top])
        for layer in unfitted
    }
    exits = [
        entry.model_copy(update={"calibration": fits[entry.layer]})
        if entry.layer in fits
        else entry
        for entry in manifest.exits
    ]
    return Bundle(bundle.folder, manifest.model_copy(update={"exits": exits}))
