"""What can be configured of the backend that answers whole requests."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from updraft.config import Section


class BackendSettings(Section):
    """The backend of a coordinator.

    Attributes:
        kind: `partitions` answers by the bundle that the coordinator serves, `openai` by any
            server of OpenAI's HTTP API.
        url: of that server's API, as `http://127.0.0.1:8000/v1`.
        model: what the server calls the model; by default the first that it lists.
        api_key_file: file that holds the server's key.
        api_key: the key itself, for the environment: UPDRAFT_CLOUD__BACKEND__API_KEY.
        connect_timeout_s: for a connection to the server.
        first_text_timeout_s, next_text_timeout_s: a server that says nothing for longer, before
            its first piece of text or after one, has failed.
        answer_timeout_s: for a whole answer, where the client sets no shorter deadline.
        retries: further attempts of a request that has no text yet.
        probe_interval_s: how often it is asked whether it is there.
        max_concurrent: requests that are answered at one time.
        max_waiting: requests that wait for their turn; further ones are refused.
        wait_timeout_s: a request whose turn does not come in this time is refused likewise.
        max_prompt_bytes: longer prompts and chats are refused.
        max_tokens: the longest answer that may be asked for.
    """

    kind: Literal["partitions", "openai"] = "partitions"
    url: str | None = None
    model: str | None = None
    api_key_file: Path | None = None
    api_key: SecretStr | None = None
    connect_timeout_s: float = Field(default=3, gt=0, le=3600)
    first_text_timeout_s: float = Field(default=60, gt=0, le=3600)
    next_text_timeout_s: float = Field(default=15, gt=0, le=3600)
    answer_timeout_s: float = Field(default=300, gt=0, le=86_400)
    retries: int = Field(default=2, ge=0, le=10)
    probe_interval_s: float = Field(default=15, gt=0, le=86_400)
    max_concurrent: int = Field(default=16, gt=0, le=10_000)
    max_waiting: int = Field(default=64, ge=0, le=100_000)
    wait_timeout_s: float = Field(default=30, gt=0, le=3600)
    max_prompt_bytes: int = Field(default=1 << 20, gt=0, le=1 << 21)
    max_tokens: int = Field(default=8192, gt=0, le=1 << 20)
