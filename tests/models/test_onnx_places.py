"""Weights outside of a graph's file: nowhere but within the bundle's own files of weights."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from updraft.errors import BundleError
from updraft.models.bundle import describe_files, open_bundle
from updraft.models.onnx_places import Place, read_places

_FILE = "layers-1-2.onnx"


def entries(location="weights.data", offset="4096", length="512"):
    known = {"location": location, "offset": offset, "length": length}
    return [(key, value) for key, value in known.items() if value is not None]


def outside(said):
    """Return a tensor whose bytes lie where these entries say."""
    tensor = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[128])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in said:
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.fixture
def change(folder):
    """Return a function that changes a graph of a bundle, which is then accepted as it is."""

    def apply(edit, data=bytes(8192)):
        (folder / "weights.data").write_bytes(data)
        model = onnx.load(folder / _FILE)
        edit(model)
        onnx.save(model, folder / _FILE)
        manifest = open_manifest(folder)
        names = {*manifest["files"], "weights.data"}
        manifest["files"] = {n: e.model_dump() for n, e in describe_files(folder, names).items()}
        save_manifest(folder, manifest)
        return folder

    return apply


def open_manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def save_manifest(folder, manifest):
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_weights_in_a_listed_file_are_accepted(change):
    folder = change(lambda model: model.graph.initializer.append(outside(entries())))
    assert "weights.data" in open_bundle(folder).manifest.files
    assert read_places(folder / _FILE) == [Place("weights.data", 4096, 512)]


def test_changed_weights_in_a_file_of_their_own_change_the_fingerprint(change):
    first = open_bundle(change(lambda _: None)).fingerprint
    assert open_bundle(change(lambda _: None, bytes(8191) + b"1")).fingerprint != first


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (entries("../../etc/passwd"), "'../../etc/passwd', which is not among the files"),
        (entries("/etc/passwd"), "'/etc/passwd', which is not among the files"),
        (entries("*/_ORT_MEM_ADDR_/*"), "which is not among the files"),
        (entries("tokenizer.json"), "'tokenizer.json', which is not among the files"),
        (entries(None), "'', which is not among the files"),
        (entries(offset="7681"), "up to byte 8193, which has 8192"),
        (entries(offset="0", length="8193"), "up to byte 8193, which has 8192"),
        (entries(offset="9" * 18), "which has 8192"),
        (entries(offset=None), "is not said as location, offset and length"),
        (entries(length=None), "is not said as location, offset and length"),
        (entries(offset="-1"), "is not said as location, offset and length"),
        (entries(offset="9" * 30), "is not said as location, offset and length"),
        (entries(offset="²"), "is not said as location, offset and length"),
        ([*entries(), ("location", "/etc/passwd")], "is not said as location, offset and length"),
        ([], "is not said as location, offset and length"),
    ],
)
def test_weights_that_lie_elsewhere_are_refused(change, said, reason):
    folder = change(lambda model: model.graph.initializer.append(outside(said)))
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert str(caught.value).startswith(f"{folder / _FILE}: ")
    assert reason in str(caught.value)


def _constant(model):
    node = helper.make_node("Constant", [], ["far"], value=outside(entries("/etc/passwd")))
    model.graph.node.append(node)


def _branch(model):
    inner = helper.make_graph([], "inner", [], [], [outside(entries("/etc/passwd"))])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    model.graph.node.append(node)


def _function(model):
    body = [helper.make_node("Constant", [], ["y"], value=outside(entries("/etc/passwd")))]
    opsets = [helper.make_opsetid("", 21)]
    model.functions.append(helper.make_function("own", "f", [], ["y"], body, opsets))


def _sparse(model):
    values = outside(entries("/etc/passwd"))
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [128]))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_constant, "one of its operators keeps a value outside of the file"),
        (_branch, "one of its operators holds a graph"),
        (_function, "it has functions"),
        (_sparse, "it has sparse weights"),
    ],
)
def test_graphs_that_hide_weights_are_refused(change, edit, reason):
    with pytest.raises(BundleError, match=reason):
        open_bundle(change(edit))


@pytest.mark.parametrize(
    "tokens",
    [b"", b"\0\0\0", b"\1\0\0\0" * 2, (1 << 20).to_bytes(4, "little"), b"\xff\xff\xff\xff"],
    ids=["empty", "cut", "twice", "beyond", "negative"],
)
def test_a_shortlist_that_is_none_is_refused(folder, tokens):
    (folder / "shortlist.i32").write_bytes(tokens)
    manifest = open_manifest(folder)
    (folder / "short.onnx").write_bytes((folder / "head.onnx").read_bytes())
    manifest["exits"][0] |= {"head": "short.onnx", "shortlist": "shortlist.i32"}
    names = {*manifest["files"], "short.onnx", "shortlist.i32"}
    manifest["files"] = {n: e.model_dump() for n, e in describe_files(folder, names).items()}
    save_manifest(folder, manifest)
    with pytest.raises(BundleError, match=r"shortlist.i32: (not a list|names a token twice)"):
        open_bundle(folder)
