"""Importing: what is written, and going on where it was interrupted."""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import open_bundle
from updraft.models.checkpoints.draft import open_draft
from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
from updraft.models.checkpoints.safetensors import SafetensorsFile
from updraft.models.fidelity import Limits
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer


@pytest.fixture
def reads(monkeypatch):
    """The names of tensors that were read, in turn."""
    names, read = [], SafetensorsFile.read

    def watched(self, name):
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(SafetensorsFile, "read", watched)
    return names


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_at(stage):
    """Return a report that ends everything when a stage begins."""

    def report(name, done, total):
        if name.startswith(stage):
            raise Stop

    return report


def content(folder):
    """Return what every file of a bundle holds, but for what is measured."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}


def test_a_bundle_says_where_it_comes_from_and_how_it_is_cut(checkpoint_of, tmp_path):
    folder, _ = checkpoint_of("qwen2")
    bundle = import_checkpoint(folder, tmp_path / "out", ImportPlan())
    manifest = bundle.manifest
    assert manifest.name == "qwen2"
    assert manifest.split == 2
    assert [entry.layer for entry in manifest.exits] == [1, 2, 4]
    assert manifest.quantization.weights == "int4"
    assert manifest.quantization.block == 64
    assert manifest.overflow == "refuse"
    assert manifest.codecs == ["fp32", "fp16"]
    assert manifest.profile is not None
    assert manifest.provenance["imported_from"] == "Qwen2ForCausalLM"
    assert set(content(tmp_path / "out")) == set(manifest.files)
    assert not (tmp_path / "out.import").exists()


def test_texts_give_the_narrow_codecs_their_scales(checkpoint_of, tmp_path):
    plan = ImportPlan(precision="fp32", texts=("def add(a, b):", "for item in items:"))
    bundle = import_checkpoint(checkpoint_of("llama")[0], tmp_path / "out", plan)
    assert "int4" in bundle.manifest.codecs
    assert bundle.channel_scales.shape == (64,)
    assert bundle.manifest.profile is None or bundle.manifest.profile.head_ms > 0


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_narrow_weights_stay_near_the_wide_ones(checkpoint_of, tmp_path, precision):
    folder, _ = checkpoint_of("llama")
    logits = []
    for kept_as in ("fp32", precision):
        plan = ImportPlan(precision=kept_as, split=2, exits=())
        bundle = import_checkpoint(folder, tmp_path / kept_as, plan)
        model = Model.load(bundle, range(4), RuntimeOptions())
        sequence = model.new_sequence()
        sequence.append(Tokenizer(bundle).encode("def add(a, b):\n    return"))
        states = sequence.advance(4)
        logits.append(model.heads.predict(4, states).logits.copy())
    error = np.linalg.norm(logits[0] - logits[1]) / np.linalg.norm(logits[0])
    assert 0 < error < {"fp16": 2e-3, "int8": 0.05, "int4": 0.8}[precision]


def test_an_override_changes_its_part_alone(checkpoint_of, tmp_path):
    plan = ImportPlan(precision="int4", overrides={"head": "int8", "layers.3": "fp32"}, split=2)
    bundle = import_checkpoint(checkpoint_of("llama")[0], tmp_path / "out", plan)
    assert bundle.manifest.quantization.overrides == {"head": "int8", "layers.3": "fp32"}


@pytest.mark.parametrize("stage", ["layers-0-1", "layers-1-2", "layers-2-4", "head"])
def test_an_interrupted_import_goes_on_where_it_was(checkpoint_of, tmp_path, reads, stage):
    folder, _ = checkpoint_of("llama")
    whole = import_checkpoint(folder, tmp_path / "whole", ImportPlan())
    everything = len(reads)
    with pytest.raises(Stop):
        import_checkpoint(folder, tmp_path / "out", ImportPlan(), stop_at(stage))
    assert not (tmp_path / "out").exists()
    before = len(reads) - everything
    resumed = import_checkpoint(folder, tmp_path / "out", ImportPlan())
    assert resumed.fingerprint == whole.fingerprint
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    again = len(reads) - everything - before
    if stage != "layers-0-1":
        assert again < everything
    # What was being written is begun anew, nothing else.
    assert before + again <= everything + 12 * 2 + 2


def test_another_plan_or_checkpoint_begins_anew(damaged, tmp_path, reads):
    folder, output = damaged(), tmp_path / "out"
    with pytest.raises(Stop):
        import_checkpoint(folder, output, ImportPlan(), stop_at("head"))
    reads.clear()
    with pytest.raises(Stop):
        import_checkpoint(folder, output, ImportPlan(precision="int8"), stop_at("head"))
    assert "model.embed_tokens.weight" in reads
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] *= 2
    save_file(tensors, path)
    reads.clear()
    bundle = import_checkpoint(folder, output, ImportPlan(precision="int8"))
    assert "model.embed_tokens.weight" in reads
    assert bundle.manifest.quantization.weights == "int8"


def test_a_draft_whose_files_changed_is_written_again(checkpoint_of, tmp_path):
    folder, output = checkpoint_of("llama")[0], tmp_path / "out"
    with pytest.raises(Stop):
        import_checkpoint(folder, output, ImportPlan(), stop_at("head"))
    (tmp_path / "out.import" / "layers-1-2.onnx").write_bytes(b"short")
    (tmp_path / "out.import" / "import.json.tmp").write_text("left over")
    (tmp_path / "out.import" / "head.data").write_text("half of it")
    import_checkpoint(folder, output, ImportPlan())
    whole = import_checkpoint(folder, tmp_path / "whole", ImportPlan())
    assert open_bundle(output).fingerprint == whole.fingerprint
    assert content(output) == content(tmp_path / "whole")


def test_a_journal_that_is_no_journal_is_not_believed(checkpoint_of, tmp_path):
    draft = tmp_path / "out.import"
    for written in ("", "[]", '{"key": 1}', '{"key": "k", "steps": {"a": 3}}'):
        draft.mkdir()
        (draft / "import.json").write_text(written)
        bundle = import_checkpoint(checkpoint_of("llama")[0], tmp_path / "out", ImportPlan())
        bundle.folder.rename(tmp_path / f"out-{len(written)}")


def test_nothing_is_left_of_a_checkpoint_that_is_damaged(damaged, tmp_path):
    folder = damaged()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.3.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r"model\.layers\.3\.mlp\.up_proj\.weight holds infinity"):
        import_checkpoint(folder, tmp_path / "out", ImportPlan())
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_weights_beyond_fp16_are_refused_by_name(damaged, tmp_path):
    folder = damaged()
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.2.mlp.up_proj.weight"][0, 0] = 1e5
    save_file(tensors, path)
    with pytest.raises(BundleError, match=r"layers\.2\.up\.weight: holds values beyond 65504"):
        import_checkpoint(folder, tmp_path / "out", ImportPlan(precision="fp16"))
    kept = ImportPlan(precision="fp16", overrides={"layers.2.up": "fp32", "layers.2.gate": "fp32"})
    import_checkpoint(folder, tmp_path / "out", kept)


def test_a_second_import_of_the_same_output_waits_for_the_first(checkpoint_of, tmp_path):
    folder, _ = checkpoint_of("llama")
    with open_draft(tmp_path / "out", "key"):
        with pytest.raises(BundleError, match="another import is writing it"):
            import_checkpoint(folder, tmp_path / "out", ImportPlan())
        assert (tmp_path / "out.import").is_dir()


def test_an_output_that_exists_is_left_alone(checkpoint_of, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError, match="exists already; remove it or choose another --output"):
        import_checkpoint(checkpoint_of("llama")[0], tmp_path / "out", ImportPlan())
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"split": 4}, "split 4 lies outside 1 to 3: the model has 4 layers"),
        ({"split": 0}, "split 0 lies outside 1 to 3"),
        ({"exits": (1, 9)}, "exit 9 lies outside 1 to 3"),
        ({"exits": (0,)}, "exit 0 lies outside 1 to 3"),
        ({"block": 48}, "block 48: choose from 16, 32, 64, 128"),
        ({"overrides": {"layers.7": "int8"}}, "override 'layers.7': the model has no such weights"),
        ({"overrides": {"layer": "int8"}}, "override 'layer': the model has no such weights"),
        ({"name": "Größe"}, "name 'Größe': small letters"),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_refused(checkpoint_of, tmp_path, plan, reason):
    with pytest.raises(RequestError) as refused:
        import_checkpoint(checkpoint_of("llama")[0], tmp_path / "out", ImportPlan(**plan))
    assert reason in str(refused.value)
    assert not any(tmp_path.iterdir())


def test_a_text_too_short_to_judge_by_is_refused_and_leaves_nothing(checkpoint_of, tmp_path):
    folder, _ = checkpoint_of("qwen2")
    plan = ImportPlan(texts=("two words",), limits=Limits(task_loss=0.1))
    place = tmp_path / "place"
    with pytest.raises(RequestError, match="are needed to compare"):
        import_checkpoint(folder, place / "out", plan)
    assert not list(place.iterdir())
