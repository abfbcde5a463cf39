"""Configuration files: every fault at once, each with its place and what to write instead."""

import re
from pathlib import Path

import pytest
from pydantic import Field

from updraft.config import Section, load_config, override
from updraft.config.endpoint import TlsFiles
from updraft.errors import ConfigError


class Limits(Section):
    max_sessions: int = Field(default=64, gt=0)
    idle_expiry_s: float = Field(default=120, gt=0)


class Daemon(Section):
    listen: str = "127.0.0.1:7600"
    drain_s: float = Field(default=5, ge=0)
    limits: Limits = Limits()
    tls: TlsFiles | None = None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "daemon.toml"


def load(path, environment=None):
    return load_config(Daemon, path, environment or {}, "UPDRAFT")


def faults(path, environment=None):
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    assert str(caught.value) == "\n".join(caught.value.faults)
    return caught.value.faults


def test_without_a_file_the_defaults_hold():
    assert load(None) == Daemon()


def test_a_file_sets_what_it_names_and_leaves_the_rest(path):
    path.write_text('listen = "127.0.0.1:1"\n[limits]\nmax_sessions = 3\n')
    assert load(path) == Daemon(listen="127.0.0.1:1", limits=Limits(max_sessions=3))


def test_every_fault_is_named_at_once_with_its_line_and_key(path):
    path.write_text(
        "# a comment\n"
        "drain_s = -1\n"
        "listne = 'x'\n"
        "\n"
        "[limits]\n"
        "idle_expiry_s = 0  # never\n"
        "max_sessions = 'many'\n"
    )
    found = sorted(faults(path))
    assert [fault.split(": ")[:2] for fault in found] == [
        [f"{path}:2", "drain_s"],
        [f"{path}:3", "listne"],
        [f"{path}:6", "limits.idle_expiry_s"],
        [f"{path}:7", "limits.max_sessions"],
    ]
    assert found[0].endswith("greater than or equal to 0, found -1")
    assert found[1].endswith("unknown key; did you mean 'listen'?")
    assert found[3].endswith("found 'many'")


def test_the_same_key_in_another_section_is_not_taken_for_it(path):
    path.write_text("drain_s = 1\n[limits]\nmax_sessions = 2\ndrain_s = 3\n")
    assert faults(path) == [
        f"{path}:4: limits.drain_s: unknown key; known are max_sessions, idle_expiry_s"
    ]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[limit]\n", ":1: limit", "did you mean 'limits'?"),
        ("[limits]\nmax_session = 3\n", ":2: limits.max_session", "did you mean 'max_sessions'?"),
        ("zzz = 1\n", ":1: zzz", "known are listen, drain_s, limits, tls"),
        (
            "[tls]\ncertificate = 'c'\nkey = 'k'\nauthority = 'a'\nautority = 'a'\n",
            ":5: tls.autority",
            "did you mean 'authority'?",
        ),
    ],
)
def test_a_misspelt_key_gets_a_suggestion(path, text, place, hint):
    path.write_text(text)
    assert faults(path) == [f"{path}{place}: unknown key; {hint}"]


def test_keys_that_a_section_lacks_are_all_named(path):
    path.write_text("[tls]\nkey = 'k'\n")
    assert [fault.split(": ")[1:3] for fault in faults(path)] == [
        ["tls.certificate", "Field required"],
        ["tls.authority", "Field required"],
    ]


def test_environment_variables_override_the_file(path):
    path.write_text("drain_s = 1\n[limits]\nmax_sessions = 2\nidle_expiry_s = 3\n")
    environment = {
        "UPDRAFT__DRAIN_S": "4.5",
        "UPDRAFT__LIMITS__MAX_SESSIONS": "6",
        "UPDRAFT__TLS__KEY": "k",
        "UPDRAFT__TLS__CERTIFICATE": "c",
        "UPDRAFT__TLS__AUTHORITY": "a",
        "UPDRAFTER__DRAIN_S": "7",
        "UPDRAFT_DRAIN_S": "8",
    }
    assert load(path, environment) == Daemon(
        drain_s=4.5,
        limits=Limits(max_sessions=6, idle_expiry_s=3),
        tls=TlsFiles(key=Path("k"), certificate=Path("c"), authority=Path("a")),
    )


def test_an_environment_value_that_is_wrong_is_named_by_its_variable(path):
    path.write_text("[limits]\nmax_sessions = 2\n")
    found = faults(path, {"UPDRAFT__LIMITS__MAX_SESSIONS": "0", "UPDRAFT__LISTNE": "x"})
    assert sorted(found) == [
        "environment variable UPDRAFT__LIMITS__MAX_SESSIONS: limits.max_sessions: "
        "Input should be greater than 0, found '0'",
        "environment variable UPDRAFT__LISTNE: listne: unknown key; did you mean 'listen'?",
    ]


@pytest.mark.parametrize("text", ["limits = 3\n", ""])
def test_an_environment_variable_inside_a_value_is_named(path, text):
    path.write_text(text)
    [fault] = faults(path, {"UPDRAFT__LIMITS": "3", "UPDRAFT__LIMITS__MAX_SESSIONS": "4"})
    assert fault == (
        "environment variable UPDRAFT__LIMITS__MAX_SESSIONS: 'limits' is a value, no section"
    )


def test_a_file_that_is_not_there_is_named(path):
    assert faults(path) == [f"{path}: cannot be read: No such file or directory"]


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    assert faults(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


@pytest.mark.parametrize("content", [b"listen = \n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_named(path, content):
    path.write_bytes(content)
    [fault] = faults(path)
    assert re.match(rf"{re.escape(str(path))}(:\d+)?: not TOML: ", fault)


def test_a_loaded_configuration_cannot_be_changed():
    config = load(None)
    with pytest.raises(ValueError, match="frozen"):
        config.listen = "other"


def test_options_of_a_command_take_the_place_of_what_was_read():
    settings = override(load(None), {"listen": "127.0.0.1:9", "limits.max_sessions": 3})
    assert settings == Daemon(listen="127.0.0.1:9", limits=Limits(max_sessions=3))


def test_an_option_that_was_not_given_changes_nothing(path):
    path.write_text("listen = '127.0.0.1:8'\n[limits]\nmax_sessions = 5\n")
    read = load(path)
    assert override(read, {"listen": None, "limits.max_sessions": None}) == read
