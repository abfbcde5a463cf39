"""Writing bundles: whole or not at all, and another fingerprint only for another model."""

import pytest

from updraft.errors import BundleError
from updraft.models.build import add_files, write_bundle
from updraft.models.bundle import describe_files, open_bundle, write_manifest
from updraft.models.graphs import write_partition


def fingerprint(folder, manifest, **changes):
    """Write the manifest, with sizes and hashes as the files are now, and open the bundle."""
    files = describe_files(folder, manifest.files)
    write_manifest(folder, manifest.model_copy(update={"files": files, **changes}))
    return open_bundle(folder).fingerprint


def test_the_same_plan_and_weights_give_the_same_fingerprint(
    tiny_bundle, tiny_plan, tiny_weights, tmp_path
):
    one, again = (
        write_bundle(tmp_path / name, tiny_plan, tiny_weights) for name in ("one", "again")
    )
    assert again.fingerprint == one.fingerprint


def test_the_profile_does_not_change_the_fingerprint(tiny_bundle, folder):
    manifest = tiny_bundle.manifest
    profile = manifest.profile.model_copy(update={"head_ms": 99.0, "machine": "other"})
    assert fingerprint(folder, manifest, profile=profile) == tiny_bundle.fingerprint
    assert fingerprint(folder, manifest, profile=None) == tiny_bundle.fingerprint


def test_card_and_provenance_do_not_change_the_fingerprint(tiny_bundle, folder):
    (folder / "card.md").write_text("# another card\n")
    changed = fingerprint(folder, tiny_bundle.manifest, provenance={"recipe": "other"})
    assert changed == tiny_bundle.fingerprint


def test_files_that_travel_along_are_listed_and_keep_the_fingerprint(tiny_bundle, folder):
    richer = add_files(open_bundle(folder), {"card.md": "é\n", "prompts.jsonl": "{}\n"})
    assert richer == open_bundle(folder)
    assert set(richer.manifest.files) == {*tiny_bundle.manifest.files, "prompts.jsonl"}
    assert richer.path("card.md").read_bytes() == "é\n".encode()
    assert richer.fingerprint == tiny_bundle.fingerprint


@pytest.mark.parametrize("weight", ["layers.3.down.weight", "layers.2.ffn_norm.weight"])
def test_one_changed_weight_changes_the_fingerprint(
    tiny_bundle, tiny_plan, tiny_weights, folder, weight
):
    changed = tiny_weights[weight].copy()
    changed.flat[0] = 2 * abs(changed).max()
    weights = {**tiny_weights, weight: changed}
    write_partition(folder, tiny_plan.architecture, weights, tiny_plan.quantization, 2, 4)
    assert fingerprint(folder, tiny_bundle.manifest) != tiny_bundle.fingerprint


def test_another_tokenizer_changes_the_fingerprint(tiny_bundle, folder):
    with (folder / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert fingerprint(folder, tiny_bundle.manifest) != tiny_bundle.fingerprint


@pytest.mark.parametrize("drop", [0, 1])
def test_another_set_of_exits_changes_the_fingerprint(tiny_bundle, folder, drop):
    manifest = tiny_bundle.manifest
    exits = [exit_ for at, exit_ in enumerate(manifest.exits) if at != drop]
    changed = fingerprint(folder, manifest, exits=exits, split=exits[-2].layer)
    assert changed != tiny_bundle.fingerprint


def test_another_rule_for_a_full_context_changes_the_fingerprint(tiny_bundle, folder):
    assert fingerprint(folder, tiny_bundle.manifest, overflow="slide") != tiny_bundle.fingerprint


def test_an_existing_folder_is_never_written_to(tiny_plan, tiny_weights, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(folder, tiny_plan, tiny_weights)
    assert list(tmp_path.rglob("*")) == [folder]


@pytest.mark.parametrize("weight", ["layers.3.down.weight", "exit_norms.4.weight"])
def test_a_failure_in_the_middle_leaves_nothing_behind(tiny_plan, tiny_weights, tmp_path, weight):
    lacking = {name: array for name, array in tiny_weights.items() if name != weight}
    with pytest.raises(KeyError, match=weight):
        write_bundle(tmp_path / "bundle", tiny_plan, lacking)
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_crash_left_is_replaced(tiny_plan, tiny_weights, tmp_path):
    left = tmp_path / "bundle.tmp"
    left.mkdir()
    (left / "layers-0-9.onnx").write_text("half-written")
    bundle = write_bundle(tmp_path / "bundle", tiny_plan, tiny_weights)
    assert "layers-0-9.onnx" not in bundle.manifest.files
    assert list(tmp_path.iterdir()) == [bundle.folder]


def test_weights_that_do_not_fill_their_blocks_are_refused(tiny_plan, tiny_weights, tmp_path):
    lacking = {**tiny_weights, "layers.1.up.weight": tiny_weights["layers.1.up.weight"][:, :-1]}
    with pytest.raises(ValueError, match="63 columns are not a multiple of the block 16"):
        write_bundle(tmp_path / "bundle", tiny_plan, lacking)
    assert list(tmp_path.iterdir()) == []
