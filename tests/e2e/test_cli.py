"""`updraft generate` and the commands around it, on good input."""

import json

import pytest

from updraft.models.shipped import shipped_bundle

_PROMPT = "import os\n\n\ndef main():\n    "
_KEYS = {
    "mode": str,
    "wire": str,
    "tokens": list,
    "text": str,
    "finish_reason": str,
    "decisions": dict,
    "cloud": {"calls", "tokens", "compute_s", "stalls", "judged", "agreed", "foreseen"},
    "bytes": {"up", "down"},
    "seconds": {"total", "edge", "cloud", "comm"},
    "cached_tokens": int,
    "energy": {"joules", "method"},
    "degraded": bool,
    "unverified_from": type(None),
}


def answers(done, *, quiet=True):
    assert done.returncode == 0, done.stderr.decode()
    assert not (quiet and done.stderr), done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    "mode", ["full", "standalone", "cloud", "threshold", "lossless", "ids", "auto"]
)
def test_generate_prints_the_documented_object(updraft, coordinator, manifest, mode):
    (answer,) = answers(
        updraft(
            "generate", "--prompt", _PROMPT, "--mode", mode, "--max-tokens", 8,
            "--cloud", coordinator.address, "--json",
        )
    )  # fmt: skip
    assert list(answer) == list(_KEYS)
    for key, kind in _KEYS.items():
        if isinstance(kind, set):
            assert set(answer[key]) == kind
        else:
            assert isinstance(answer[key], kind)
    exits = [f"exit_{exit_['layer']}" for exit_ in manifest["exits"]]
    assert list(answer["decisions"]) == [*exits, "cloud", "stop"]
    assert answer["mode"] == mode or mode == "auto"
    assert sum(answer["decisions"].values()) == len(answer["tokens"])


def test_a_prompt_file_gives_one_object_per_line(updraft, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    records = [{"prompt": text, "more": 1} for text in ("def f(", "# 漢字 🙂\n", "\u2028x = ")]
    ascii_lines = [json.dumps(record) for record in records]
    utf8_lines = [json.dumps(record, ensure_ascii=False) for record in records]
    prompts.write_text("\n".join([*ascii_lines, "", *utf8_lines]) + "\n")
    found = answers(updraft("generate", "--prompt-file", prompts, "--max-tokens", 3, "--json"))
    assert len(found) == 2 * len(records)
    texts = [answer["text"] for answer in found]
    assert texts[: len(records)] == texts[len(records) :]


def test_a_mode_is_chosen_by_whether_there_is_a_coordinator(updraft, coordinator):
    arguments = ["generate", "--prompt", _PROMPT, "--max-tokens", 1, "--json"]
    (alone,) = answers(updraft(*arguments))
    (together,) = answers(updraft(*arguments, "--cloud", coordinator.address))
    assert (alone["mode"], together["mode"]) == ("standalone", "lossless")


def test_plain_output_is_the_prompt_and_its_completion_unchanged(updraft):
    prompt = "\tx = d[1:key:2]  # :smile: [bold]no[/bold] 🙂" + " word" * 40 + "\n\n    "
    arguments = ["generate", "--prompt", prompt, "--max-tokens", 8]
    (answer,) = answers(updraft(*arguments, "--json"))
    done = updraft(*arguments)
    assert done.returncode == 0
    assert done.stdout.decode() == prompt + answer["text"] + "\n"
    assert done.stderr.decode().startswith(f"{len(answer['tokens'])} tokens in ")


def test_plain_output_says_that_the_coordinator_was_not_there(updraft):
    done = updraft("generate", "--prompt", "x = ", "--cloud", "127.0.0.1:1", "--max-tokens", 2)
    assert done.returncode == 0
    assert b"the coordinator was not there: unverified from position" in done.stderr


def test_json_output_says_that_the_coordinator_was_not_there(updraft):
    done = updraft(
        "generate", "--prompt", "x = ", "--mode", "cloud", "--cloud", "127.0.0.1:1",
        "--max-tokens", 2, "--json",
    )  # fmt: skip
    (answer,) = answers(done, quiet=False)
    assert done.stderr.startswith(b"going on without the coordinator: coordinator 127.0.0.1:1")
    assert answer["degraded"] is True
    assert answer["unverified_from"] > 0
    assert len(answer["tokens"]) == 2


def test_bundle_inspect_and_verify_name_the_fingerprint(updraft, manifest):
    verified = json.loads(updraft("bundle", "verify", "--json").stdout)
    inspected = json.loads(updraft("bundle", "inspect", "--json").stdout)
    for key in ("name", "split", "partitions", "files"):
        assert inspected[key] == manifest[key]
    for key in ("architecture", "tokenizer"):  # with what format 2 did not have
        assert manifest[key].items() <= inspected[key].items()
    assert verified["fingerprint"] == inspected["fingerprint"]
    assert verified["bytes"] == sum(entry["bytes"] for entry in manifest["files"].values())
    for command in ("inspect", "verify"):
        done = updraft("bundle", command, shipped_bundle(), COLUMNS="300")
        assert done.returncode == 0
        assert verified["fingerprint"] in done.stdout.decode()


def test_doctor_finds_all_that_this_machine_needs(updraft):
    done = updraft("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {"Python", "ONNX Runtime", "shipped bundle", "memory"} <= findings.keys()
    assert {finding["state"] for finding in findings.values()} <= {"ok", "note"}
    assert updraft("doctor").returncode == 0


def test_doctor_names_the_device_and_the_meter_that_answers_are_charged_by(updraft):
    done = updraft("doctor", "--json")
    findings = {finding["what"]: finding for finding in json.loads(done.stdout)}
    probed = json.loads(updraft("device", "probe", "--json").stdout)
    assert (probed["device"] or probed["model"]) in findings["device"]["found"]
    assert (findings["device"]["state"] == "ok") == (probed["device"] is not None)
    # Where a baseline is measured its watts move; the kind and the rail do not.
    kind = probed["decode"]["energy_method"].partition(":")[0]
    assert findings["meter"]["found"].partition(":")[0] == kind
    assert (findings["meter"]["state"] == "note") == (kind == "modelled")


@pytest.mark.parametrize("daemon", ["cloud", "edge"])
def test_the_schema_of_a_configuration_is_printed(updraft, daemon):
    schema = json.loads(updraft(daemon, "serve", "--print-schema").stdout)
    assert schema["additionalProperties"] is False
    assert "bundle" in schema["properties"]


@pytest.mark.parametrize("daemon", ["cloud", "edge"])
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_a_daemon_that_is_asked_to_end_ends_well(start_daemon, daemon, signal):
    import signal as signals

    running = start_daemon(daemon, "serve", "--listen", "127.0.0.1:0")
    running.process.send_signal(signals.Signals[signal])
    assert running.process.wait(60) == 0
    assert "Traceback" not in running.log


def test_without_arguments_the_commands_are_listed(updraft):
    done = updraft()
    assert all(name in done.stdout + done.stderr for name in (b"generate", b"doctor", b"demo"))
