"""`updraft fleet`, and the configuration of fleets, as a user meets them."""

import json

import pytest

from updraft.cloud.config import CloudConfig
from updraft.cloud.fleet.config import FleetLimits
from updraft.cloud.fleet.opening import open_fleet
from updraft.config import load_config
from updraft.edge.config import EdgeConfig
from updraft.errors import ConfigError


@pytest.fixture(scope="module")
def empty_fleet(daemon_of, tmp_path_factory):
    """A coordinator of a fleet that nobody is in."""
    config = tmp_path_factory.mktemp("fleet") / "cloud.toml"
    config.write_text("[fleet]\nenabled = true\n")
    daemon = daemon_of("cloud", "serve", "--listen", "127.0.0.1:0", "--config", config)
    yield daemon.address
    log = daemon.close()
    assert "Traceback" not in log, log


def test_an_empty_fleet_is_shown_as_it_is(updraft, empty_fleet):
    listed = updraft("fleet", "list", "--cloud", empty_fleet, "--json")
    assert json.loads(listed.stdout) == []
    plan = json.loads(updraft("fleet", "plan", "--cloud", empty_fleet, "--json").stdout)
    assert (plan["version"], plan["selected"], plan["answering"]) == (0, [], 0)
    assert b"0 of 0 nodes are on" in updraft("fleet", "plan", "--cloud", empty_fleet).stdout


def test_who_asks_an_empty_fleet_is_told_so(refusal, empty_fleet):
    said = refusal("fleet", "ask", "--cloud", empty_fleet, "--prompt", "x")
    assert "no node is in the fleet" in said


def test_a_coordinator_without_a_fleet_says_so(refusal, coordinator):
    assert "not found" in refusal("fleet", "list", "--cloud", coordinator.address).lower()


def test_an_address_is_needed_and_must_be_safe(refusal):
    assert "give --cloud HOST:PORT" in refusal("fleet", "list")
    assert "not a loopback address" in refusal("fleet", "list", "--cloud", "192.0.2.1:7600")
    assert "127.0.0.1:1" in refusal("fleet", "list", "--cloud", "127.0.0.1:1")


def test_a_node_needs_a_coordinator(refusal, tmp_path):
    config = tmp_path / "edge.toml"
    config.write_text("[node]\nenabled = true\n")
    assert "a node needs a coordinator" in refusal("edge", "serve", "--config", config)


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (CloudConfig, "[fleet]\nbeat_intervall_ms = 4\n", "did you mean 'beat_interval_ms'?"),
        (CloudConfig, "[fleet]\nbeat_interval_ms = 4\n", "greater than or equal to 50"),
        (EdgeConfig, '[node]\nname = "a b"\n', "node.name"),
        (EdgeConfig, "[node]\nconcurrency = 0\n", "node.concurrency"),
        (EdgeConfig, "[node.quality]\ncode = 1.5\n", "node.quality.code"),
        (EdgeConfig, "[node.speed]\nper_token_ms = 1\n", "node.speed.prompt_j"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, schema, text, said):
    config = tmp_path / "wrong.toml"
    config.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(schema, config, {}, "NONE")
    assert said in str(refused.value)
    assert str(config) in str(refused.value)


@pytest.mark.parametrize("key", ["gate", "budgets"])
def test_a_file_that_is_not_there_is_named(bundle, tmp_path, key):
    limits = FleetLimits(enabled=True, **{key: tmp_path / "gone"})
    with pytest.raises(ConfigError, match=r"gone: .*cannot be read"):
        open_fleet(limits, bundle)
