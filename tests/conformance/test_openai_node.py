"""What the real Node client of OpenAI expects, against a real agent."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_NODE = Path(__file__).with_name("node")


@pytest.fixture(scope="session")
def node_client(tmp_path_factory):
    """A folder with the client, as the lock file pins it, and its tests."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("node")
    for path in _NODE.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_node_client_finds_what_it_expects(node_client, agent):
    done = subprocess.run(
        ["node", "--test", "conformance.test.mjs"],
        cwd=node_client,
        env=os.environ | {"UPDRAFT_URL": f"http://{agent.address}/v1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "# skipped 0" in done.stdout
    assert "# pass 12" in done.stdout
