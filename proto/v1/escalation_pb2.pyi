from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetBackendRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBackendResponse(_message.Message):
    __slots__ = ("kind", "model", "ready", "running", "waiting", "capabilities")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    model: str
    ready: bool
    running: int
    waiting: int
    capabilities: Capabilities
    def __init__(self, kind: _Optional[str] = ..., model: _Optional[str] = ..., ready: _Optional[bool] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("text", "chat", "streams", "seeds", "json_schema", "grammar", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: bool
    chat: bool
    streams: bool
    seeds: bool
    json_schema: bool
    grammar: bool
    logprobs: bool
    def __init__(self, text: _Optional[bool] = ..., chat: _Optional[bool] = ..., streams: _Optional[bool] = ..., seeds: _Optional[bool] = ..., json_schema: _Optional[bool] = ..., grammar: _Optional[bool] = ..., logprobs: _Optional[bool] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("text", "chat", "max_tokens", "temperature", "seed", "top_p", "top_k", "stop", "form")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    text: str
    chat: Chat
    max_tokens: int
    temperature: float
    seed: int
    top_p: float
    top_k: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    form: Form
    def __init__(self, text: _Optional[str] = ..., chat: _Optional[_Union[Chat, _Mapping]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., form: _Optional[_Union[Form, _Mapping]] = ...) -> None: ...

class Chat(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: str
    def __init__(self, messages: _Optional[str] = ...) -> None: ...

class Form(_message.Message):
    __slots__ = ("kind", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class EscalationAnswerRequest(_message.Message):
    __slots__ = ("question",)
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    question: Question
    def __init__(self, question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class EscalationAnswerResponse(_message.Message):
    __slots__ = ("accepted", "piece", "finish")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    piece: Piece
    finish: Finish
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., piece: _Optional[_Union[Piece, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Piece(_message.Message):
    __slots__ = ("text", "tokens", "compute_s")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    text: str
    tokens: int
    compute_s: float
    def __init__(self, text: _Optional[str] = ..., tokens: _Optional[int] = ..., compute_s: _Optional[float] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("reason", "prompt_tokens", "new_tokens", "compute_s")
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    reason: str
    prompt_tokens: int
    new_tokens: int
    compute_s: float
    def __init__(self, reason: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., new_tokens: _Optional[int] = ..., compute_s: _Optional[float] = ...) -> None: ...
