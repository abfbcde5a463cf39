"""`updraft device predict` as a user runs it."""

import json


def predicted(updraft, *arguments):
    done = updraft("device", "predict", *arguments, "--json")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_slower_modes_and_deeper_exits_take_longer(updraft):
    fast = predicted(updraft, "jetson-orin-nano-8")["answers"]
    slow = predicted(updraft, "jetson-orin-nano-8", "--mode", "7W")["answers"]
    assert list(fast) == ["2", "3", "8"]
    times = [answer["latency_ms"]["value"] for answer in fast.values()]
    assert times == sorted(times)
    for top, answer in fast.items():
        assert answer["latency_ms"]["value"] < slow[top]["latency_ms"]["value"]
        assert answer["energy_j"]["low"] < answer["energy_j"]["value"] < answer["energy_j"]["high"]


def test_tables_are_for_people(updraft):
    done = updraft("device", "predict", "raspberry-pi-5", COLUMNS="120")
    shown = done.stdout.decode()
    assert "code in fp32 on Raspberry Pi 5" in shown
    assert "by its data sheet" in shown
    assert "a look at an exit" in shown


def test_an_unknown_mode_names_those_that_there_are(refusal):
    said = refusal("device", "predict", "jetson-orin-nano-8", "--mode", "MAXN")
    assert "'MAXN' is none of jetson-orin-nano-8: choose from 25W, 15W, 7W, MAXN_SUPER" in said


def test_answers_beyond_the_context_are_refused(refusal):
    said = refusal("device", "predict", "raspberry-pi-5", "--prompt-tokens", "10000")
    assert "10000 + 32 tokens do not fit the context of 'code', 512 tokens" in said
