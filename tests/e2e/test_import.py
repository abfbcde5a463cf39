"""`updraft bundle import` as a user runs it: a checkpoint folder in, a bundle that answers out."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from updraft.models.bundle import open_bundle
from updraft.models.shipped import shipped_bundle

_tiny = runpy.run_path(str(Path(__file__).parents[1] / "models/tiny_checkpoints.py"))
_UPDRAFT = str(Path(sys.executable).with_name("updraft"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("import") / "Tiny-Llama"
    _tiny["write_checkpoint"]("llama", folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return folder


@pytest.fixture
def copied(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def test_an_imported_checkpoint_is_verified_and_answers(updraft, checkpoint, tmp_path):
    output = tmp_path / "bundle"
    done = updraft(
        "bundle", "import", checkpoint, "--output", output, "--split", 2, "--exits", "1,2",
        "--precision", "int8", "--block", 32, "--override", "head=fp32",
        "--override", "layers.0=fp16", "--context", 96, "--name", "tiny", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    verified = json.loads(updraft("bundle", "verify", output, "--json").stdout)
    assert verified["fingerprint"] == said["fingerprint"]
    assert (said["split"], said["exits"], said["precision"]) == (2, [1, 2, 4], "int8")
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["name"] == "tiny"
    assert manifest["architecture"]["context_length"] == 96
    assert manifest["provenance"]["licence"] == "apache-2.0"
    assert manifest["quantization"]["overrides"] == {"head": "fp32", "layers.0": "fp16"}
    done = updraft(
        "generate", "--bundle", output, "--mode", "full", "--prompt", "def add(",
        "--max-tokens", 8, "--json",
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert len(answer["tokens"]) == 8
    assert answer["decisions"]["exit_4"] == 8


def test_an_import_that_is_killed_again_and_again_ends_as_one_that_was_not(
    updraft, checkpoint, tmp_path, wait_until
):
    whole, output, draft = (tmp_path / name for name in ("whole", "out", "out.import"))
    arguments = ["bundle", "import", checkpoint, "--exits", "1,3", "--split", "3"]
    done = updraft(*arguments, "--output", whole)
    assert done.returncode == 0, done.stderr.decode()
    assert (
        b"split after layer 3, exits after 1, 3, 4: the norm and the head of layer 4" in done.stdout
    )
    assert b"updraft bundle train-exits" in done.stdout
    command = [_UPDRAFT, *map(str, arguments), "--output", str(output)]

    def kill_after(done):
        """Start, and kill as soon as a further step is done, whatever is being written then."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: process.poll() is not None or steps(draft) > done)
        process.kill()
        process.wait()

    kill_after(0)
    kill_after(steps(draft))
    # Where the last steps were quicker than we, it is there; half of it never is.
    if not output.exists():
        assert updraft(*arguments, "--output", output).returncode == 0
    assert open_bundle(output).fingerprint == open_bundle(whole).fingerprint
    assert not draft.exists()


def steps(draft):
    """Return how many steps of an import are done."""
    try:
        return len(json.loads((draft / "import.json").read_text())["steps"])
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--precision", "int3"],
            "precision 'int3' is unknown: choose from fp32, fp16, int8, int4",
        ),
        (["--split", "4"], "split 4 lies outside 1 to 3: the model has 4 layers"),
        (["--context", "100000"], "a context of 100000 is asked for, the model knows 192"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_written(
    refusal, checkpoint, tmp_path, options, message
):
    said = refusal("bundle", "import", checkpoint, "--output", tmp_path / "out", *options)
    assert message in said
    assert not any(tmp_path.iterdir())


def spoil(folder, what):
    """Make a checkpoint wrong in one of the ways in which downloads and mix-ups do."""
    weights = folder / "model.safetensors"
    if what == "half a file":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif what == "not a number":
        content = bytearray(weights.read_bytes())
        content[-4:] = b"\0\0\xc0\x7f"
        weights.write_bytes(content)
    elif what == "unknown architecture":
        path = folder / "config.json"
        config = json.loads(path.read_text()) | {"architectures": ["Gemma2ForCausalLM"]}
        path.write_text(json.dumps(config))
    elif what == "other tokenizer":
        shutil.copy(shipped_bundle() / "tokenizer.json", folder)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("half a file", "it is truncated"),
        ("not a number", "holds NaN: the checkpoint is damaged"),
        ("unknown architecture", "what is missing: embeddings scaled by √width"),
        ("other tokenizer", "it belongs to another model"),
    ],
)
def test_a_checkpoint_that_is_wrong_is_refused_and_leaves_nothing(
    refusal, copied, tmp_path, what, message
):
    spoil(copied, what)
    assert message in refusal("bundle", "import", copied, "--output", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_machine_without_onnx_says_how_to_get_it(refusal, checkpoint, tmp_path):
    (tmp_path / "onnx.py").write_text("raise ImportError(\"No module named 'onnx'\")")
    arguments = ["bundle", "import", checkpoint, "--output", tmp_path / "out"]
    said = refusal(*arguments, PYTHONPATH=str(tmp_path))
    assert said == "No module named 'onnx': pip install 'updraft[cpu,import]'"


def test_a_place_that_cannot_be_written_is_said(refusal, checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    said = refusal("bundle", "import", checkpoint, "--output", tmp_path / "file" / "out")
    assert "cannot be written: Not a directory" in said
