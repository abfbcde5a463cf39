from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("record", "beat", "part", "end", "fault")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    record: CapabilityRecord
    beat: Beat
    part: AnswerPart
    end: AnswerEnd
    fault: AnswerFault
    def __init__(self, record: _Optional[_Union[CapabilityRecord, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., part: _Optional[_Union[AnswerPart, _Mapping]] = ..., end: _Optional[_Union[AnswerEnd, _Mapping]] = ..., fault: _Optional[_Union[AnswerFault, _Mapping]] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("welcome", "role", "work", "cancel")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    role: Role
    work: Work
    cancel: CancelWork
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., role: _Optional[_Union[Role, _Mapping]] = ..., work: _Optional[_Union[Work, _Mapping]] = ..., cancel: _Optional[_Union[CancelWork, _Mapping]] = ...) -> None: ...

class CapabilityRecord(_message.Message):
    __slots__ = ("node", "expert", "version", "revision", "device", "quality", "prompt_tokens", "first_token_ms", "per_token_ms", "prompt_j", "per_token_j", "standby_w", "context_length", "max_tokens", "concurrency")
    class QualityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    PER_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_J_FIELD_NUMBER: _ClassVar[int]
    PER_TOKEN_J_FIELD_NUMBER: _ClassVar[int]
    STANDBY_W_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    node: str
    expert: str
    version: str
    revision: int
    device: str
    quality: _containers.ScalarMap[str, float]
    prompt_tokens: int
    first_token_ms: float
    per_token_ms: float
    prompt_j: float
    per_token_j: float
    standby_w: float
    context_length: int
    max_tokens: int
    concurrency: int
    def __init__(self, node: _Optional[str] = ..., expert: _Optional[str] = ..., version: _Optional[str] = ..., revision: _Optional[int] = ..., device: _Optional[str] = ..., quality: _Optional[_Mapping[str, float]] = ..., prompt_tokens: _Optional[int] = ..., first_token_ms: _Optional[float] = ..., per_token_ms: _Optional[float] = ..., prompt_j: _Optional[float] = ..., per_token_j: _Optional[float] = ..., standby_w: _Optional[float] = ..., context_length: _Optional[int] = ..., max_tokens: _Optional[int] = ..., concurrency: _Optional[int] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("running", "spent_j", "exhausted", "ready", "leaving")
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SPENT_J_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    running: int
    spent_j: float
    exhausted: bool
    ready: bool
    leaving: bool
    def __init__(self, running: _Optional[int] = ..., spent_j: _Optional[float] = ..., exhausted: _Optional[bool] = ..., ready: _Optional[bool] = ..., leaving: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("beat_interval_ms",)
    BEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    beat_interval_ms: int
    def __init__(self, beat_interval_ms: _Optional[int] = ...) -> None: ...

class Role(_message.Message):
    __slots__ = ("plan_version", "on")
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    ON_FIELD_NUMBER: _ClassVar[int]
    plan_version: int
    on: bool
    def __init__(self, plan_version: _Optional[int] = ..., on: _Optional[bool] = ...) -> None: ...

class Work(_message.Message):
    __slots__ = ("id", "prompt", "max_tokens", "temperature", "seed", "deadline_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    id: int
    prompt: str
    max_tokens: int
    temperature: float
    seed: int
    deadline_ms: int
    def __init__(self, id: _Optional[int] = ..., prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class CancelWork(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class AnswerPart(_message.Message):
    __slots__ = ("id", "position", "text", "tokens")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    id: int
    position: int
    text: str
    tokens: int
    def __init__(self, id: _Optional[int] = ..., position: _Optional[int] = ..., text: _Optional[str] = ..., tokens: _Optional[int] = ...) -> None: ...

class AnswerEnd(_message.Message):
    __slots__ = ("id", "finish_reason", "usage", "routed")
    ID_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ROUTED_FIELD_NUMBER: _ClassVar[int]
    id: int
    finish_reason: str
    usage: UsageRecord
    routed: Routed
    def __init__(self, id: _Optional[int] = ..., finish_reason: _Optional[str] = ..., usage: _Optional[_Union[UsageRecord, _Mapping]] = ..., routed: _Optional[_Union[Routed, _Mapping]] = ...) -> None: ...

class AnswerFault(_message.Message):
    __slots__ = ("id", "code", "message")
    ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    id: int
    code: str
    message: str
    def __init__(self, id: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class UsageRecord(_message.Message):
    __slots__ = ("latency_ms", "first_token_ms", "energy_j", "energy_method", "prompt_tokens", "new_tokens", "uplink_bytes", "downlink_bytes", "cloud_tokens")
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    ENERGY_METHOD_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEW_TOKENS_FIELD_NUMBER: _ClassVar[int]
    UPLINK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOUD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    latency_ms: float
    first_token_ms: float
    energy_j: float
    energy_method: str
    prompt_tokens: int
    new_tokens: int
    uplink_bytes: int
    downlink_bytes: int
    cloud_tokens: int
    def __init__(self, latency_ms: _Optional[float] = ..., first_token_ms: _Optional[float] = ..., energy_j: _Optional[float] = ..., energy_method: _Optional[str] = ..., prompt_tokens: _Optional[int] = ..., new_tokens: _Optional[int] = ..., uplink_bytes: _Optional[int] = ..., downlink_bytes: _Optional[int] = ..., cloud_tokens: _Optional[int] = ...) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("prompt", "max_tokens", "temperature", "seed")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    prompt: str
    max_tokens: int
    temperature: float
    seed: int
    def __init__(self, prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

class AnswerResponse(_message.Message):
    __slots__ = ("routed", "part", "end")
    ROUTED_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    routed: Routed
    part: AnswerPart
    end: AnswerEnd
    def __init__(self, routed: _Optional[_Union[Routed, _Mapping]] = ..., part: _Optional[_Union[AnswerPart, _Mapping]] = ..., end: _Optional[_Union[AnswerEnd, _Mapping]] = ...) -> None: ...

class Routed(_message.Message):
    __slots__ = ("node", "expert", "quality", "attempt", "plan_version")
    NODE_FIELD_NUMBER: _ClassVar[int]
    EXPERT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    node: str
    expert: str
    quality: float
    attempt: int
    plan_version: int
    def __init__(self, node: _Optional[str] = ..., expert: _Optional[str] = ..., quality: _Optional[float] = ..., attempt: _Optional[int] = ..., plan_version: _Optional[int] = ...) -> None: ...

class GetPlanRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetPlanResponse(_message.Message):
    __slots__ = ("version", "nodes", "quality", "power_w", "gap", "reason", "planning_s", "quality_per_j", "answering", "waiting")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PLANNING_S_FIELD_NUMBER: _ClassVar[int]
    QUALITY_PER_J_FIELD_NUMBER: _ClassVar[int]
    ANSWERING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    version: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeState]
    quality: float
    power_w: float
    gap: float
    reason: str
    planning_s: float
    quality_per_j: float
    answering: int
    waiting: int
    def __init__(self, version: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeState, _Mapping]]] = ..., quality: _Optional[float] = ..., power_w: _Optional[float] = ..., gap: _Optional[float] = ..., reason: _Optional[str] = ..., planning_s: _Optional[float] = ..., quality_per_j: _Optional[float] = ..., answering: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class NodeState(_message.Message):
    __slots__ = ("record", "on", "ready", "exhausted", "running", "spent_j", "answers", "leaving")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    ON_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SPENT_J_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    record: CapabilityRecord
    on: bool
    ready: bool
    exhausted: bool
    running: int
    spent_j: float
    answers: int
    leaving: bool
    def __init__(self, record: _Optional[_Union[CapabilityRecord, _Mapping]] = ..., on: _Optional[bool] = ..., ready: _Optional[bool] = ..., exhausted: _Optional[bool] = ..., running: _Optional[int] = ..., spent_j: _Optional[float] = ..., answers: _Optional[int] = ..., leaving: _Optional[bool] = ...) -> None: ...
