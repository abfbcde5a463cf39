"""Checkpoints for the tests of the importer."""

import json
import runpy
import shutil
from pathlib import Path

import pytest

_tiny = runpy.run_path(str(Path(__file__).parents[1] / "tiny_checkpoints.py"))


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory):
    """Return a function that gives a checkpoint's folder and model by name; do not change it."""
    made = {}

    def make(name):
        if name not in made:
            folder = tmp_path_factory.mktemp("checkpoints") / name
            made[name] = folder, _tiny["write_checkpoint"](name, folder)
        return made[name]

    return make


@pytest.fixture
def damaged(checkpoint_of, tmp_path):
    """Return a function that copies a checkpoint and lets a file of it be changed."""

    def copy(name="llama"):
        return shutil.copytree(checkpoint_of(name)[0], tmp_path / name)

    return copy


@pytest.fixture
def configure():
    """Return a function that changes keys of a folder's JSON file; None removes one."""

    def change(folder, file="config.json", **changes):
        path = folder / file
        found = json.loads(path.read_text()) if path.exists() else {}
        found.update(changes)
        path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))

    return change
