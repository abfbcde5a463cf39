"""What the tests of bundles share."""

import shutil

import pytest


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A copy of the tiny bundle to change or to tamper with."""
    return shutil.copytree(tiny_bundle.folder, tmp_path / "copy")
