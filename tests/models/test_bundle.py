"""Bundles: whatever was tampered with is refused, by name and reason, before anything is loaded."""

import json
import shutil
import subprocess
import sys

import onnx
import pytest

from updraft.errors import BundleError
from updraft.models.bundle import describe_files, open_bundle
from updraft.models.graphs import write_partition
from updraft.models.manifest import FORMAT_VERSION

GRAPHS = ["head.onnx", "layers-0-1.onnx", "layers-1-2.onnx", "layers-2-4.onnx"]
FILES = ["card.md", "channel-scales.f32", *GRAPHS, "tokenizer.json"]
each_file = pytest.mark.parametrize("name", FILES)


def edit(folder, change):
    """Let `change` alter the raw manifest."""
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def accept_files(folder):
    """Correct sizes and hashes in the manifest, as whoever tampers with a file would."""
    entries = {name: entry.model_dump() for name, entry in describe_files(folder, FILES).items()}
    edit(folder, lambda raw: raw.update(files=entries))


def refusal(folder):
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    return str(caught.value)


def test_a_bundle_opens_with_what_was_planned(tiny_bundle, tiny_plan):
    manifest = open_bundle(tiny_bundle.folder).manifest
    assert manifest.architecture == tiny_plan.architecture
    assert [exit_.layer for exit_ in manifest.exits] == [1, 2, 4]
    assert [exit_.layer for exit_ in manifest.edge_exits] == [1, 2]
    assert manifest.split == 2
    assert sorted(manifest.files) == FILES
    assert len(manifest.profile.partition_ms) == 3


def test_the_shipped_bundle_opens(bundle):
    assert bundle.manifest.name == "code"
    assert bundle.manifest.split in [exit_.layer for exit_ in bundle.manifest.edge_exits]


def test_opening_a_bundle_loads_no_runtime(tiny_bundle):
    script = (
        "import sys, pathlib; from updraft.models.bundle import open_bundle; "
        "open_bundle(pathlib.Path(sys.argv[1])); "
        "print(sorted({'onnxruntime', 'onnx', 'tokenizers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tiny_bundle.folder)]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"[]\n"


@each_file
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_a_flipped_bit_is_noticed(folder, name, place):
    content = bytearray((folder / name).read_bytes())
    content[int(len(content) * place) if place > 0 else place] ^= 1
    (folder / name).write_bytes(content)
    assert f"/{name}: changed since it was built, sha256" in refusal(folder)


@each_file
def test_a_truncated_file_is_noticed(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    sizes = f"{len(content) - 1} bytes where manifest.json says {len(content)}"
    assert f"/{name}: truncated, {sizes}" in refusal(folder)


@each_file
def test_a_longer_file_is_noticed(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert f"/{name}: too long" in refusal(folder)


@each_file
def test_a_missing_file_is_noticed(folder, name):
    (folder / name).unlink()
    assert f"/{name}: listed in manifest.json and missing" in refusal(folder)


@each_file
def test_a_link_that_leads_out_is_refused_whatever_it_leads_to(folder, name):
    outside = folder.with_name("outside")
    shutil.move(folder / name, outside)
    (folder / name).symlink_to(outside)
    assert f"/{name}: a link leads out of the bundle's folder" in refusal(folder)


def test_a_link_onto_itself_is_refused(folder):
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to("card.md")
    assert "card.md" in refusal(folder)  # what is wrong with it depends on the Python


@pytest.mark.parametrize(
    "name", ["../x", "/etc/hostname", "a/../../x", "a\\..\\x", "./card.md", ""]
)
def test_a_path_that_could_leave_the_folder_is_refused(folder, name):
    edit(folder, lambda raw: raw["files"].update({name: raw["files"]["card.md"]}))
    assert f"manifest.json: files: {name!r} would leave the bundle's folder" in refusal(folder)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_a_name_that_no_file_can_have_is_refused(folder, name):
    edit(folder, lambda raw: raw["files"].update({name: raw["files"]["card.md"]}))
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    ("sizes", "name"),
    [
        ({"width": 128}, "layers-0-1.onnx"),
        ({"kv_heads": 4}, "layers-0-1.onnx"),
        ({"heads": 2, "head_width": 32}, "layers-0-1.onnx"),
        ({"context_length": 128}, "layers-0-1.onnx"),
        ({"vocabulary_size": 4096}, "head.onnx"),
    ],
)
def test_graphs_of_other_sizes_than_the_manifests_are_refused(folder, sizes, name):
    edit(folder, lambda raw: raw["architecture"].update(sizes))
    message = refusal(folder)
    assert f"/{name}: " in message
    assert "the manifest's architecture asks for float32[" in message


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_swapped_for_another_of_the_bundle_is_refused(folder, name):
    other = GRAPHS[GRAPHS.index(name) - 1]
    shutil.copy(folder / other, folder / name)
    accept_files(folder)
    message = refusal(folder)
    assert f"/{name}: its inputs are not those of the manifest" in message


def test_a_partition_of_another_context_is_refused(folder, tiny_plan, tiny_weights):
    shape = tiny_plan.architecture.model_copy(update={"context_length": 32})
    write_partition(folder, shape, tiny_weights, tiny_plan.quantization, 1, 2)
    accept_files(folder)
    message = refusal(folder)
    assert "/layers-1-2.onnx: input past_" in message
    assert "is float32[1, 2, 32, 16]" in message
    assert "asks for float32[1, 2, 64, 16]" in message


def test_a_head_that_wants_other_types_is_refused(folder):
    model = onnx.load(folder / "head.onnx")
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    onnx.save(model, folder / "head.onnx")
    accept_files(folder)
    assert "/head.onnx: input exit is int32[]" in refusal(folder)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_graph_with_more_than_it_should_have_is_refused(folder, side):
    model = onnx.load(folder / "head.onnx")
    extra = onnx.helper.make_tensor_value_info("extra", onnx.TensorProto.FLOAT, ["n"])
    getattr(model.graph, side).append(extra)
    onnx.save(model, folder / "head.onnx")
    accept_files(folder)
    message = refusal(folder)
    assert f"/head.onnx: its {side}s are not those of the manifest: extra" in message


def test_a_file_that_is_no_graph_is_refused(folder):
    (folder / "head.onnx").write_bytes(b"#!/bin/sh\n")
    accept_files(folder)
    message = refusal(folder)
    assert "/head.onnx: it " in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * ((1 << 20) + 1), "larger than 1048576 bytes"),
        (b"[]", "format: an integer is expected, found None"),
        (b"7", "format: an integer is expected, found None"),
        (b"{}", "format: an integer is expected, found None"),
        (b'{"format": "1"}', "format: an integer is expected, found '1'"),
        (b'{"format": 1}', "architecture: Field required"),
    ],
    ids=["empty", "cut", "binary", "deep", "huge", "list", "number", "bare", "text", "lacking"],
)
def test_a_manifest_that_is_none_is_refused(folder, content, reason):
    (folder / "manifest.json").write_bytes(content)
    message = refusal(folder)
    assert message.startswith(f"{folder}/manifest.json: ")
    assert reason in message


def test_a_newer_format_asks_for_an_upgrade(folder):
    edit(folder, lambda raw: raw.update(format=FORMAT_VERSION + 1, unheard_of=True))
    message = refusal(folder)
    assert f"manifest.json: format {FORMAT_VERSION + 1} is newer than {FORMAT_VERSION}" in message
    assert "upgrade updraft" in message


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: raw.pop("split"), "split: Field required"),
        (lambda raw: raw.update(spilt=2), "spilt: Extra inputs are not permitted"),
        (lambda raw: raw.update(split=3), "split 3 must be an exit before the last of [1, 2, 4]"),
        (lambda raw: raw.update(split=4), "split 4 must be an exit before the last"),
        (lambda raw: raw["partitions"][1].update(first=0), "follow each other without gaps"),
        (lambda raw: raw["partitions"].pop(1), "follow each other without gaps"),
        (lambda raw: raw["partitions"].pop(2), "must cover layers 0 to 4"),
        (lambda raw: raw["partitions"][2].update(last=3), "must cover layers 0 to 4"),
        (lambda raw: raw["exits"][0].update(layer=3), "exits [3, 2, 4] must rise to 4"),
        (lambda raw: raw["exits"][1].update(layer=3), "end partitions [1, 2, 4]"),
        (lambda raw: raw["exits"].pop(), "exits [1, 2] must rise to 4"),
        (lambda raw: raw["files"].pop("head.onnx"), "files lacks head.onnx"),
        (lambda raw: raw["files"].pop("tokenizer.json"), "files lacks tokenizer.json"),
        (lambda raw: raw["tokenizer"].update(end_of_text=10**6), "outside the vocabulary"),
        (lambda raw: raw["architecture"].update(heads=3), "heads 3 must be a multiple of kv_heads"),
        (lambda raw: raw["architecture"].update(head_width=24), "a head has 24 channels"),
        (lambda raw: raw["architecture"].update(windows=[8]), "a width for each of 4 layers"),
        (lambda raw: raw["architecture"].update(rotary={"kind": "yarn"}), "yarn needs factor"),
        (lambda raw: raw["exits"][0].update(shortlist="no.i32"), "one and the same shortlist"),
        (lambda raw: raw["architecture"].update(width=-1), "architecture.width: "),
        (lambda raw: raw["files"]["card.md"].update(sha256="x"), "files.card.md.sha256: "),
        (lambda raw: raw.update(codecs=["fp8"]), "codecs.0: Input should be 'fp32', "),
        (lambda raw: raw.pop("wire"), "only ('fp32', 'fp16') do without wire.scales"),
        (lambda raw: raw["wire"].update(scales="no.f32"), "files lacks no.f32"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder, change, reason):
    edit(folder, change)
    message = refusal(folder)
    assert message.startswith(f"{folder}/manifest.json: ")
    assert reason in message


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    assert "not a bundle, manifest.json is missing" in refusal(tmp_path)
    assert "there is no such bundle folder" in refusal(tmp_path / "nowhere")
