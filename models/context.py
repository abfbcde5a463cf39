"""The context window: which tokens the model sees when a text has grown long."""

from __future__ import annotations


def window_start(length: int, limit: int) -> int:
    """Return the first position that the model still sees of a text of `length` tokens.

    The window moves by half a context at a time, because every move costs a prefill. It depends
    on the length alone, so that edge and cloud agree, also after a reconnect.

    Args:
        limit: positions that a KV cache holds.

    Returns:
        0 while everything fits; then a multiple of half the limit.
    """
    if length <= limit:
        return 0
    hop = max(1, limit // 2)
    return -(-(length - limit) // hop) * hop
