"""Guarantees: certified on prompts, kept in the manifest, void when the model is another."""

import json

import pytest

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import open_bundle, write_manifest
from updraft.models.guarantee import (
    PROMPTS_FILE,
    Calibrator,
    Terms,
    guarantee_for,
    keep_guarantees,
    refuse_test_prompts,
)
from updraft.models.manifest import Calibration
from updraft.models.recipes.corpus import part_of
from updraft.models.risk import GRID
from updraft.models.shipped import shipped_bundle

SHA256 = "ab" * 32
PROMPTS = [f"for item{n} in items[{n * n}]:\n    " for n in range(70)]


def calibrator(bundle, prompts=PROMPTS, **terms):
    terms = Terms(**{"max_tokens": 4, **terms})
    return Calibrator(bundle, prompts, SHA256, terms, lambda stage, done, total: None)


def confident(bundle, intercept=8.0):
    """Make the split's exit sure of everything, however often it is wrong."""
    manifest = bundle.manifest
    sure = Calibration(slope=1.0, intercept=intercept)
    exits = [
        entry.model_copy(update={"calibration": sure}) if entry.layer == manifest.split else entry
        for entry in manifest.exits
    ]
    write_manifest(bundle.folder, manifest.model_copy(update={"exits": exits}))
    return open_bundle(bundle.folder)


@pytest.fixture
def bundle(folder):
    return open_bundle(folder)


@pytest.fixture
def guarantee(bundle):
    return calibrator(bundle).certify(0.05, 0.05)[0]


def test_what_is_certified_says_all_that_it_was_about(bundle, guarantee):
    assert (guarantee.epsilon, guarantee.delta, guarantee.sequences) == (0.05, 0.05, len(PROMPTS))
    assert (guarantee.wire, guarantee.temperature, guarantee.max_tokens) == ("fp16", 0.0, 4)
    assert guarantee.prompts_sha256 == SHA256
    assert guarantee.fingerprint == bundle.fingerprint
    assert guarantee.exit == bundle.manifest.edge_exits[-1]
    assert guarantee.p_value <= 0.05


def test_the_laxest_lambda_before_the_first_failure_is_certified(bundle):
    """Exit 2 of random weights is nearly always wrong: commitment ends the tests."""
    found = calibrator(bundle)
    guarantee, trials = found.certify(0.05, 0.05)
    assert [trial.threshold for trial in trials] == list(GRID[: len(trials)])
    assert [trial.p_value <= 0.05 for trial in trials] == [True] * (len(trials) - 1) + [False]
    assert guarantee.commit_from == trials[-2].threshold
    assert guarantee.risk == trials[-2].risk == found.losses(guarantee.commit_from).mean()


def test_a_second_epsilon_runs_nothing_again(bundle):
    stages = []
    found = Calibrator(
        bundle,
        PROMPTS,
        SHA256,
        Terms(max_tokens=4),
        lambda stage, done, total: stages.append(stage),
    )
    found.certify(0.06, 0.05)
    ran = len(stages)
    found.certify(0.05, 0.05)
    assert len(stages) == ran


def test_too_few_sequences_are_told_how_many_it_takes(bundle):
    with pytest.raises(RequestError, match=r"on 58 sequences.* 59 sequences are needed even if"):
        calibrator(bundle, PROMPTS[:58]).certify(0.05, 0.05)
    assert calibrator(bundle, PROMPTS[:59]).certify(0.05, 0.05)


def test_an_exit_that_is_wrong_where_it_is_surest_is_told_so(bundle):
    with pytest.raises(RequestError, match="more prompts will not help"):
        calibrator(confident(bundle, 13.0)).certify(0.05, 0.05)


def test_a_kept_guarantee_is_found_and_the_fingerprint_stays(bundle, guarantee):
    kept = keep_guarantees(bundle, [guarantee])
    assert kept.fingerprint == bundle.fingerprint
    assert guarantee_for(kept, 0.05, "fp16", 0.0) == guarantee
    assert guarantee_for(kept, 0.07, "fp16", 0.0) == guarantee


def test_of_several_the_nearest_below_is_taken(bundle, guarantee):
    strict, lax = (guarantee.model_copy(update={"epsilon": e}) for e in (0.01, 0.04))
    kept = keep_guarantees(bundle, [guarantee, strict, lax])
    assert guarantee_for(kept, 0.045, "fp16", 0.0) == lax
    assert guarantee_for(kept, 0.02, "fp16", 0.0) == strict


def test_a_new_guarantee_takes_the_place_of_the_old_one_alone(bundle, guarantee):
    other = guarantee.model_copy(update={"wire": "fp32"})
    newer = guarantee.model_copy(update={"delta": 0.1})
    keep_guarantees(bundle, [guarantee, other])
    kept = keep_guarantees(bundle, [newer])  # the manifest is read again
    assert kept.manifest.guarantees == [newer, other]


@pytest.mark.parametrize("ask", [(0.04, "fp16", 0.0), (0.05, "fp32", 0.0), (0.05, "fp16", 0.7)])
def test_what_was_not_calibrated_is_refused_with_the_command(bundle, guarantee, ask):
    kept = keep_guarantees(bundle, [guarantee])
    epsilon, wire, temperature = ask
    command = (
        f"updraft bundle calibrate {bundle.folder} --prompts FILE.jsonl --epsilon {epsilon} "
        f"--wire {wire} --temperature {temperature:g}"
    )
    with pytest.raises(RequestError) as refused:
        guarantee_for(kept, *ask)
    assert "no guarantee was calibrated for it" in str(refused.value)
    assert str(refused.value).endswith(command)


def test_calibration_prompts_of_the_bundle_are_named(bundle):
    (bundle.folder / "bounded.jsonl").write_text("")
    with pytest.raises(RequestError, match=r"--prompts \S+/copy/bounded.jsonl --epsilon 0.05"):
        guarantee_for(bundle, 0.05, "fp16", 0.0)


def test_another_model_voids_it(bundle, guarantee):
    foreign = guarantee.model_copy(update={"fingerprint": "0" * 64})
    with pytest.raises(BundleError, match="has changed while it was calibrated"):
        keep_guarantees(bundle, [foreign])
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"guarantees": [foreign]}))
    with pytest.raises(RequestError, match="is void, the model or its exit is another"):
        guarantee_for(open_bundle(bundle.folder), 0.05, "fp16", 0.0)


def test_another_calibration_of_the_exit_voids_it_and_the_next_clears_it_away(bundle, guarantee):
    keep_guarantees(bundle, [guarantee])
    changed = confident(open_bundle(bundle.folder))
    assert changed.fingerprint == bundle.fingerprint
    with pytest.raises(RequestError, match="is void, the model or its exit is another"):
        guarantee_for(changed, 0.05, "fp16", 0.0)
    fresh = guarantee.model_copy(
        update={"exit": changed.manifest.edge_exits[-1], "temperature": 1.0}
    )
    assert keep_guarantees(changed, [fresh]).manifest.guarantees == [fresh]


def test_a_codec_that_the_bundle_lacks_is_refused(bundle):
    write_manifest(bundle.folder, bundle.manifest.model_copy(update={"codecs": ["fp32"]}))
    with pytest.raises(RequestError, match="wire codec 'fp16' is not one of bundle 'tiny'"):
        calibrator(open_bundle(bundle.folder))


def test_a_prompt_that_does_not_fit_is_named(bundle):
    with pytest.raises(RequestError, match=r"calibration prompt 2 has .* context of 64"):
        calibrator(bundle, [PROMPTS[0], "x " * 40], max_tokens=8)


@pytest.mark.parametrize("prompt", ["def f(x):", "a" * 40, "# " + "a" * 50 + "b"])
def test_a_prompt_that_is_tested_on_is_refused(prompt):
    with pytest.raises(RequestError, match="calibration prompt 2 is also one of"):
        refuse_test_prompts(["other", prompt], ["more", "def f(x):", "a" * 50])


@pytest.mark.parametrize("prompt", ["def g(x):", "a" * 39, "(x)", "# def f(x):"])
def test_a_prompt_that_merely_resembles_one_is_taken(prompt):
    refuse_test_prompts(["other", prompt], ["more", "def f(x):", "a" * 50])


@pytest.mark.parametrize("epsilon", [0.02, 0.05])
@pytest.mark.parametrize("wire", ["fp16", "int8"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_shipped_bundle_comes_with_guarantees(epsilon, wire, temperature):
    shipped = open_bundle(shipped_bundle())
    guarantee = guarantee_for(shipped, epsilon, wire, temperature)
    assert (guarantee.epsilon, guarantee.delta, guarantee.max_tokens) == (epsilon, 0.05, 64)
    assert guarantee.prompts_sha256 == shipped.manifest.files[PROMPTS_FILE].sha256
    assert guarantee.risk < epsilon
    assert guarantee.committed_share > 0.1


def test_the_shipped_prompts_come_from_calibration_files_and_are_not_tested_on():
    shipped = open_bundle(shipped_bundle())
    mine, tests = (
        [json.loads(line) for line in shipped.path(name).read_text("utf-8").splitlines()]
        for name in (PROMPTS_FILE, "prompts.jsonl")
    )
    assert {part_of(row["path"]) for row in mine} == {"calibration"}
    assert not {row["path"] for row in mine} & {row["path"] for row in tests}
    refuse_test_prompts([row["prompt"] for row in mine], [row["prompt"] for row in tests])
