import subprocess
import sys

import pytest


def test_a_link_that_is_none_is_refused_before_anything_is_measured():
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "updraft.cli.main", "bench", "collab", "--links", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: link '50': RTT/MBIT")
