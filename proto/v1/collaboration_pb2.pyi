from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    PROTOCOL_V1: _ClassVar[Protocol]

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[Codec]
    CODEC_FP32: _ClassVar[Codec]
    CODEC_FP16: _ClassVar[Codec]
PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_V1: Protocol
CODEC_UNSPECIFIED: Codec
CODEC_FP32: Codec
CODEC_FP16: Codec

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol", "fingerprint", "bundle_name", "sessions", "max_sessions")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    fingerprint: str
    bundle_name: str
    sessions: int
    max_sessions: int
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., fingerprint: _Optional[str] = ..., bundle_name: _Optional[str] = ..., sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ...) -> None: ...

class CollaborateRequest(_message.Message):
    __slots__ = ("open", "states", "ask", "generate")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    states: States
    ask: Ask
    generate: Generate
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., states: _Optional[_Union[States, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., generate: _Optional[_Union[Generate, _Mapping]] = ...) -> None: ...

class CollaborateResponse(_message.Message):
    __slots__ = ("opened", "token")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    token: Token
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "fingerprint", "codec", "temperature", "seed")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    fingerprint: str
    codec: Codec
    temperature: float
    seed: int
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., fingerprint: _Optional[str] = ..., codec: _Optional[_Union[Codec, str]] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "max_positions_per_frame")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_PER_FRAME_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    max_positions_per_frame: int
    def __init__(self, session_id: _Optional[str] = ..., max_positions_per_frame: _Optional[int] = ...) -> None: ...

class States(_message.Message):
    __slots__ = ("epoch", "position", "count", "payload")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    position: int
    count: int
    payload: bytes
    def __init__(self, epoch: _Optional[int] = ..., position: _Optional[int] = ..., count: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("epoch", "length", "position")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    length: int
    position: int
    def __init__(self, epoch: _Optional[int] = ..., length: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Generate(_message.Message):
    __slots__ = ("tokens", "max_tokens")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    max_tokens: int
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., max_tokens: _Optional[int] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("position", "token", "confidence", "computed_positions", "compute_s", "last")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    position: int
    token: int
    confidence: float
    computed_positions: int
    compute_s: float
    last: bool
    def __init__(self, position: _Optional[int] = ..., token: _Optional[int] = ..., confidence: _Optional[float] = ..., computed_positions: _Optional[int] = ..., compute_s: _Optional[float] = ..., last: _Optional[bool] = ...) -> None: ...
