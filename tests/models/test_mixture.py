"""What the experts read: shares that add up, reached by repeating documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.recipes.domains import DOMAINS
from updraft.models.recipes.mixture import EXPERTS, GENERALIST, mix, shares_of


@pytest.mark.parametrize("expert", EXPERTS)
def test_shares_add_up_and_an_expert_reads_mostly_its_own(expert):
    shares = shares_of(expert)
    assert tuple(shares) == DOMAINS
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    if expert != GENERALIST:
        assert max(shares, key=shares.get) == expert
        assert shares[expert] > 0.5


@given(
    sizes=st.lists(st.integers(40, 400), min_size=2, max_size=4),
    weights=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_each_domain_has_its_share_of_the_tokens(sizes, weights):
    documents = {name: [np.full(20, name, np.uint16)] * count for name, count in enumerate(sizes)}
    total = sum(weights[: len(sizes)])
    shares = {name: weights[name] / total for name in documents}
    mixed = np.concatenate(mix(documents, shares, seed=0))
    for name, share in shares.items():
        assert (mixed == name).mean() == pytest.approx(share, rel=0.3)
        assert (mixed == name).sum() >= 20 * sizes[name]


def test_the_seed_decides_which_documents_come_once_more():
    documents = {"a": [np.array([n], np.uint16) for n in range(90)], "b": [np.zeros(300, int)]}
    shares = {"a": 0.3, "b": 0.7}
    one, same, other = (mix(documents, shares, seed) for seed in (1, 1, 2))
    assert [text.tolist() for text in one] == [text.tolist() for text in same]
    assert [text.tolist() for text in one] != [text.tolist() for text in other]
