"""The simulator of logs and settings: seeded, well-formed, and telling stories to their end."""

import configparser
import json
import re

import pytest

from updraft.config.toml import tomllib
from updraft.models.recipes.logs import write_log
from updraft.models.recipes.settings_files import write_settings

SEEDS = [f"t/{n}" for n in range(60)]


@pytest.fixture(scope="module")
def logs():
    return [write_log(seed, 60) for seed in SEEDS]


@pytest.mark.parametrize("write", [lambda seed: write_log(seed, 30), write_settings])
def test_the_seed_alone_decides(write):
    assert write("a") == write("a")
    assert write("a") != write("b")


def test_a_log_has_as_many_lines_as_asked_for(logs):
    for text in logs:
        assert text.endswith("\n")
        assert 60 <= text.count("\n") < 120


def test_json_logs_are_json(logs):
    found = [text for text in logs if text.startswith("{")]
    assert found
    for text in found:
        rows = [json.loads(line) for line in text.splitlines()]
        assert len({tuple(row) for row in rows}) == 1


def test_time_never_goes_back(logs):
    stamps = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+", re.MULTILINE)
    found = [stamps.findall(text) for text in logs]
    assert any(found)
    for times in found:
        assert times == sorted(times)


def test_a_lost_link_comes_back(logs):
    lost, restored = "lost, going on standalone", "restored after"
    assert any(lost in text for text in logs)
    for text in logs:
        assert text.count(lost) == text.count(restored)


def test_a_session_is_closed_by_who_opened_it(logs):
    opened = re.compile(r"session opened for user (\S+?)\(")
    closed = re.compile(r"session closed for user ([\w-]+)")
    for text in logs:
        assert opened.findall(text) == closed.findall(text)


def test_settings_are_what_their_form_says():
    forms = {"toml": 0, "ini": 0, "yaml": 0}
    for seed in SEEDS:
        text = write_settings(seed)
        if re.search(r"^\w[\w.-]*:$", text, re.MULTILINE):
            forms["yaml"] += 1
            continue
        try:
            tomllib.loads(text)
            forms["toml"] += 1
        except tomllib.TOMLDecodeError:
            parser = configparser.ConfigParser()
            parser.read_string(text)
            assert parser.sections()
            forms["ini"] += 1
    assert min(forms.values()) > 5
