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
    CODEC_BF16: _ClassVar[Codec]
    CODEC_INT8: _ClassVar[Codec]
    CODEC_INT6: _ClassVar[Codec]
    CODEC_INT4: _ClassVar[Codec]

class Inputs(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INPUTS_STATES: _ClassVar[Inputs]
    INPUTS_TOKENS: _ClassVar[Inputs]

class Feature(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_UNSPECIFIED: _ClassVar[Feature]
    FEATURE_CONSTRAINT: _ClassVar[Feature]
    FEATURE_TRUNCATION: _ClassVar[Feature]
    FEATURE_LOG_PROBABILITIES: _ClassVar[Feature]
PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_V1: Protocol
CODEC_UNSPECIFIED: Codec
CODEC_FP32: Codec
CODEC_FP16: Codec
CODEC_BF16: Codec
CODEC_INT8: Codec
CODEC_INT6: Codec
CODEC_INT4: Codec
INPUTS_STATES: Inputs
INPUTS_TOKENS: Inputs
FEATURE_UNSPECIFIED: Feature
FEATURE_CONSTRAINT: Feature
FEATURE_TRUNCATION: Feature
FEATURE_LOG_PROBABILITIES: Feature

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("protocol", "fingerprint", "bundle_name", "sessions", "max_sessions", "statistics", "features")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    fingerprint: str
    bundle_name: str
    sessions: int
    max_sessions: int
    statistics: Statistics
    features: _containers.RepeatedScalarFieldContainer[Feature]
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., fingerprint: _Optional[str] = ..., bundle_name: _Optional[str] = ..., sessions: _Optional[int] = ..., max_sessions: _Optional[int] = ..., statistics: _Optional[_Union[Statistics, _Mapping]] = ..., features: _Optional[_Iterable[_Union[Feature, str]]] = ...) -> None: ...

class Statistics(_message.Message):
    __slots__ = ("passes", "pass_positions", "pass_sessions", "busy_s", "frames", "overhead_cpu_s", "spilled", "restored", "evicted", "memory_bytes", "peak_memory_bytes", "detached_sessions")
    PASSES_FIELD_NUMBER: _ClassVar[int]
    PASS_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PASS_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_CPU_S_FIELD_NUMBER: _ClassVar[int]
    SPILLED_FIELD_NUMBER: _ClassVar[int]
    RESTORED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DETACHED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    passes: int
    pass_positions: int
    pass_sessions: int
    busy_s: float
    frames: int
    overhead_cpu_s: float
    spilled: int
    restored: int
    evicted: int
    memory_bytes: int
    peak_memory_bytes: int
    detached_sessions: int
    def __init__(self, passes: _Optional[int] = ..., pass_positions: _Optional[int] = ..., pass_sessions: _Optional[int] = ..., busy_s: _Optional[float] = ..., frames: _Optional[int] = ..., overhead_cpu_s: _Optional[float] = ..., spilled: _Optional[int] = ..., restored: _Optional[int] = ..., evicted: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., detached_sessions: _Optional[int] = ...) -> None: ...

class CollaborateRequest(_message.Message):
    __slots__ = ("open", "states", "ask", "generate", "resume", "close")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    GENERATE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    open: Open
    states: States
    ask: Ask
    generate: Generate
    resume: Resume
    close: Close
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., states: _Optional[_Union[States, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., generate: _Optional[_Union[Generate, _Mapping]] = ..., resume: _Optional[_Union[Resume, _Mapping]] = ..., close: _Optional[_Union[Close, _Mapping]] = ...) -> None: ...

class CollaborateResponse(_message.Message):
    __slots__ = ("opened", "token", "verdict", "ack", "need_from", "evicted")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NEED_FROM_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    token: Token
    verdict: Verdict
    ack: Ack
    need_from: NeedFrom
    evicted: Evicted
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., verdict: _Optional[_Union[Verdict, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., need_from: _Optional[_Union[NeedFrom, _Mapping]] = ..., evicted: _Optional[_Union[Evicted, _Mapping]] = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("session_id", "states")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    states: States
    def __init__(self, session_id: _Optional[str] = ..., states: _Optional[_Union[States, _Mapping]] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("received",)
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    received: int
    def __init__(self, received: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("protocol", "fingerprint", "codec", "temperature", "seed", "inputs", "logits_above", "all_logits", "top_p", "top_k", "constraint", "log_probabilities")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LOGITS_ABOVE_FIELD_NUMBER: _ClassVar[int]
    ALL_LOGITS_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    fingerprint: str
    codec: Codec
    temperature: float
    seed: int
    inputs: Inputs
    logits_above: float
    all_logits: bool
    top_p: float
    top_k: int
    constraint: Constraint
    log_probabilities: int
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., fingerprint: _Optional[str] = ..., codec: _Optional[_Union[Codec, str]] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., inputs: _Optional[_Union[Inputs, str]] = ..., logits_above: _Optional[float] = ..., all_logits: _Optional[bool] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., constraint: _Optional[_Union[Constraint, _Mapping]] = ..., log_probabilities: _Optional[int] = ...) -> None: ...

class Constraint(_message.Message):
    __slots__ = ("kind", "text", "start")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    kind: str
    text: str
    start: int
    def __init__(self, kind: _Optional[str] = ..., text: _Optional[str] = ..., start: _Optional[int] = ...) -> None: ...

class Resume(_message.Message):
    __slots__ = ("open", "session_id", "epoch", "length", "prefix_hash")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PREFIX_HASH_FIELD_NUMBER: _ClassVar[int]
    open: Open
    session_id: str
    epoch: int
    length: int
    prefix_hash: bytes
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., length: _Optional[int] = ..., prefix_hash: _Optional[bytes] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("session_id", "max_positions_per_frame", "credit", "resumed", "position", "features")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITIONS_PER_FRAME_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    max_positions_per_frame: int
    credit: int
    resumed: bool
    position: int
    features: _containers.RepeatedScalarFieldContainer[Feature]
    def __init__(self, session_id: _Optional[str] = ..., max_positions_per_frame: _Optional[int] = ..., credit: _Optional[int] = ..., resumed: _Optional[bool] = ..., position: _Optional[int] = ..., features: _Optional[_Iterable[_Union[Feature, str]]] = ...) -> None: ...

class States(_message.Message):
    __slots__ = ("epoch", "position", "count", "payload", "drafts", "committed", "flush", "window_start", "if_replaced", "tokens")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    DRAFTS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    FLUSH_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_FIELD_NUMBER: _ClassVar[int]
    IF_REPLACED_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    position: int
    count: int
    payload: bytes
    drafts: _containers.RepeatedScalarFieldContainer[int]
    committed: _containers.RepeatedScalarFieldContainer[bool]
    flush: bool
    window_start: int
    if_replaced: Replacement
    tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch: _Optional[int] = ..., position: _Optional[int] = ..., count: _Optional[int] = ..., payload: _Optional[bytes] = ..., drafts: _Optional[_Iterable[int]] = ..., committed: _Optional[_Iterable[bool]] = ..., flush: _Optional[bool] = ..., window_start: _Optional[int] = ..., if_replaced: _Optional[_Union[Replacement, _Mapping]] = ..., tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class Replacement(_message.Message):
    __slots__ = ("position", "token")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    position: int
    token: int
    def __init__(self, position: _Optional[int] = ..., token: _Optional[int] = ...) -> None: ...

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

class Close(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Token(_message.Message):
    __slots__ = ("position", "token", "confidence", "computed_positions", "compute_s", "last", "log_probabilities")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    position: int
    token: int
    confidence: float
    computed_positions: int
    compute_s: float
    last: bool
    log_probabilities: LogProbabilities
    def __init__(self, position: _Optional[int] = ..., token: _Optional[int] = ..., confidence: _Optional[float] = ..., computed_positions: _Optional[int] = ..., compute_s: _Optional[float] = ..., last: _Optional[bool] = ..., log_probabilities: _Optional[_Union[LogProbabilities, _Mapping]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("epoch", "position", "tokens", "rejected", "confidences", "computed_positions", "compute_s", "logits", "log_probabilities")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCES_FIELD_NUMBER: _ClassVar[int]
    COMPUTED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_S_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    position: int
    tokens: _containers.RepeatedScalarFieldContainer[int]
    rejected: bool
    confidences: _containers.RepeatedScalarFieldContainer[float]
    computed_positions: int
    compute_s: float
    logits: _containers.RepeatedCompositeFieldContainer[Logits]
    log_probabilities: _containers.RepeatedCompositeFieldContainer[LogProbabilities]
    def __init__(self, epoch: _Optional[int] = ..., position: _Optional[int] = ..., tokens: _Optional[_Iterable[int]] = ..., rejected: _Optional[bool] = ..., confidences: _Optional[_Iterable[float]] = ..., computed_positions: _Optional[int] = ..., compute_s: _Optional[float] = ..., logits: _Optional[_Iterable[_Union[Logits, _Mapping]]] = ..., log_probabilities: _Optional[_Iterable[_Union[LogProbabilities, _Mapping]]] = ...) -> None: ...

class LogProbabilities(_message.Message):
    __slots__ = ("chosen", "tokens", "values")
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    chosen: float
    tokens: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, chosen: _Optional[float] = ..., tokens: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Logits(_message.Message):
    __slots__ = ("tokens", "values")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("received",)
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    received: int
    def __init__(self, received: _Optional[int] = ...) -> None: ...

class NeedFrom(_message.Message):
    __slots__ = ("epoch", "position")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    position: int
    def __init__(self, epoch: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Evicted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
