"""Exits trained, calibrated and compared as a user does it: commands, files, exit codes."""

import json
import random
import shutil
import textwrap
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from updraft.models.bundle import describe_files, open_bundle, write_manifest

_WORDS = ("def", "return", "for", "item", "in", "items", "print", "add", "(", ")", ":", "=", "1")
_SMALL = ("--rank", 24, "--tokens", 8000, "--steps", 120, "--shortlist", 200, "--threads", 1)


def _text(seed):
    draw = random.Random(seed)
    return "".join(" ".join(draw.choices(_WORDS, k=8)) + "\n" for _ in range(800))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Two texts of one kind: to train on, and to judge by."""
    folder = tmp_path_factory.mktemp("texts")
    for seed, name in enumerate(("mine.txt", "other.txt")):
        (folder / name).write_text(_text(seed))
    return folder / "mine.txt", folder / "other.txt"


@pytest.fixture(scope="module")
def trained(updraft, tiny_bundle, texts, tmp_path_factory):
    """What the command printed, and the folder that it wrote."""
    output = tmp_path_factory.mktemp("exits") / "new"
    asked = ["--text", texts[0], "--output", output, *_SMALL, "--json"]
    done = updraft("bundle", "train-exits", tiny_bundle.folder, *asked)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout), output


def test_trained_exits_are_nearer_to_the_full_depth(trained, tiny_bundle):
    found, output = trained
    assert found["bundle"] == str(output)
    assert found["shortlist"] == 200
    for exit_ in found["exits"]:
        assert exit_["after"]["kl"] < 0.9 * exit_["before"]["kl"]
        assert exit_["after"]["agreement"] > exit_["before"]["agreement"]
    bundle = open_bundle(output)
    assert bundle.fingerprint == found["fingerprint"] != tiny_bundle.fingerprint


def test_the_new_bundle_is_verified_and_generates(updraft, trained):
    done = updraft("bundle", "verify", trained[1])
    assert done.returncode == 0, done.stderr.decode()
    asked = ["--bundle", trained[1], "--mode", "standalone", "--max-tokens", 8, "--json"]
    done = updraft("generate", *asked, "--prompt", "for item in")
    assert done.returncode == 0, done.stderr.decode()


def test_the_new_bundle_is_calibrated_on_a_text_it_was_not_trained_on(
    updraft, refusal, trained, texts, tmp_path
):
    asked = ["--epsilon", 0.5, "--max-tokens", 8, "--sequences", 40]
    said = refusal("bundle", "calibrate", trained[1], "--text", texts[0], *asked)
    assert "were trained on this text" in said
    copy = tmp_path / "calibrated"
    done = updraft(
        "bundle", "calibrate", trained[1], "--text", texts[1], *asked, "--output", copy, "--json"
    )
    assert done.returncode == 0, done.stderr.decode()
    (guarantee,) = json.loads(done.stdout)["guarantees"]
    assert guarantee["sequences"] == 40
    assert open_bundle(copy).manifest.guarantees[0].epsilon == 0.5


def test_a_bundle_without_confidences_gets_them_from_a_text(updraft, tiny_bundle, texts, tmp_path):
    assert all(entry.calibration is None for entry in tiny_bundle.manifest.exits)
    copy = tmp_path / "calibrated"
    asked = ["--epsilon", 0.99, "--max-tokens", 4, "--sequences", 20, "--output", copy]
    done = updraft("bundle", "calibrate", tiny_bundle.folder, "--text", texts[1], *asked)
    assert done.returncode == 0, done.stderr.decode()
    assert any(entry.calibration for entry in open_bundle(copy).manifest.edge_exits)
    assert all(
        entry.calibration is None for entry in open_bundle(tiny_bundle.folder).manifest.exits
    )


def test_the_gate_lets_a_good_bundle_pass_and_refuses_a_damaged_one(updraft, bundle, tmp_path):
    source = Path(textwrap.__file__)
    limits = ["--max-perplexity-ratio", 1.01, "--max-task-loss", 0.02]
    gate = ["--reference", bundle.folder, "--text", source, "--tokens", 600, "--items", 20, *limits]
    done = updraft("bundle", "compare", bundle.folder, *gate)
    assert done.returncode == 0, done.stderr.decode()
    assert "ratio 1.0000" in done.stdout.decode()
    done = updraft("bundle", "compare", _damaged(bundle, tmp_path), *gate, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert len(found["faults"]) > 1
    error = done.stderr.decode().splitlines()[-1]
    assert all(fault in error for fault in found["faults"])
    assert f"{found['perplexity']:.4g} is " in error
    assert f"the reference's {found['reference_perplexity']:.4g}, at most 1.01 is allowed" in error


def _damaged(bundle, tmp_path) -> Path:
    """Turn the sign of a layer's weights, and sign for it in the manifest."""
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "damaged"))
    name = bundle.manifest.partitions[-1].file
    graph = onnx.load(folder / name)
    for tensor in graph.graph.initializer:
        if tensor.name == "layers.5.down.weight.scales.T":
            tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
    onnx.save(graph, folder / name)
    files = bundle.manifest.files | describe_files(folder, [name])
    write_manifest(folder, bundle.manifest.model_copy(update={"files": files}))
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exits", "3"], "has no exit after layer 3"),
        (["--shortlist", "0"], "a number of tokens, all, or auto is expected"),
        (["--text", "missing.txt"], "missing.txt: cannot be read"),
    ],
)
def test_what_cannot_be_trained_is_refused(refusal, tiny_bundle, texts, tmp_path, options, message):
    asked = ["--text", texts[0], "--output", tmp_path / "out", *options]
    assert message in refusal("bundle", "train-exits", tiny_bundle.folder, *asked)
    assert not list(tmp_path.glob("out*"))
