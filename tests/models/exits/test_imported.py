"""Exits of checkpoints that are imported: trained ones where they are, shortlists, and the gate."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from updraft.cli.main import app
from updraft.errors import BundleError
from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
from updraft.models.exits.train import read_shortlist
from updraft.models.fidelity import Limits
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model

_tiny = runpy.run_path(str(Path(__file__).parents[1] / "tiny_checkpoints.py"))
_TOKENS = list(range(20, 50))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A checkpoint without exits, and its model."""
    folder = tmp_path_factory.mktemp("imported") / "llama"
    return folder, _tiny["write_checkpoint"]("llama", folder)


def _run(bundle, layer):
    """Return the states after a layer, and what its exit says of them."""
    layers = range(bundle.manifest.architecture.layers)
    model = Model.load(bundle, layers, RuntimeOptions(threads=1))
    sequence = model.new_sequence()
    sequence.append(_TOKENS)
    states = sequence.advance(layer)
    return states, model.heads.predict(layer, states).logits


def test_exits_of_ee_llm_keep_their_norms_and_outputs(llama, tmp_path):
    folder = shutil.copytree(llama[0], tmp_path / "trained")
    weights = load_file(folder / "model.safetensors")
    rng = torch.Generator().manual_seed(1)
    norm = torch.rand(64, generator=rng) + 0.5
    output = torch.randn(weights["lm_head.weight"].shape, generator=rng) / 8
    weights["model.layers.1.exit_norm.weight"] = norm
    weights["exit_output_layer.0.weight"] = output
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    said = {"exit_layer_nums": [2], "use_exit_norm": True, "untie_exit_output_weights": True}
    (folder / "config.json").write_text(json.dumps(config | said))
    bundle = import_checkpoint(folder, tmp_path / "bundle", ImportPlan(precision="fp32"))
    assert [entry.layer for entry in bundle.manifest.exits] == [2, 4]
    assert bundle.manifest.provenance["exits"] == "trained with the checkpoint (ee-llm)"
    with torch.no_grad():
        found = llama[1](torch.tensor([_TOKENS]), output_hidden_states=True)
        normed = torch.nn.functional.rms_norm(
            found.hidden_states[2][0], (64,), norm, llama[1].config.rms_norm_eps
        )
    np.testing.assert_allclose(_run(bundle, 2)[1], normed @ output.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(_run(bundle, 4)[1], found.logits[0], rtol=1e-4, atol=1e-4)


def test_layerskip_is_told_by_its_name(llama, tmp_path):
    folder = shutil.copytree(llama[0], tmp_path / "layerskip-tiny")
    plan = ImportPlan(precision="fp32", exits=(1, 3), split=3)
    bundle = import_checkpoint(folder, tmp_path / "bundle", plan)
    assert bundle.manifest.provenance["exits"] == "trained with the checkpoint (layerskip)"
    plain = import_checkpoint(llama[0], tmp_path / "plain", plan)
    assert "not trained for other layers" in plain.manifest.provenance["exits"]


def test_a_shortlist_leaves_what_it_holds_as_it_is(llama, tmp_path):
    plans = (ImportPlan(precision="fp32"), ImportPlan(precision="fp32", shortlist=270))
    whole, some = (
        import_checkpoint(llama[0], tmp_path / str(number), plan)
        for number, plan in enumerate(plans)
    )
    entry = some.manifest.edge_exits[-1]
    tokens = read_shortlist(some, entry)
    assert len(tokens) == 270
    wanted, found = (_run(bundle, entry.layer)[1] for bundle in (whole, some))
    np.testing.assert_allclose(found[:, tokens], wanted[:, tokens], rtol=1e-5, atol=1e-5)
    assert np.isneginf(np.delete(found, tokens, axis=1)).all()
    np.testing.assert_array_equal(_run(some, 4)[1], _run(whole, 4)[1])


def test_a_bundle_that_is_refused_is_not_written(llama, sentences, tmp_path):
    plan = ImportPlan(
        precision="int4", texts=(sentences(100),), limits=Limits(perplexity_ratio=1e-3)
    )
    with pytest.raises(BundleError, match=r"refused: perplexity .* at most 0.001 is allowed"):
        import_checkpoint(llama[0], tmp_path / "bundle", plan)
    assert not list(tmp_path.iterdir())
    plan = ImportPlan(precision="int8", texts=plan.texts, limits=Limits(perplexity_ratio=1.1))
    import_checkpoint(llama[0], tmp_path / "bundle", plan)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_is_compared_with_its_checkpoint(llama, sentences, tmp_path):
    bundle = import_checkpoint(llama[0], tmp_path / "bundle", ImportPlan(precision="int8"))
    (tmp_path / "text").write_text(sentences(100))
    asked = ["bundle", "compare", bundle.folder, "--reference", llama[0], "--text"]
    asked += [tmp_path / "text", "--tokens", "600", "--items", "5", "--json"]
    done = CliRunner().invoke(app, [str(part) for part in asked])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 0.9 < found["perplexity_ratio"]["estimate"] < 1.1
    assert 0.5 < found["agreement"] < 1
