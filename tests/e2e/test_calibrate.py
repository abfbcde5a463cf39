"""`updraft bundle calibrate` as a user runs it."""

import hashlib
import json
import shutil

import pytest

from updraft.models.bundle import open_bundle
from updraft.models.guarantee import guarantee_for

PROMPTS = [f"for item{n} in items[{n * n}]:\n    " for n in range(80)]
TOKENS = ("--max-tokens", 4)


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """A copy of the tiny bundle, with prompts that it is tested on."""
    copy = shutil.copytree(tiny_bundle.folder, tmp_path / "copy")
    (copy / "prompts.jsonl").write_text('{"prompt": "def tested(x):"}\n')
    return copy


@pytest.fixture
def prompts(tmp_path):
    """Return a function that writes a prompt file."""

    def write(*texts):
        path = tmp_path / "mine.jsonl"
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        return path

    return write


def test_guarantees_are_stored_in_the_bundle(updraft, folder, prompts, tiny_bundle):
    path = prompts(*PROMPTS)
    asked = ["--epsilon", 0.1, "--epsilon", 0.05, "--wire", "fp32", *TOKENS]
    done = updraft("bundle", "calibrate", folder, "--prompts", path, *asked, "--json")
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["fingerprint"] == tiny_bundle.fingerprint
    assert [guarantee["epsilon"] for guarantee in found["guarantees"]] == [0.05, 0.1]
    bundle = open_bundle(folder)
    assert bundle.fingerprint == tiny_bundle.fingerprint
    for told in found["guarantees"]:
        trials = told.pop("trials")
        kept = guarantee_for(bundle, told["epsilon"], "fp32", 0.0)
        assert told == kept.model_dump(mode="json")
        assert kept.commit_from in [trial["threshold"] for trial in trials]
        assert kept.prompts_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (kept.sequences, kept.max_tokens) == (len(PROMPTS), 4)


def test_the_same_prompts_give_the_same_guarantee(updraft, folder, prompts):
    asked = ["--prompts", prompts(*PROMPTS), "--epsilon", 0.1, "--temperature", 0.8, *TOKENS]
    first, second = (updraft("bundle", "calibrate", folder, *asked, "--json") for _ in range(2))
    assert first.returncode == 0, first.stderr.decode()
    assert first.stdout == second.stdout
    assert len(open_bundle(folder).manifest.guarantees) == 1


def test_a_copy_is_calibrated_where_the_bundle_is_to_stay_as_it_is(
    updraft, refusal, folder, prompts, tmp_path
):
    before = (folder / "manifest.json").read_bytes()
    asked = ["--prompts", prompts(*PROMPTS), "--epsilon", 0.1, *TOKENS, "--output"]
    done = updraft("bundle", "calibrate", folder, *asked, tmp_path / "new")
    assert done.returncode == 0, done.stderr.decode()
    assert f"{tmp_path}/new: stored, " in done.stdout.decode()
    assert (folder / "manifest.json").read_bytes() == before
    assert len(open_bundle(tmp_path / "new").manifest.guarantees) == 1
    assert "exists already" in refusal("bundle", "calibrate", folder, *asked, tmp_path / "new")


def test_inspect_shows_what_is_guaranteed(updraft, folder, prompts):
    asked = ["--prompts", prompts(*PROMPTS), "--epsilon", 0.1, *TOKENS]
    done = updraft("bundle", "calibrate", folder, *asked, COLUMNS="300")
    line = next(text for text in done.stdout.decode().splitlines() if text.startswith("ε = 0.1, "))
    assert "δ = 0.05, fp16 wire, temperature 0, up to 4 tokens: λ = " in line
    inspected = updraft("bundle", "inspect", folder, COLUMNS="300").stdout.decode()
    assert f"\nguarantee: {line}" in inspected
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["guarantees"][0]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(manifest))
    inspected = updraft("bundle", "inspect", folder, COLUMNS="300").stdout.decode()
    assert f"\nvoid guarantee: {line}" in inspected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epsilon", "0"], "epsilon 0 lies outside 0 to 1, both excluded"),
        (["--epsilon", "0.1", "--epsilon", "1"], "epsilon 1 lies outside 0 to 1"),
        (["--epsilon", "-0.1"], "epsilon -0.1 lies outside"),
        (["--epsilon", "nan"], "epsilon nan lies outside"),
        (["--delta", "1.5"], "delta 1.5 lies outside 0 to 1, both excluded"),
        (["--wire", "fp8"], "wire codec 'fp8' is unknown: choose from fp32, fp16"),
        (["--temperature", "-1"], "temperature -1.0 lies outside 0 to 100"),
        (["--max-tokens", "0"], "max_tokens 0: at least 1 is needed"),
        (["--max-tokens", "60"], "calibration prompt 1 has "),
        (["--epsilon", "0.001"], "2995 sequences are needed even if no committed token is wrong"),
    ],
)
def test_a_wrong_option_is_named(refusal, folder, prompts, options, message):
    before = (folder / "manifest.json").read_bytes()
    asked = ["--prompts", prompts(*PROMPTS), *TOKENS, *options]
    assert message in refusal("bundle", "calibrate", folder, *asked)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "mine.jsonl: holds no prompt"),
        (b"\n", "mine.jsonl: holds no prompt"),
        (b'{"prompt": "a"}\n{"prompt":\n', "mine.jsonl:2: not JSON"),
        (b'{"prompt": "\xff"}', "mine.jsonl:1: not valid UTF-8"),
        (b'{"prompt": ""}', "the prompt is empty"),
        (b'{"prompt": "x"}\n{"prompt": "def tested(x):"}', "calibration prompt 2 is also one"),
    ],
)
def test_a_prompt_file_that_is_wrong_is_refused(refusal, folder, prompts, content, message):
    path = prompts()
    path.write_bytes(content)
    assert message in refusal("bundle", "calibrate", folder, "--prompts", path, *TOKENS)


def test_a_prompt_file_that_cannot_be_read_is_named(refusal, folder, tmp_path):
    missing = tmp_path / "gone.jsonl"
    message = refusal("bundle", "calibrate", folder, "--prompts", missing)
    assert message == f"{missing}: cannot be read: No such file or directory"


def test_the_test_prompts_of_the_shipped_bundle_are_not_calibrated_on(refusal):
    from updraft.models.shipped import shipped_bundle

    message = refusal("bundle", "calibrate", "--prompts", shipped_bundle() / "prompts.jsonl")
    assert message.startswith("calibration prompt 1 is also one of the bundle's test prompts")
