"""Files of budgets: read as they are meant, or every fault at once with its line."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.devices.budgets.budget import LINES, UNITS, Budget, Line, Origin
from updraft.devices.budgets.lines import DEFAULTS
from updraft.devices.budgets.quantity import EXAMPLES, show
from updraft.devices.budgets.read import parse_budgets, read_budgets
from updraft.devices.catalog.entries import load_catalog
from updraft.errors import ConfigError

_CATALOG = load_catalog()
_EXAMPLE = Path(__file__).parents[3] / "examples/budgets.toml"


def read(text):
    return parse_budgets(text, "b.toml", _CATALOG)


def faults(text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    return caught.value.faults


def test_lines_are_read_with_their_unit_action_window_and_place():
    file = read(
        '[fleet]\nenergy_per_day = "20 kJ"\n\n[group.out]\n'
        'average_power = { limit = "5 W", window = "5 min", on_exhausted = "standalone" }\n\n'
        '[device.cam]\ninherits = "out"\nmodel = "jetson-orin-nano-8"\nfirst_token = "1.5 s"\n'
    )
    assert file.budget("cam") == Budget(
        "cam",
        {
            "energy_per_day": Line(
                "energy_per_day", 20_000, "refuse", Origin("b.toml", 2, "fleet")
            ),
            "average_power": Line(
                "average_power", 5, "standalone", Origin("b.toml", 5, "group.out"), 300
            ),
            "first_token": Line(
                "first_token", 1500, "shallower_exits", Origin("b.toml", 10, "device.cam")
            ),
        },
        "jetson-orin-nano-8",
    )
    assert str(file.budget("cam").lines["average_power"].origin) == "b.toml:5 [group.out]"


def test_the_nearest_of_device_groups_and_fleet_wins_line_by_line():
    file = read(
        '[fleet]\nmemory = "1 GB"\nper_token = { limit = "90 ms", on_exhausted = "refuse" }\n'
        'energy_per_request = "9 J"\nuplink_per_day = "9 MB"\n'
        '[group.far]\nper_token = "80 ms"\nenergy_per_request = "8 J"\nuplink_per_day = "8 MB"\n'
        '[group.near]\ninherits = "far"\nenergy_per_request = "7 J"\nuplink_per_day = false\n'
        '[device.a]\ninherits = "near"\n'
        '[device.b]\ninherits = "near"\nenergy_per_request = "6 J"\nuplink_per_day = "6 MB"\n'
        "[device.c]\n"
    )
    limits = {
        name: {line: found.limit for line, found in file.budget(name).lines.items()}
        for name in file.devices
    }
    assert limits == {
        "a": {"memory": 1e9, "per_token": 80, "energy_per_request": 7},
        "b": {"memory": 1e9, "per_token": 80, "energy_per_request": 6, "uplink_per_day": 6e6},
        "c": {"memory": 1e9, "per_token": 90, "energy_per_request": 9, "uplink_per_day": 9e6},
    }
    # A line holds as a whole: the group's says nothing of what then happens, so the default holds.
    assert file.budget("a").lines["per_token"].on_exhausted == "shallower_exits"
    assert file.budget("c").lines["per_token"].on_exhausted == "refuse"


def test_the_fleet_is_what_each_gets_and_the_total_what_all_get_together():
    file = read('[fleet]\naverage_power = "5 W"\n[total]\naverage_power = "40 W"\n[device.a]\n')
    assert file.fleet().limit("average_power") == 5
    assert file.budget("a").limit("average_power") == 5
    assert file.total().limit("average_power") == 40
    assert file.budget("a").limit("memory") is None


@pytest.mark.parametrize(
    "text",
    [
        'device.cam.memory = "2 GB"',
        '[device]\ncam = { memory = "2 GB" }',
        '[device.cam.memory]\nlimit = "2 GB"',
        '[ "device" . cam ]\n"memory" = \'2 GB\'',
        '[device.cam]\r\nmemory.limit = "2 GB"\r\n',
    ],
)
def test_toml_may_be_written_in_any_way(text):
    line = read(text).budget("cam").lines["memory"]
    assert line.limit == 2e9
    assert line.origin.line == next(
        number for number, row in enumerate(text.split("\n"), 1) if "memory" in row
    )


def test_an_empty_file_limits_nothing():
    file = read("")
    assert file.fleet().lines == file.total().lines == file.devices == {}


def test_a_device_that_is_not_in_the_file_is_an_error_with_the_closest_name():
    file = read("[device.cam-1]\n[device.cam-2]\n")
    for name, hint in [("cam1", "did you mean 'cam-1'?"), ("x", "known are cam-1, cam-2")]:
        with pytest.raises(ConfigError) as caught:
            file.budget(name)
        assert caught.value.faults == [f"b.toml: there is no device {name!r}; {hint}"]


def test_every_fault_is_named_at_once_with_its_line():
    found = faults(
        'energy_per_day = "3 kJ"\n'
        "[fleet]\n"
        "energy_per_day = 20 kJ\n"
        'energy_per_request = "20 W"\n'
        'energy_per_dya = "20 kJ"\n'
        "memory = true\n"
        "cloud_tokens_per_hour = 500\n"
        'first_token = { limit = "300 ms", on_exhausted = "queue" }\n'
        'average_power = { limit = "5 W", window = "60 J", on_exhausted = "refus" }\n'
        'inherits = "x"\n'
        "[total]\n"
        'per_token = "3 ms"\n'
        'energy_per_day = { limit = "10 kJ", on_exhausted = "queue" }\n'
        "[group.a]\n"
        'inherits = "b"\n'
        "[group.b]\n"
        'inherits = "a"\n'
        'model = "x86"\n'
        'uplink_per_day = "-3 MB"\n'
        "[device]\n"
        'energy_per_day = "1 kJ"\n'
        '[device."cam 1"]\n'
        'model = "jetson-orin-nano-9"\n'
        'inherits = "aa"\n'
        'average_power = { limti = "3 W", window = "9 days" }\n'
        'memory = "1 GB"\n'
        'memory = "2 GB"\n'
        "[devices.x]\n"
        "[group.c]\n"
        'inherits = "cam 1"\n'
    )
    assert found == [
        "b.toml:1: energy_per_day: unknown key; belongs into a section, as [device.<name>]",
        'b.toml:3: not TOML: text stands in quotes: write "20 kJ"',
        'b.toml:4: fleet.energy_per_request: "20 W" is a power where an energy is needed, as '
        '"20 kJ"',
        "b.toml:5: fleet.energy_per_dya: unknown key; did you mean 'energy_per_day'?",
        'b.toml:6: fleet.memory: true is no limit; write one, as "2 GB"',
        'b.toml:7: fleet.cloud_tokens_per_hour: "500" has no unit; write "500 tokens"',
        "b.toml:8: fleet.first_token.on_exhausted: 'queue' does not keep first_token: waiting "
        "makes the first token later still; choose from standalone, shallower_exits, refuse",
        "b.toml:9: fleet.average_power.on_exhausted: 'refus' is no action; did you mean 'refuse'?",
        'b.toml:9: fleet.average_power.window: "60 J" is an energy where a time is needed, as '
        '"300 ms"',
        "b.toml:10: fleet.inherits: does not belong here: only a group or a device can have it",
        "b.toml:12: total.per_token: unknown key; adds up to nothing; all devices together have "
        "energy_per_day, average_power, uplink_per_day, cloud_tokens_per_hour",
        "b.toml:13: total.energy_per_day.on_exhausted: is for devices; what all spend together is "
        "planned, by who serves",
        "b.toml:15: group.a.inherits: goes in a circle: a (line 15) inherits b (line 17) "
        "inherits a",
        "b.toml:18: group.b.model: does not belong here: only a device can have it",
        'b.toml:19: group.b.uplink_per_day: "-3 MB" must lie above 0',
        "b.toml:21: device.energy_per_day: a device needs a name: write this below [device.<name>]",
        "b.toml:23: device.\"cam 1\".model: there is no model 'jetson-orin-nano-9'; did you mean "
        "'jetson-orin-nano-8'?",
        "b.toml:24: device.\"cam 1\".inherits: there is no group 'aa'; did you mean 'a'?",
        "b.toml:25: device.\"cam 1\".average_power.limti: unknown key; did you mean 'limit'?",
        'b.toml:25: device."cam 1".average_power.window: "9 days" has an unknown unit; known are '
        "ms, us, µs, μs, s, min, h",
        'b.toml:25: device."cam 1".average_power: limit is missing; write { limit = "15 W", … }',
        "b.toml:27: not TOML: this is written already in line 26",
        "b.toml:28: devices: unknown key; did you mean 'device'?",
        "b.toml:30: group.c.inherits: there is no group 'cam 1'; that is a device; only groups "
        "are inherited from",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '[fleet]\nenergy_per_request = "3 kJ"\n[device.a]\nenergy_per_day = "2 kJ"\n',
            "b.toml:2: fleet.energy_per_request: 3 kJ for one request is more than "
            "energy_per_day, 2 kJ (b.toml:4 [device.a]), lets device.a spend in a day",
        ),
        (
            '[total]\nuplink_per_day = "1 MB"\n[group.g]\nuplink_per_day = "2 MB"\n'
            '[device.a]\ninherits = "g"\n[device.b]\ninherits = "g"\n',
            "b.toml:4: group.g.uplink_per_day: 2 MB for one device is more than 1 MB for all "
            "together (b.toml:2 [total])",
        ),
        (
            '[fleet]\nmemory = "9 GiB"\n[device.a]\nmodel = "jetson-orin-nano-8"\n',
            "b.toml:2: fleet.memory: 9 GiB is more than Jetson Orin Nano 8 GB, device.a, has: "
            "8 GiB",
        ),
        (
            "[fleet]\nmemory = false\n",
            "b.toml:2: fleet.memory: nothing is inherited here that false could lift; write one, "
            'as "2 GB"',
        ),
        (
            '[device.a]\naverage_power = { limit = "3 W", window = "10 ms" }\n',
            "b.toml:2: device.a.average_power.window: '10 ms' lies outside 1 s to 24 h",
        ),
        (
            "[device.a]\nmemory = [1]\n",
            "b.toml:2: device.a.memory: a number with a unit in quotes is needed; found [1]",
        ),
        ("fleet = 3\n", "b.toml:1: fleet: a section is needed, [fleet]; found 3"),
        (
            "[[device]]\n",
            "b.toml:1: device: each device is a section [device.<name>]; found [{}]",
        ),
        ('[device.""]\n', "b.toml:1: device.\"\": '' is no name that can be typed and read"),
        (
            "[device.a]\ninherits = 3\n",
            "b.toml:2: device.a.inherits: a name in quotes is needed; found 3",
        ),
        (
            '[group.a]\ninherits = "a"\n',
            "b.toml:2: group.a.inherits: goes in a circle: a (line 2) inherits a",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_fault(text, found):
    assert faults(text) == [found]


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    missing, large, binary = tmp_path / "no.toml", tmp_path / "large.toml", tmp_path / "b.toml"
    large.write_text("#" * (1 << 20) + "\n")
    binary.write_bytes(b"[fleet]\nx = '\xff'\n")
    for path, said in [
        (missing, f"{missing}: cannot be read: No such file or directory"),
        (tmp_path, f"{tmp_path}: cannot be read: Is a directory"),
        (large, f"{large}: is larger than 1 MiB: no file of budgets"),
        (binary, f"{binary}:2: not TOML: this is no UTF-8 text"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_budgets(path, _CATALOG)
        assert caught.value.faults == [said]


def test_the_example_can_be_read():
    file = read_budgets(_EXAMPLE, _CATALOG)
    assert {file.budget(name).model for name in file.devices} <= _CATALOG.keys()


@given(st.dictionaries(st.sampled_from(LINES), st.integers(1, 1000), min_size=1))
def test_what_is_written_is_what_is_read(limits):
    # One request may not take more than the whole day.
    limits["energy_per_request"] = limits.get("energy_per_day", 1)
    rows = [f'{name} = "{show(limit, UNITS[name])}"' for name, limit in limits.items()]
    budget = read("\n".join(["[device.a]", *rows])).budget("a")
    assert {name: line.limit for name, line in budget.lines.items()} == limits
    assert all(line.on_exhausted == DEFAULTS[name] for name, line in budget.lines.items())


_WORDS = st.sampled_from(
    [
        *("fleet", "total", "group", "device", "a", "b", '"c d"', "inherits", "model"),
        *("limit", "on_exhausted", "window", "energy_per_day", "average_power", "memory"),
        *("energy_per_request", "first_token", '""', "'\\'", '"\\u0000"', "0"),
    ]
)
_VALUES = st.recursive(
    st.sampled_from(
        [f'"{example}"' for example in EXAMPLES.values()]
        + ['"a"', '"refuse"', '"queue"', '"1e9 J"', '"-1 W"', "3", "1e999", "nan", "true", "false"]
        + ["1979-05-27", '"', "20 kJ", '"""\n"""', "0x" + "f" * 5000, '"x86"', '"\\U0010FFFF W"']
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda found: f"[{', '.join(found)}]")
        | st.lists(st.tuples(_WORDS, inner), max_size=3).map(
            lambda found: "{" + ", ".join(f"{key} = {value}" for key, value in found) + "}"
        )
    ),
    max_leaves=4,
)
_KEYS = st.lists(_WORDS, min_size=1, max_size=3).map(".".join)
_ROWS = st.one_of(
    st.builds("{} = {}".format, _KEYS, _VALUES),
    st.builds("[{}]".format, _KEYS),
    st.builds("[[{}]]".format, _KEYS),
    st.text(max_size=10),
)


@settings(max_examples=300)
@given(st.lists(_ROWS, max_size=12).map("\n".join))
def test_any_text_is_a_file_of_budgets_or_a_list_of_faults(text):
    try:
        file = read(text)
    except ConfigError as error:
        assert error.faults
        for fault in error.faults:
            place = re.match(r"b\.toml:(\d+): ", fault)
            assert place, fault
            assert 1 <= int(place[1]) <= text.count("\n") + 1
    else:
        for name in file.devices:
            for line in file.budget(name).lines.values():
                assert line.limit > 0
                assert (line.window_s is not None) == (line.name == "average_power")


@given(st.binary(max_size=60))
def test_any_bytes_are_a_file_of_budgets_or_a_list_of_faults(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "b.toml"
    path.write_bytes(content)
    try:
        read_budgets(path, _CATALOG)
    except ConfigError as error:
        assert error.faults
