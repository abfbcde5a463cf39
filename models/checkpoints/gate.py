"""The gate at import: a bundle that loses too much against the checkpoint is not written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from updraft.models.bundle import Bundle
from updraft.models.fidelity import FidelityReport, Limits, require_fidelity

# Told what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def require_near_checkpoint(
    bundle: Bundle,
    limits: Limits,
    texts: Sequence[str],
    import_reference: Callable[[Path], Bundle],
    report: Report,
) -> FidelityReport:
    """Compare a bundle with its checkpoint in fp32, and refuse it where it is worse than allowed.

    Args:
        import_reference: writes the same checkpoint in fp32 to a folder, which is removed again.

    Raises:
        BundleError: it is worse; names both values.
        RequestError: the text is too short.
    """
    folder = bundle.folder.with_name(bundle.folder.name + ".fp32")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        reference = import_reference(folder)
        return require_fidelity(bundle, reference, texts, limits, report=report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
