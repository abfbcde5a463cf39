"""The shipped experts: they open and write, and their gate is worth having."""

import json
import shutil

import numpy as np
import pytest

from updraft.errors import BundleError, ProblemError
from updraft.models.bundle import open_bundle
from updraft.models.continuation import continue_prompts
from updraft.models.experts import GATE, PROMPTS, QUALITY, Family
from updraft.models.recipes.domains import DOMAINS
from updraft.models.recipes.mixture import EXPERTS
from updraft.models.recipes.quality import pool_by_domain
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.shipped import family, family_gate, shipped_family
from updraft.models.tokenizer import Tokenizer

# What ships is small enough to be fetched over a slow link.
_MOST_BYTES, _MOST_BUNDLE_BYTES = 8_500_000, 1_700_000


@pytest.fixture(scope="module")
def bundles():
    return {name: open_bundle(folder) for name, folder in family().items()}


@pytest.fixture(scope="module")
def prompts():
    return shipped_family().prompts()


@pytest.fixture(scope="module")
def continued(bundles, prompts):
    """How well each expert continues each held-out prompt at full depth: (prompts, experts)."""
    columns = []
    for bundle in bundles.values():
        model = Model.load(bundle, range(4), RuntimeOptions())
        columns.append(continue_prompts(model, Tokenizer(bundle), prompts)[4].forced)
    return np.stack(columns, axis=1)


@pytest.fixture
def copied(tmp_path):
    """The family's own files and one of its bundles, to be damaged."""
    folder = tmp_path / "family"
    folder.mkdir()
    for name in (GATE, PROMPTS, QUALITY):
        shutil.copy(shipped_family().folder / name, folder)
    return Family(folder)


def test_the_names_are_those_of_the_recipe(bundles):
    assert tuple(bundles) == EXPERTS == family_gate().experts
    assert [bundle.manifest.name for bundle in bundles.values()] == list(EXPERTS)


def test_all_share_one_tokenizer_and_differ_in_weights(bundles):
    tokenizers = {b.manifest.files[b.manifest.tokenizer.file].sha256 for b in bundles.values()}
    assert len(tokenizers) == 1
    assert len({bundle.fingerprint for bundle in bundles.values()}) == len(EXPERTS)


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_has_all_that_a_node_needs(bundles, name):
    bundle = bundles[name]
    manifest = bundle.manifest
    assert [entry.layer for entry in manifest.exits] == [2, 4]
    assert manifest.edge_exits[0].calibration is not None
    assert manifest.profile is not None
    assert "int8" in manifest.codecs
    assert {"README.md", "LICENSE-PSF.txt", "LICENSE-numpy.txt"} <= set(manifest.files)
    assert "NumPy Developers" in bundle.path("LICENSE-numpy.txt").read_text()
    assert sum(entry.bytes for entry in manifest.files.values()) < _MOST_BUNDLE_BYTES


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_writes_text(bundles, name):
    tokenizer = Tokenizer(bundles[name])
    sequence = Model.load(bundles[name], range(4), RuntimeOptions()).new_sequence()
    sequence.append(tokenizer.encode("def read(path):\n    "))
    for position in range(12):
        sequence.advance(4)
        sequence.append([sequence.propose(4, Sampling(), position).token])
    written = tokenizer.decode(sequence.inputs(0, sequence.length).tolist())
    assert written.startswith("def read(path):\n    ")
    assert len(written) > len("def read(path):\n    ")


def test_the_family_is_small():
    sizes = [path.stat().st_size for path in shipped_family().folder.rglob("*") if path.is_file()]
    assert sum(sizes) < _MOST_BYTES


def test_prompts_are_many_short_and_of_every_domain(prompts, bundles):
    tokenizer = Tokenizer(bundles["generalist"])
    assert len({row.prompt for row in prompts}) == len(prompts)
    for domain in DOMAINS:
        mine = [row for row in prompts if row.domain == domain]
        assert len(mine) >= 100
        for row in mine:
            assert 30 <= len(tokenizer.encode(row.prompt)) <= 100
            assert len(tokenizer.encode(row.completion)) >= 16


def test_the_measured_quality_is_what_is_measured_now(continued, prompts):
    shipped = shipped_family().quality("forced")
    assert tuple(shipped) == EXPERTS
    of = np.array([row.domain for row in prompts])
    for column, expert in enumerate(EXPERTS):
        for domain in DOMAINS:
            now = continued[of == domain, column].mean()
            # Kernels of other processors round differently.
            assert shipped[expert][domain] == pytest.approx(now, abs=0.02)


def test_deeper_is_better_and_every_measure_is_a_share():
    shallow, full = (shipped_family().quality("accuracy", layer) for layer in (2, 4))
    for expert in EXPERTS:
        for domain in DOMAINS:
            assert 0 < shallow[expert][domain] < full[expert][domain] < 1


def test_each_domain_is_best_known_by_its_expert():
    accuracy = shipped_family().quality("accuracy")
    for domain in DOMAINS:
        assert max(EXPERTS, key=lambda name: accuracy[name][domain]) == domain


def test_routing_by_the_gate_beats_every_single_expert(continued, prompts):
    gate = family_gate()
    rows = gate.text.encode([row.prompt for row in prompts])
    chosen = gate.route(rows, gate.mask(EXPERTS))
    routed = continued[np.arange(len(prompts)), chosen].mean()
    assert routed > continued.mean(axis=0).max()
    own = [EXPERTS[column] == row.domain for column, row in zip(chosen, prompts, strict=True)]
    assert np.mean(own) > 0.8


def test_a_family_without_its_bundles_says_so(copied):
    with pytest.raises(BundleError, match="no bundle for generalist, python, c, docs, logs"):
        copied.bundles()


def test_a_damaged_gate_is_told_apart_from_a_missing_one(copied):
    (copied.folder / GATE).write_bytes(b"PK nothing")
    with pytest.raises(ProblemError, match="damaged"):
        copied.gate()
    (copied.folder / GATE).unlink()
    with pytest.raises(BundleError, match=r"gate\.npz: cannot be read"):
        copied.gate()


def test_quality_names_every_exit(copied):
    experts = json.loads((copied.folder / QUALITY).read_text())["experts"]
    assert {layer for by in experts.values() for cell in by.values() for layer in cell} == {
        "2",
        "4",
    }


def test_pooling_keeps_what_experts_are_worth_and_shrinks_chance():
    rng = np.random.default_rng(0)
    domains = ["a", "b"] * 200
    skill = {"a": np.array([0.6, 0.4]), "b": np.array([0.3, 0.5])}
    quality = np.array([skill[name] + rng.normal(0, 0.05, 2) for name in domains])
    pooled = pool_by_domain(quality, domains)
    for name in skill:
        mine = [domain == name for domain in domains]
        assert pooled[mine].mean(axis=0) == pytest.approx(quality[mine].mean(axis=0))
        gaps = [np.ptp(rows[mine] @ [1, -1]) for rows in (pooled, quality)]
        assert gaps[0] < 0.3 * gaps[1]
    assert pooled.mean(axis=1) == pytest.approx(quality.mean(axis=1))
