"""What ends a process of a run when whoever started it is gone, however that ended."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable


def when_orphaned(act: Callable[[], object]) -> None:
    """Call `act` in a thread of its own when standard input ends: a pipe from the parent."""

    def wait() -> None:
        # Without a buffer, as its lock would be in the way when the interpreter ends.
        while os.read(sys.stdin.fileno(), 1):
            pass
        act()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
