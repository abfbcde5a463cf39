"""`updraft optimize` as a user runs it: problems, tables, certificates, and what is wrong."""

import csv
import json
import sys
from pathlib import Path

import pytest

from updraft.cli import quality_file
from updraft.cli.main import main

_FLEET = Path(__file__).parents[2] / "examples" / "fleet.toml"
_KEYS = [
    "status",
    "selected",
    "assignment",
    "objective",
    "upper_bound",
    "gap",
    "headroom_gap",
    "spent",
    "binding",
    "reason",
    "seconds",
    "certificate",
]
_ROUTERBENCH = (
    "sample_id,prompt,eval_name,small,large,small|model_response,large|model_response,"
    "small|total_cost,large|total_cost,oracle_model_to_route_to\n"
    'a.1,"Two lines,\nand a comma",mmlu,0.5,1,A,B,0.25,1,large\n'
    "a.2,One line,gsm8k,0.75,1,A,B,0.25,1,large\n"
)
_LONG = (
    "prompt,model,quality,cost\n"
    "a.1,small,0.5,0.25\na.1,large,1,1\na.2,large,1,1\na.2,small,0.75,0.25\n"
)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file of a test."""

    def written(name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return written


@pytest.fixture
def problem():
    """A document: two experts, two prompts, energy for one expert."""
    return {
        "experts": [{"id": "a", "energy_j": 3}, {"id": "b", "energy_j": 4}],
        "prompts": [{"id": "p", "category": "code"}, {"id": "q", "category": "chat"}],
        "quality": [[0.5, 0.25], [0.25, 1]],
        "budgets": {"energy_j": 5},
    }


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs the command in this process, for that is faster."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["updraft", "optimize", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return run


@pytest.fixture
def answer(command):
    """Return a function that runs a command and reads its JSON."""

    def run(*arguments, code=0):
        found, out, err = command(*arguments, "--json")
        assert found == code, err
        return json.loads(out)

    return run


@pytest.fixture
def refused(command):
    """Return a function that runs a command that must not understand, and gives its message."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("error: ")
        assert err.count("error: ") == 1
        return err.removeprefix("error: ")

    return run


def changed(problem, *keys):
    """Put the last of `keys` at the place in a document that the others lead to."""
    *path, last, value = keys
    place = problem
    for key in path:
        place = place[key]
    place[last] = value
    return problem


def test_select_prints_the_documented_object(answer, write, problem):
    found = answer("select", write("problem.json", problem))
    assert list(found) == _KEYS
    assert found["status"] == "optimal"
    assert found["selected"] == ["b"]
    assert found["objective"] == found["upper_bound"] == 1.25
    assert list(found["spent"]) == ["energy_j", "latency_ms", "resources"]
    assert found["spent"]["energy_j"] == 4
    assert found["assignment"] == {name: [{"expert": "b", "share": 1}] for name in ("p", "q")}
    assert found["binding"] == ["energy_j"]
    assert found["certificate"] is None


def test_select_prints_a_table(command):
    code, said, err = command("select", _FLEET)
    assert (code, err) == (0, "")
    assert "optimal: worth 38.87, and nothing is worth more\n" in said
    assert "rtx4090/qwen2.5-14b" in said


@pytest.mark.parametrize("solver", ["exact", "greedy", "pulp-cbc", "pulp-highs", "brute"])
def test_every_solver_keeps_the_budgets(answer, solver):
    found = answer("select", _FLEET, "--solver", solver)
    assert found["spent"]["energy_j"] <= 16000
    assert found["spent"]["resources"]["rtx4090_gib"] <= 24
    assert found["objective"] <= 38.87 + 1e-9 <= found["upper_bound"] + 2e-9
    if solver != "greedy":
        assert found["objective"] == pytest.approx(38.87)


def test_a_certificate_is_written_holds_and_is_refused_when_changed(answer, command, tmp_path):
    certificate = tmp_path / "certificate.json"
    found = answer("select", _FLEET, "--certificate", certificate)
    assert found["certificate"] == str(certificate)
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]
    assert answer("check", _FLEET, certificate)["holds"] is True
    assert ": holds\n" in command("check", _FLEET, certificate)[1]

    claimed = json.loads(certificate.read_text())
    claimed["upper_bound"] = claimed["objective"] = "39"
    certificate.write_text(json.dumps(claimed))
    verdict = answer("check", _FLEET, certificate, code=1)
    assert verdict["holds"] is False
    assert verdict["reason"]
    code, said, _ = command("check", _FLEET, certificate)
    assert code == 1
    assert ": does not hold: " in said


def test_a_certificate_of_a_table_is_checked_with_the_same_options(answer, write, tmp_path):
    table = write("table.csv", _ROUTERBENCH)
    options = ["--energy-j", "1.25", "--answer-cost-as", "energy_j"]
    certificate = tmp_path / "certificate.json"
    found = answer("select", table, *options, "--certificate", certificate)
    assert found["objective"] == pytest.approx(1.75)
    assert found["spent"]["energy_j"] == pytest.approx(1.25)
    assert answer("check", table, certificate, *options)["holds"] is True
    assert answer("check", table, certificate, "--energy-j", "0.5", *options[2:], code=1)


def test_what_no_selection_can_keep_is_told_with_exit_code_3(answer, command, write, problem):
    path = write("problem.json", changed(problem, "budgets", {"energy_j": 2}))
    found = answer("select", path, code=3)
    assert list(found) == _KEYS
    assert found["status"] == "infeasible"
    assert "energy_j" in found["reason"]
    code, said, _ = command("select", path)
    assert code == 3
    assert said.startswith("infeasible: ")


def test_budgets_of_zero_make_sense(answer, write, problem):
    problem["budgets"] = {"energy_j": 0}
    assert answer("select", write("problem.json", problem), code=3)["reason"]
    problem["experts"][0]["energy_j"] = 0
    assert answer("select", write("problem.json", problem))["selected"] == ["a"]


def test_toml_and_json_mean_the_same(answer, write, problem):
    toml = (
        "quality = [[0.5, 0.25], [0.25, 1]]\nbudgets = {energy_j = 5}\n"
        '[[experts]]\nid = "a"\nenergy_j = 3\n[[experts]]\nid = "b"\nenergy_j = 4\n'
        '[[prompts]]\nid = "p"\ncategory = "code"\n[[prompts]]\nid = "q"\ncategory = "chat"\n'
    )
    found = [
        answer("select", write("problem.json", problem)),
        answer("select", write("problem.toml", toml)),
    ]
    for one in found:
        del one["seconds"]
    assert found[0] == found[1]


def test_a_table_gives_the_qualities_in_any_order(answer, write, problem):
    del problem["quality"]
    path = write("problem.json", problem)
    table = write("q.csv", "prompt,more,b,a\nother,1,1,1\nq,0,1,0.25\np,0,0.25,0.5\n")
    assert answer("select", path, "--quality", table)["objective"] == 1.25
    del problem["prompts"]
    path = write("problem.json", problem)
    table = write("q.csv", "prompt,category,weight,b,a\nq,chat,3,1,0.25\np,code,1,0.25,0.5\n")
    assert answer("select", path, "--quality", table)["objective"] == 3.25


@pytest.mark.parametrize("content", [_ROUTERBENCH, _LONG])
def test_tables_of_routing_benchmarks_are_read(answer, write, content):
    table = write("table.csv", content)
    options = ["--answer-cost-as", "energy_j"]
    # The large model for one prompt; the budget pays for three quarters of the other answer.
    dear = answer("select", table, *options, "--energy-j", "2")
    cheap = answer("select", table, *options, "--energy-j", "0.5")
    free = answer("select", table)
    assert (dear["objective"], cheap["objective"], free["objective"]) == (2, 1.25, 2)


def test_frontier_writes_a_table_and_a_plot(command, tmp_path):
    pytest.importorskip("matplotlib")
    code, _, err = command("frontier", _FLEET, "--output", tmp_path / "out", "--points", "2")
    assert (code, err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "frontier.csv",
        "frontier.png",
    ]
    rows = list(csv.DictReader((tmp_path / "out" / "frontier.csv").read_text().splitlines()))
    assert {(row["axis"], row["share"]) for row in rows} == {
        (axis, share) for axis in ("energy", "delay") for share in ("0.5", "1.0")
    }
    quality = {(row["axis"], row["share"], row["method"]): float(row["quality"]) for row in rows}
    for (axis, share, _), worth in quality.items():
        assert worth <= quality[axis, share, "ours"] + 1e-9
    assert (tmp_path / "out" / "frontier.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("quality", 1, 0, float("nan")), 'row 2, column 1 (prompt "q", expert "a"): nan is not'),
        (("quality", 0, 1, -1), 'quality row 1, column 2 (prompt "p", expert "b"): -1 is not'),
        (("quality", 0, 1, None), '(prompt "p", expert "b"): null is not a number >= 0'),
        (("quality", 0, 1, 2**53), 'column 2 (prompt "p", expert "b"): 9007199254740992 is 2**53'),
        (("quality", 1, [1]), 'quality row 2 (prompt "q"): 1 numbers, but there are 2 experts'),
        (("quality", [[1, 2]]), "quality: 1 rows, but there are 2 prompts"),
        (("prompts", []), "prompts: there is none; at least one is needed"),
        (("prompts", 1, "id", "p"), 'prompt 2: the id "p" is that of prompt 1 already'),
        (("experts", 1, "id", "a"), 'expert 2: the id "a" is that of expert 1 already'),
        (("budgets", "latency_ms", {"cod": 1}), 'no prompt has this category; did you mean "code"'),
        (("budgets", "energy_j", float("-inf")), "budgets: energy_j: -inf is not a number >= 0"),
        (("quallity", 1), 'unknown key "quallity"; did you mean "quality"?'),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(refused, write, problem, keys, message):
    path = write("problem.json", changed(problem, *keys))
    said = refused("select", path, "--json")
    assert said.startswith(f"{path}: ")
    assert message in said


def test_a_problem_without_qualities_is_refused(refused, write, problem):
    del problem["quality"]
    assert "quality is missing" in refused("select", write("problem.json", problem))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", b'{"experts": [\n  {"id": "a",}]}', "p.json:2: column 14: not JSON: "),
        ("p.json", b'{"top_k": 1, "top_k": 2}', 'the key "top_k" stands twice in one object'),
        ("p.json", b'{\n"a": "\xff"}', "p.json:2: byte 7 is not valid UTF-8"),
        ("p.json", b"[" * 100_000, "p.json: not JSON: "),
        ("p.json", b"", "p.json:1: column 1: not JSON: "),
        ("p.json", b"[1]", "p.json: a JSON object is expected at the top"),
        ("p.toml", b"a = 1\nb = = 2\n", "p.toml: not TOML: Invalid value (at line 2, column 5)"),
        ("p.yaml", b"a: 1\n", "p.yaml: what it holds is unknown: name it .json, .toml or .csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(refused, write, name, content, message):
    assert message in refused("select", write(name, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "q.csv: empty; a header is expected in line 1"),
        (b"prompt,a,b\n", "q.csv: no prompt below the header"),
        (b"prompt;a;b\np;1;1\n", 'q.csv:1: one column only, "prompt;a;b"; commas separate'),
        (b"name,a,b\np,1,1\n", 'q.csv:1: the header begins with "name"; known are'),
        (b"prompt,a,a\np,1,1\n", 'q.csv:1: column "a" stands there twice'),
        (b"prompt,a,b\np,1\nq,1,1\n", "q.csv:2: 2 cells, but the header has 3"),
        (b"prompt,a,b\np,1,1\nq,nan,1\n", 'q.csv:3: column 2 ("a"): nan is not a number >= 0'),
        (b"prompt,a,b\np,1,-0.5\n", 'q.csv:2: column 3 ("b"): -0.5 is not a number >= 0'),
        (b"prompt,a,b\np,1,much\n", 'q.csv:2: column 3 ("b"): "much" is not a number >= 0'),
        (b"prompt,a,b\np,,1\n", 'q.csv:2: column 2 ("a"): it is empty'),
        (b"prompt,a,b\np,1,9007199254740993\n", 'column 3 ("b"): 9007199254740993 is 2**53'),
        (b"prompt,a,b\np,1,1\np,1,1\n", 'q.csv:3: prompt "p" stands in line 2 already'),
        (b"prompt,a,c\np,1,1\nq,1,1\n", 'q.csv: no expert "b"; '),
        (b"prompt,a,b\np,1,1\nqq,1,1\n", 'q.csv: no prompt "q"; did you mean "qq"?'),
        (b"prompt,a,b\n\xff,1,1\n", "q.csv:2: byte 1 is not valid UTF-8"),
        (b"\x7fELF\0\0\0\0", "q.csv:1: a zero byte; this is no text"),
        (b'prompt,a,b\np,1,1\n"q,1,1\n', "q.csv:3: not CSV: "),
        (b"prompt," + b"x" * (5 << 20), "q.csv:1: a line of 4 MiB or more; is this CSV?"),
        (b"\n" * 2000, "q.csv:1001: more than 1,000 empty lines; is this CSV?"),
        (b"prompt,model,quality\np,a,1\nq,a,1\np,b,1\n", 'no row of prompt "q" and model "b"'),
        (b"prompt,model,quality\np,a,1\np,a,1\n", 'q.csv:3: prompt "p" and model "a" stand toge'),
        (b"sample_id,a,b,a|total_cost\np,1,1,1\n", 'q.csv:1: no column "b|total_cost", though'),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(refused, write, problem, content, message):
    path = write("problem.json", problem)
    assert message in refused("select", path, "--quality", write("q.csv", content))


@pytest.mark.parametrize(
    ("name", "most"), [("q.csv", "256 MiB"), ("p.json", "256 MiB"), ("p.toml", "16 MiB")]
)
def test_a_gigabyte_is_refused_before_it_is_read(refused, tmp_path, name, most):
    path = tmp_path / name
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    said = refused("select", path)
    assert said.startswith(f"{path}: 1,024 MiB is too large, {most} are read at most: ")


@pytest.mark.parametrize(
    ("limit", "content", "message"),
    [
        ("_MOST_CELLS", "prompt,a,b\np,1,1\nq,1,1\nr,1,1\n", "q.csv:4: more than 4 cells, the "),
        (
            "_MOST_ANSWERS",
            _LONG,
            "q.csv:6: more than 4 answers, the most that is read in this form",
        ),
    ],
)
def test_a_table_of_more_cells_than_fit_is_refused(
    refused, write, monkeypatch, limit, content, message
):
    monkeypatch.setattr(quality_file, limit, 4)
    assert message in refused("select", write("q.csv", content + "a.3,small,1,1\n"))


def test_a_table_of_nothing_but_faults_is_not_read_to_its_end(refused, write):
    said = refused("select", write("q.csv", "prompt,a,b\n" + "p\n" * 10_000)).splitlines()
    assert len(said) == 11
    assert said[-1].endswith("there may be more: the rest was not read")


def test_a_file_that_only_seems_small_is_read_no_further_than_allowed(refused, write, problem):
    said = refused("select", write("p.json", problem), "--quality", "/dev/zero")
    assert said.startswith("/dev/zero:1: a line of 4 MiB or more")


def test_a_wrong_option_is_named(refused, write, problem, tmp_path):
    path = write("problem.json", problem)
    assert "cannot be read: No such file" in refused("select", tmp_path / "none.json")
    assert "cannot be read: Is a directory" in refused("select", path, "--quality", tmp_path)
    assert "--time-limit-s nan: a number of" in refused("select", path, "--time-limit-s", "nan")
    assert "energy_j: nan is not a number" in refused("select", path, "--energy-j", "nan")
    assert "--answer-cost-as needs a table" in refused(
        "select", path, "--answer-cost-as", "energy_j"
    )
    table = write("q.csv", "prompt,a,b\np,1,1\nq,1,1\n")
    options = ["--quality", table, "--answer-cost-as", "energy_j"]
    assert "has no costs of answers" in refused("select", path, *options)


def test_a_certificate_that_is_no_json_is_refused(refused, write, problem):
    path = write("problem.json", problem)
    assert "c.json:1: column 2: not JSON" in refused("check", path, write("c.json", "{"))


def test_a_place_that_cannot_be_written_is_named_before_the_work(command, write, problem, tmp_path):
    path = write("problem.json", problem)
    nowhere = tmp_path / "nowhere" / "certificate.json"
    said = f"error: {nowhere}: cannot be written: there is no folder {nowhere.parent}\n"
    assert command("select", path, "--certificate", nowhere) == (1, "", said)
    assert command("frontier", path, "--output", path) == (1, "", f"error: {path}: is no folder\n")


def test_the_command_itself_refuses_without_a_traceback(updraft, write, problem, tmp_path):
    good = write("good.json", problem)
    bad = write("bad.json", changed(problem, "quality", 1, 0, float("nan")))
    giant = tmp_path / "giant.csv"
    with giant.open("wb") as stream:
        stream.truncate(1 << 30)
    for arguments, message in (
        (
            [bad],
            f'{bad}: quality row 2, column 1 (prompt "q", expert "a"): nan is not a number >= 0',
        ),
        ([good, "--quality", giant], f"{giant}: 1,024 MiB is too large, 256 MiB are read at most"),
    ):
        done = updraft("optimize", "select", *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.decode().startswith(f"error: {message}")
        assert b"Traceback" not in done.stderr
