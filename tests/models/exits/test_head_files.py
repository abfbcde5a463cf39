"""Which files a bundle's heads lie in, before and after some of them were replaced."""

from updraft.models.exits.head_files import HeadFile, head_files, left_over, replacing


def _entries(files):
    return sorted((e for file in files for e in file.entries()), key=lambda entry: entry.layer)


def test_exits_share_one_graph_unless_they_have_a_matrix_or_a_shortlist_of_their_own():
    assert head_files((2, 4), 8, (), shortlisted=False) == [HeadFile("head.onnx", (2, 4, 8), None)]
    assert head_files((2, 4), 8, {4}, shortlisted=True) == [
        HeadFile("head-4.onnx", (4,), "shortlist.i32"),
        HeadFile("head-exits.onnx", (2,), "shortlist.i32"),
        HeadFile("head.onnx", (8,), None),
    ]


def test_a_graph_that_is_replaced_takes_no_name_that_another_exit_needs():
    before = _entries(head_files((2, 4), 8, (), shortlisted=True))
    one = replacing(before, {4}, shortlisted=True)
    assert one == HeadFile("head-exits-2.onnx", (4,), "shortlist-2.i32")
    after = [before[0], *one.entries(), before[2]]
    assert left_over(before, {4}) == set()
    both = replacing(after, {2, 4}, shortlisted=False)
    assert both == HeadFile("head-exits.onnx", (2, 4), None)
    # Its weights are written anew: none of the old ones may be found in their place.
    assert left_over(after, {2, 4}) == {
        "head-exits.onnx", "head-exits.data", "shortlist.i32",
        "head-exits-2.onnx", "head-exits-2.data", "shortlist-2.i32",
    }  # fmt: skip
