"""`updraft budget` as a user runs it."""

import json
import shutil
from pathlib import Path

import pytest

from updraft.models.shipped import shipped_bundle

_EXAMPLE = Path(__file__).parents[2] / "examples/budgets.toml"
_BOARD = """[fleet]
average_power = "9 W"

[device.nano]  # on the roof
model = "jetson-orin-nano-8"
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "budgets.toml"
    path.write_text(_EXAMPLE.read_text())
    return path


@pytest.fixture
def board(tmp_path):
    """Write a file with some lines for one device."""

    def write(*lines):
        path = tmp_path / "board.toml"
        path.write_text(_BOARD + "\n".join([*lines, ""]))
        return path

    return write


def out(done, code=0):
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode()


def check(updraft, path, *arguments, code=0):
    done = updraft("budget", "check", path, "--device", "nano", "--json", *arguments)
    found = json.loads(out(done, code))
    return found, {entry["line"]: entry for entry in found["lines"]}


def test_show_says_what_holds_what_then_happens_and_where_it_stands(updraft, path):
    rows = out(updraft("budget", "show", path, "--device", "sorter", COLUMNS="120")).splitlines()
    cells = [row.split() for row in rows]
    assert ["sorter", "(jetson-orin-nx-16)"] in cells
    assert ["first_token", "300", "ms", "shallower_exits", "budgets.toml:7", "[fleet]"] in cells
    assert ["uplink_per_day", "not", "limited", "budgets.toml:33", "[device.sorter]"] in cells


def test_show_without_a_device_shows_the_whole_fleet(updraft, path):
    text = out(updraft("budget", "show", path))
    for title in ("each device that says nothing else", "all devices together", "gate-left"):
        assert title in text
    found = json.loads(out(updraft("budget", "show", path, "--json")))
    assert found["total"]["average_power"]["limit"] == 40
    right = {entry["device"]: entry for entry in found["devices"]}["gate-right"]
    assert right["model"] == "jetson-orin-nano-8"
    assert right["lines"]["energy_per_day"] == {
        "limit": 15000,
        "unit": "J",
        "shown": "15 kJ",
        "on_exhausted": "standalone",
        "window_s": None,
        "origin": {"file": str(path), "line": 28, "section": "device.gate-right"},
    }


def test_show_as_json_for_one_device_names_lifted_lines(updraft, path):
    found = json.loads(out(updraft("budget", "show", path, "--device", "sorter", "--json")))
    assert found["lines"]["uplink_per_day"]["limit"] is None
    assert found["lines"]["uplink_per_day"]["origin"]["line"] == 33


def test_set_changes_one_line_and_keeps_the_rest(updraft, path):
    path.chmod(0o640)
    before = path.read_text().splitlines()
    said = out(updraft("budget", "set", path, "--device", "gate-right", "energy_per_day", "12 kJ"))
    assert said == (
        f"gate-right: energy_per_day 12 kJ, then standalone ({path}:28 [device.gate-right]); "
        f"it was 15 kJ, then standalone ({path}:28 [device.gate-right])\n"
    )
    after = path.read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    [(old, new)] = changed
    assert new == old.replace("15 kJ", "12 kJ")
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in path.parent.iterdir()] == ["budgets.toml"]


def test_set_writes_through_a_link_and_takes_an_action(updraft, path, tmp_path):
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    done = updraft(
        "budget", "set", link, "--device", "cabinet", "energy_per_day", "9 kJ",
        "--on-exhausted", "shallower_exits",
    )  # fmt: skip
    out(done)
    assert link.is_symlink()
    row = 'energy_per_day = { limit = "9 kJ", on_exhausted = "shallower_exits" }'
    assert row in path.read_text()
    out(updraft("budget", "set", link, "--device", "cabinet", "first_token", "false"))
    assert "first_token = false" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gate-lef", "memory", "1 GB"), "there is no device 'gate-lef'; did you mean 'gate-left'"),
        (("sorter", "memroy", "1 GB"), "there is no line 'memroy'; did you mean 'memory'?"),
        (("sorter", "memory", "1 W"), 'memory: "1 W" is a power where a size is needed, as "2 GB"'),
    ],
)
def test_set_refuses_what_would_be_wrong_and_leaves_the_file(refusal, path, arguments, said):
    device, *rest = arguments
    before = path.read_bytes()
    assert said in refusal("budget", "set", path, "--device", device, *rest)
    assert path.read_bytes() == before


def test_set_refuses_what_contradicts_the_rest_of_the_file(updraft, path):
    before = path.read_bytes()
    done = updraft("budget", "set", path, "--device", "sorter", "average_power", "50 W")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "error: nothing was written, for this would be wrong:",
        f"{path}:34: device.sorter.average_power: 50 W for one device is more than 40 W for all "
        f"together ({path}:12 [total])",
    ]
    assert path.read_bytes() == before


def test_every_fault_of_a_file_is_shown_at_once(updraft, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('[fleet]\nmemory = 2 GB\nper_token = "3 W"\n[device.a]\nmodle = "x86"\n')
    done = updraft("budget", "show", path)
    assert (done.returncode, done.stdout) == (1, b"")
    rows = done.stderr.decode().removeprefix("error: ").splitlines()
    assert [row.split(": ")[0] for row in rows] == [f"{path}:2", f"{path}:3", f"{path}:5"]


def test_check_finds_a_budget_that_can_be_kept(updraft, board):
    found, lines = check(updraft, board('energy_per_request = "50 J"'), "--prompt-tokens", 64)
    assert found["predicted"] is True
    assert found["all_kept_by"] == found["asked"]
    assert (found["asked"]["mode"], found["asked"]["power_mode"]) == ("full", "25W")
    assert lines["energy_per_request"]["state"] == "met"
    assert lines["average_power"]["state"] == "met"  # it queues
    assert 0 < lines["average_power"]["enough_for"] < 1


def test_check_names_changes_that_would_keep_a_line_and_warns(updraft, board):
    _, lines = check(updraft, board('energy_per_request = "900 J"'))
    limit_j = 0.9 * lines["energy_per_request"]["expected"]["value"]
    path = board(f'energy_per_request = "{limit_j:.6f} J"')
    found, lines = check(updraft, path)
    line = lines["energy_per_request"]
    assert line["state"] == "change"
    assert line["times_limit"] == pytest.approx(1 / 0.9, rel=1e-3)
    changes = [remedy["change"] for remedy in line["remedies"]]
    assert changes[0] == "power mode 15W"
    assert any(change.startswith("mode standalone at exit 3 (") for change in changes)
    assert "generalist" in {remedy["bundle"] for remedy in line["remedies"]}
    assert found["all_kept_by"]["quality"] == 1
    done = updraft("budget", "check", path, "--device", "nano")
    assert "  power mode 15W\n" in out(done)
    assert "All figures are predicted from data sheets" in out(done)
    assert done.stderr.decode() == "warning: 1 of 3 lines are kept only by a change\n"


def test_check_exits_with_3_when_nothing_would_keep_a_line(updraft, board):
    found, lines = check(updraft, board('memory = "10 MB"'), code=3)
    assert (lines["memory"]["state"], lines["memory"]["remedies"]) == ("missed", [])
    assert found["all_kept_by"] is None
    done = updraft("budget", "check", board('memory = "10 MB"'), "--device", "nano")
    assert "is missed, whatever is changed" in out(done, 3)


def test_check_asks_for_the_number_of_requests_where_a_line_needs_it(updraft, board):
    path = board('energy_per_day = "100 J"')
    _, lines = check(updraft, path)
    assert lines["energy_per_day"]["state"] == "unknown"
    _, lines = check(updraft, path, "--requests-per-day", 1000)
    assert lines["energy_per_day"]["state"] == "change"
    assert 0 < lines["energy_per_day"]["enough_for"] < 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "ids"], "mode 'ids' cannot be predicted here; choose from full, lossless"),
        (["--new-tokens", "600"], "128 + 600 tokens do not fit the context of 'code', 512 tokens"),
        (["--requests-per-day", "inf"], "--requests-per-day inf: a finite number is needed"),
        (["--round-trip-ms", "inf"], "--round-trip-ms inf: a finite number is needed"),
        (["--coordinator", "x87"], "device 'x87' is not in the catalog; did you mean 'x86'?"),
    ],
)
def test_check_refuses_what_cannot_be_predicted(refusal, board, arguments, said):
    assert said in refusal("budget", "check", board(), "--device", "nano", *arguments)


def test_check_needs_to_know_what_the_device_is(refusal, tmp_path):
    path = tmp_path / "b.toml"
    path.write_text("[device.nano]\n")
    said = refusal("budget", "check", path, "--device", "nano")
    assert "what 'nano' is cannot be told" in said
    assert "`updraft device list` has the ids" in said


def test_a_bundle_without_prompts_is_judged_without_its_exits(updraft, board, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(shipped_bundle(), folder)
    (folder / "prompts.jsonl").unlink()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"].pop("prompts.jsonl", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = updraft("budget", "check", board(), "--device", "nano", "--bundle", folder)
    assert "kept" in out(done)
    assert b"warning: exits were left out" in done.stderr


def test_a_device_without_a_file_of_budgets_is_no_budget(refusal):
    said = refusal("generate", "--device", "nano", "--prompt", "x")
    assert "'nano' names a device of a file of budgets, and there is none" in said
    assert "--budget FILE" in said
