"""Packaging: what works from the checkout is in the wheel, and a device loads only its part."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).parents[1]
SETTINGS = read_configuration(ROOT / "pyproject.toml", expand=False)["tool"]["setuptools"]
FOLDERS = SETTINGS["package-dir"]
PACKAGES = SETTINGS["packages"]


def folder_of(package):
    top, *below = package.removeprefix("updraft.").split(".")
    return ROOT.joinpath(FOLDERS[f"updraft.{top}"], *below)


def packages_on_disk():
    """Return the folders with Python code under the root packages, by their import names."""
    return {
        ".".join([top, *path.parent.relative_to(ROOT / folder).parts])
        for top, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }


def loaded_by(module):
    """Return the names of all modules in a fresh interpreter that imported one."""
    script = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, check=True, capture_output=True, cwd=ROOT / "docs").stdout
    return set(json.loads(output))


def test_no_folder_with_code_is_left_out_of_the_wheel():
    # `updraft.proto` has no code of its own, only its versions have.
    assert packages_on_disk() | {"updraft.proto"} == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_listed_package_has_its_folder(package):
    assert folder_of(package).is_dir()


@pytest.mark.parametrize("package", FOLDERS)
def test_a_root_package_is_linked_for_the_type_checkers(package):
    link = ROOT / ".links/updraft" / package.removeprefix("updraft.")
    assert link.is_symlink()
    assert link.resolve() == folder_of(package)


def test_no_link_leads_to_a_package_that_is_gone():
    links = {f"updraft.{link.name}" for link in (ROOT / ".links/updraft").iterdir()}
    assert links == set(FOLDERS)


def test_the_proto_folder_never_becomes_a_package():
    # Under `python -m pytest` it would shadow proto-plus.
    assert not (ROOT / "proto/__init__.py").exists()
    assert (ROOT / "proto/v1/__init__.py").exists()


@pytest.mark.parametrize("package", SETTINGS["package-data"])
def test_every_kind_of_data_file_is_found(package):
    for pattern in SETTINGS["package-data"][package]:
        assert any(folder_of(package).glob(pattern)), pattern


def test_the_engine_of_a_device_loads_nothing_that_it_does_not_need():
    loaded = loaded_by("updraft.edge.engine")
    assert "updraft.models.sequence" in loaded
    # grpc itself looks for its two companions, so only what is in them tells.
    companions = {"grpc_health.v1", "grpc_reflection.v1alpha"}
    assert loaded & {"torch", "transformers", "fastapi", "onnx", *companions} == set()
