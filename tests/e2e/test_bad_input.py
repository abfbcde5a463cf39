"""Bad input: one clear message each, exit code 1, no traceback."""

import json
import shutil

import pytest

from updraft.models.shipped import shipped_bundle

_GENERATE = ("generate", "--prompt", "x = ")


@pytest.fixture
def prompt_file(tmp_path):
    """Return a function that writes a prompt file."""

    def write(content):
        path = tmp_path / "prompts.jsonl"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mode", "turbo"], "mode 'turbo' is unknown: choose from full, standalone, cloud"),
        (["--theta", "-0.1"], "theta -0.1 lies outside 0 to 2"),
        (["--theta", "2.5"], "theta 2.5 lies outside 0 to 2"),
        (["--theta", "nan"], "theta nan lies outside 0 to 2"),
        (["--theta", "inf"], "theta inf lies outside 0 to 2"),
        (["--temperature", "-1"], "temperature -1.0 lies outside 0 to 100"),
        (["--temperature", "nan"], "temperature nan lies outside 0 to 100"),
        (["--max-tokens", "0"], "max_tokens 0: at least 1 is needed"),
        (["--max-tokens", "1000000"], "at most "),
        (["--seed", "-1"], "seed -1 lies outside"),
        (["--seed", str(2**63)], f"seed {2**63} lies outside"),
        (["--stop", ""], "none of them empty"),
        (["--wire", "fp8"], "wire codec 'fp8' is unknown: choose from fp32, fp16"),
        (["--mode", "cloud"], "mode 'cloud' needs a coordinator: give --cloud HOST:PORT"),
        (["--cloud", "nowhere"], "'nowhere' is no address: HOST:PORT is expected"),
        (["--cloud", "127.0.0.1:99999"], "'127.0.0.1:99999' is no address"),
        (["--cloud", "192.0.2.1:7600"], "192.0.2.1:7600 is not a loopback address"),
        (["--prompt-file", "also.jsonl"], "give either --prompt TEXT or --prompt-file"),
    ],
)
def test_a_wrong_option_of_generate_is_named(refusal, options, message):
    assert message in refusal(*_GENERATE, *options)


def test_an_empty_prompt_is_refused(refusal, prompt_file):
    assert "the prompt is empty" in refusal("generate", "--prompt", "")
    assert "the prompt is empty" in refusal(
        "generate", "--prompt-file", prompt_file(b'{"prompt":""}')
    )
    assert "give either --prompt" in refusal("generate")


def test_a_prompt_beyond_the_context_is_refused(refusal, manifest):
    limit = manifest["architecture"]["context_length"]
    message = refusal("generate", "--prompt", "word + " * limit)
    assert f"the context holds {limit}: shorten it by at least" in message


def test_a_giant_prompt_is_refused(refusal, prompt_file):
    line = json.dumps({"prompt": "x" * (1 << 20) + "y"}).encode()
    message = refusal("generate", "--prompt-file", prompt_file(line))
    assert message == "the prompt has 1048577 bytes, at most 1048576 are taken"


def test_more_tokens_than_fit_are_refused_with_what_fits(refusal, manifest):
    limit = manifest["architecture"]["context_length"]
    message = refusal(*_GENERATE, "--max-tokens", limit)
    assert f"together more than the context of {limit}" in message


def test_an_argument_that_is_no_utf_8_is_refused(refusal):
    message = refusal("generate", "--prompt", b"x = \xff\xfe")
    assert message == "the prompt is not valid UTF-8 at character 4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "prompts.jsonl: holds no prompt"),
        (b"\n \n", "prompts.jsonl: holds no prompt"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}\n', "prompts.jsonl:2: not valid UTF-8"),
        (b'{"prompt": "a"}\n{"prompt":\n', "prompts.jsonl:2: not JSON"),
        (b"[" * 100_000, "prompts.jsonl:1: not JSON"),
        (b'["a"]', 'prompts.jsonl:1: an object with a text "prompt" is expected'),
        (b'{"prompt": 7}', 'prompts.jsonl:1: an object with a text "prompt" is expected'),
        (b'{"prompt": "\\ud800"}', "the prompt is not valid UTF-8 at character 0"),
    ],
)
def test_a_prompt_file_that_is_wrong_is_refused_with_its_line(
    refusal, prompt_file, content, message
):
    assert message in refusal("generate", "--prompt-file", prompt_file(content))


def test_a_prompt_file_that_cannot_be_read_is_named(refusal, tmp_path):
    missing = tmp_path / "gone.jsonl"
    expected = f"{missing}: cannot be read: No such file or directory"
    assert refusal("generate", "--prompt-file", missing) == expected
    assert "Is a directory" in refusal("generate", "--prompt-file", tmp_path)


@pytest.mark.parametrize("command", [_GENERATE, ("cloud", "serve"), ("edge", "serve")])
def test_a_bundle_that_is_missing_is_named(refusal, tmp_path, command):
    where = ["--listen", "127.0.0.1:0"] if "serve" in command else []
    message = refusal(*command, *where, "--bundle", tmp_path / "gone")
    assert message == f"{tmp_path}/gone: there is no such bundle folder"


@pytest.mark.parametrize("command", [_GENERATE, ("cloud", "serve"), ("edge", "serve")])
def test_a_tampered_bundle_is_refused(refusal, tmp_path, manifest, command):
    folder = tmp_path / "bundle"
    shutil.copytree(shipped_bundle(), folder)
    graph = folder / manifest["partitions"][-1]["file"]
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    where = ["--listen", "127.0.0.1:0"] if "serve" in command else []
    message = refusal(*command, *where, "--bundle", folder)
    assert message.startswith(f"{graph}: changed since it was built")
    assert message == refusal("bundle", "verify", folder)


def test_a_coordinator_with_another_model_is_refused(refusal, tiny_bundle, coordinator):
    beside = ["--bundle", tiny_bundle.folder, "--cloud", coordinator.address]
    message = refusal(*_GENERATE, "--max-tokens", 2, *beside)
    assert f"the agent runs model '{tiny_bundle.fingerprint[:12]}'" in message
    assert "give both the same bundle" in message


@pytest.mark.parametrize("daemon", ["cloud", "edge"])
def test_a_port_in_use_is_named(refusal, coordinator, daemon):
    message = refusal(daemon, "serve", "--listen", coordinator.address)
    assert message.startswith(f"cannot listen on {coordinator.address}: ")
    assert "--listen" in message


@pytest.mark.parametrize(
    ("daemon", "remedy"), [("cloud", "no [tls] files are configured"), ("edge", "allow_remote")]
)
def test_a_daemon_does_not_listen_beyond_loopback_unprotected(refusal, daemon, remedy):
    message = refusal(daemon, "serve", "--listen", "0.0.0.0:0")
    assert "0.0.0.0:0 is not a loopback address" in message
    assert remedy in message


@pytest.mark.parametrize(
    ("daemon", "text", "message"),
    [
        ("cloud", "[sessions]\nmax_session = 3\n",
         ":2: sessions.max_session: unknown key; did you mean 'max_sessions'?"),
        ("edge", "# mine\n\n[cloud]\nadress = 'x'\n",
         ":4: cloud.adress: unknown key; did you mean 'address'?"),
        ("cloud", "[sessions]\nmemory_mib = 0\n", ":2: sessions.memory_mib: "),
        ("edge", "[decoding]\ntheta = 3\n", ":2: decoding.theta: "),
        ("edge", "[decoding\n", ":1: not TOML: "),
    ],
)  # fmt: skip
def test_a_wrong_configuration_is_refused_with_its_line(refusal, tmp_path, daemon, text, message):
    path = tmp_path / "updraft.toml"
    path.write_text(text)
    found = refusal(daemon, "serve", "--listen", "127.0.0.1:0", "--config", path)
    assert found.startswith(f"{path}{message}")


def test_a_wrong_environment_variable_is_named(refusal):
    variables = {"UPDRAFT_CLOUD__SESSIONS__MAX_SESSIONS": "many"}
    message = refusal("cloud", "serve", "--listen", "127.0.0.1:0", **variables)
    assert message.startswith(f"environment variable {next(iter(variables))}: ")


def test_an_unknown_command_or_option_is_refused(updraft):
    for arguments in (["launch"], ["generate", "--promt", "x"], ["generate", "--theta", "high"]):
        done = updraft(*arguments)
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert done.stdout == b""
