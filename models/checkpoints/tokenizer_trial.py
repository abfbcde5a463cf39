"""Try a tokenizer's file in a process of its own: what it breaks, it breaks there.

The library is compiled. Some files make it panic, and a panic can end the whole process.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from updraft.errors import BundleError

_SECONDS = 60
_TRIAL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from tokenizers import Tokenizer
try:
    tokenizer = Tokenizer.from_file(sys.argv[1])
    tokenizer.get_vocab()
    for text in ("a", "def add(a, b):\\n    a + b", "  \\u6f22\\u5b57 \\U0001f642\\n\\n1234"):
        for special in (False, True):
            tokenizer.decode(tokenizer.encode(text, add_special_tokens=special).ids)
except BaseException as error:
    sys.exit(str(error)[:500] or type(error).__name__)
"""


def try_tokenizer(path: Path) -> None:
    """Load a tokenizer and let it cut some texts.

    Raises:
        BundleError: it cannot, or takes too long for it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _TRIAL, str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{path}: takes more than {_SECONDS} s for a few words") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be tried: {error.strerror}") from error
    if done.returncode < 0:
        raise BundleError(f"{path}: not a tokenizer: the `tokenizers` library breaks on it")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BundleError(f"{path}: not a tokenizer: {said[-1] if said else 'no reason given'}")
