"""`updraft demo`: one command, every mode side by side."""

import json

_TOKENS = 8


def test_the_totals_of_the_modes_fit_together(updraft):
    done = updraft("demo", "--json", "--prompts", 2, "--max-tokens", _TOKENS)
    assert done.returncode == 0, done.stderr.decode()
    totals = {total["mode"]: total for total in json.loads(done.stdout)}
    assert set(totals) == {"standalone", "threshold", "lossless", "cloud"}
    for total in totals.values():
        assert 0 < total["tokens"] <= 2 * _TOKENS
        assert sum(total["decisions"].values()) == total["tokens"]
    assert totals["cloud"]["same_tokens"] == totals["cloud"]["tokens"]
    assert totals["lossless"]["same_tokens"] == totals["lossless"]["tokens"]
    assert totals["cloud"]["decisions"]["cloud"] == totals["cloud"]["tokens"]
    assert totals["standalone"]["cloud_calls"] == totals["standalone"]["uplink_bytes"] == 0
    assert totals["threshold"]["cloud_calls"] == totals["threshold"]["decisions"]["cloud"]


def test_the_table_names_every_mode_and_the_colours(updraft):
    done = updraft("demo", "--prompts", 1, "--max-tokens", _TOKENS, COLUMNS="200")
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr.decode()
    assert all(
        mode in said for mode in ("standalone", "threshold", "lossless", "cloud", "colours: ")
    )
