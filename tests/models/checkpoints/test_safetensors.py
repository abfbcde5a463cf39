"""Safetensors files: those of the real library are read, made-up headers are refused."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from updraft.errors import BundleError
from updraft.models.checkpoints.safetensors import SafetensorsFile

_SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def write(path, header, data=b"", length=None):
    """Write a file with any header, given as bytes or as what becomes JSON."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(content) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + content + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_tensors_of_the_real_library_are_read_as_fp32(tmp_path, dtype):
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    tensors = {
        "matrix": torch.randn(700, 500).to(kind),
        "edges": torch.tensor([0.0, -0.0, 1e-30, -65504.0, 2.0**-24]).to(kind),
        "empty": torch.zeros(0, 3, dtype=kind),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        found = file.read(name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, tensor.to(torch.float32).numpy())


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (b"[]", b"", "a JSON object is expected"),
        (b'{"a"', b"", "header: not JSON"),
        (b"[" * 100_000, b"", "header: not JSON"),
        (b'{"a": 1' + b"0" * 10_000 + b"}", b"", "header: not JSON"),
        (b'{"a": {}, "a": {}}', b"", "the key 'a' stands there twice"),
        (b"\xff\xfe{}", b"", "header: not JSON"),
        ({"a": []}, b"", "'a': dtype, shape and data_offsets are expected"),
        ({"a": {**entry(), "more": 1}}, bytes(8), "dtype, shape and data_offsets are expected"),
        ({"a": entry("F33")}, bytes(8), "dtype 'F33' is unknown"),
        ({"a": {**entry(), "dtype": ["F32"]}}, bytes(8), "is unknown"),
        ({"a": entry(shape=(-2,))}, bytes(8), "shape: at most 8 sizes"),
        ({"a": entry(shape=(2.0,))}, bytes(8), "shape: at most 8 sizes"),
        ({"a": entry(shape=(True,))}, bytes(8), "shape: at most 8 sizes"),
        ({"a": entry(shape=(1,) * 9)}, bytes(8), "shape: at most 8 sizes"),
        ({"a": entry(shape=(1 << 60,))}, bytes(8), "shape: at most 8 sizes"),
        ({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(8), "data_offsets span 8"),
        ({"a": entry(shape=(3,))}, bytes(8), "takes 12 bytes, data_offsets span 8"),
        ({"a": entry(offsets=(8, 0))}, bytes(8), "a start and an end are expected"),
        ({"a": entry(offsets=(0, 4, 8))}, bytes(8), "a start and an end are expected"),
        ({"a": entry(offsets=(0, 8))}, bytes(7), "the file holds 7 bytes of data"),
        ({"a": entry(), "b": entry()}, bytes(8), "'a' and 'b' overlap"),
        ({"a": entry(), "b": entry(offsets=(9, 17))}, bytes(17), "leave bytes unused"),
        ({"a": entry(offsets=(1, 9))}, bytes(9), "leave bytes unused"),
        ({"a": entry()}, bytes(9), "1 bytes after the last tensor"),
        ({"__metadata__": 3, "a": entry()}, bytes(8), "__metadata__ is no object"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header, data, reason):
    path = write(tmp_path / "x.safetensors", header, data)
    with pytest.raises(BundleError) as refused:
        SafetensorsFile(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has no header"),
        (b"\0" * 8, "it has no header"),
        (b"\xff" * 8, "a header of 18446744073709551615 bytes"),
        (struct.pack("<Q", 1 << 27), "a header of 134217728 bytes"),
        (struct.pack("<Q", 100) + b"{}", "truncated: the header has 100 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run `git lfs pull`"),
    ],
)
def test_a_file_without_a_header_is_refused(tmp_path, content, reason):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=reason):
        SafetensorsFile(path)


_SIZES = st.one_of(st.integers(-2, 20), st.integers(0, 1 << 70), st.floats(), st.booleans())
_ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F64", "U8", "", "X"]) | st.text(max_size=3),
        "shape": st.lists(_SIZES, max_size=3) | st.none(),
        "data_offsets": st.lists(_SIZES, max_size=3) | st.text(max_size=2),
    }
)
_HEADERS = st.dictionaries(
    st.text(max_size=4) | st.just("__metadata__"),
    _ENTRIES | st.recursive(st.none() | st.text(max_size=3), st.lists, max_leaves=4),
    max_size=4,
)


@_SHARED
@given(
    header=_HEADERS.map(lambda found: json.dumps(found).encode()) | st.binary(max_size=60),
    data=st.binary(max_size=24),
    length=st.none() | st.integers(0, 80) | st.integers(0, (1 << 64) - 1),
)
def test_nothing_but_a_bundle_error_comes_of_any_header(tmp_path, header, data, length):
    path = write(tmp_path / "x.safetensors", header, data, length)
    try:
        file = SafetensorsFile(path)
        for name in file.tensors:
            file.read(name)
    except BundleError:
        pass


@_SHARED
@given(place=st.integers(0, 200), change=st.binary(min_size=1, max_size=3))
def test_nothing_but_a_bundle_error_comes_of_a_damaged_file(tmp_path, place, change):
    header = {"a": entry(), "b": entry("BF16", (2, 3), (8, 20)), "__metadata__": {"format": "pt"}}
    path = write(tmp_path / "x.safetensors", header, np.ones(5, np.float32).tobytes())
    content = bytearray(path.read_bytes())
    at = place % len(content)
    content[at : at + len(change)] = change
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
        for name in file.tensors:
            assert np.isfinite(file.read(name)).all()
    except BundleError:
        pass


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("F32", np.array([1, np.nan], "<f4"), "a holds NaN"),
        ("F16", np.array([np.inf, 1], "<f2"), "a holds infinity"),
        ("BF16", np.array([0x7F80, 0], "<u2"), "a holds infinity"),
        ("F64", np.array([1e300, 0], "<f8"), "a holds infinity"),
    ],
)
def test_values_that_are_no_numbers_are_refused_by_name(tmp_path, dtype, value, reason):
    header = {"a": entry(dtype, (2,), (0, value.nbytes))}
    file = SafetensorsFile(write(tmp_path / "x.safetensors", header, value.tobytes()))
    with pytest.raises(BundleError, match=reason):
        file.read("a")


def test_weights_that_are_quantized_are_refused_by_their_dtype(tmp_path):
    file = SafetensorsFile(write(tmp_path / "x.safetensors", {"a": entry("I8", (8,))}, bytes(8)))
    with pytest.raises(BundleError, match="a has dtype I8; weights are read from BF16, F16, F32"):
        file.check_dtype("a")


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = write(tmp_path / "x.safetensors", {"a": entry()}, bytes(8))
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BundleError, match="became shorter meanwhile"):
        file.read("a")
