"""The benchmark of the experts: a quick run, and figures that must agree with each other."""

import json

import pytest

from updraft.benchmarks import experts


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a quick run writes."""
    folder = tmp_path_factory.mktemp("experts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["experts.py", "--quick", "--output", str(folder)])
        experts.main()
    page = (folder / "experts.md").read_text()
    return json.loads((folder / "experts.json").read_text()), page


def test_routes_are_ordered_as_they_must_be(found):
    routes = found[0]["routing"]
    forced = {name: row["forced"] for name, row in routes.items()}
    assert max(forced, key=forced.get) == "oracle of answers"
    assert forced["best single expert"] >= max(forced["generalist"], forced["random"])
    assert routes["oracle of domains"]["own_domain"] == 1.0
    assert routes["oracle of answers"]["best_expert"] == 1.0
    assert routes["generalist"]["own_domain"] == 0.0


def test_a_route_earns_what_its_experts_do_on_their_domains(found):
    prompts, routes = found[0]["prompts"], found[0]["routing"]
    own = [prompts[domain][domain]["4"]["forced"] for domain in prompts["generalist"]]
    assert routes["oracle of domains"]["forced"] == pytest.approx(sum(own) / len(own))


def test_the_page_shows_every_expert(found):
    figures, page = found
    assert all(f"| {name} |" in page for name in figures["prompts"])
    assert figures["gate_ms"]["median"] > 0
