from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QuorumMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUORUM_MODE_UNSPECIFIED: _ClassVar[QuorumMode]
    QUORUM_MODE_STRICT: _ClassVar[QuorumMode]
    QUORUM_MODE_SLOPPY: _ClassVar[QuorumMode]

class TableKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TABLE_KIND_UNSPECIFIED: _ClassVar[TableKind]
    TABLE_KIND_LWW: _ClassVar[TableKind]
    TABLE_KIND_CAUSAL: _ClassVar[TableKind]
    TABLE_KIND_LINEARIZABLE: _ClassVar[TableKind]

class Sloppy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SLOPPY_UNSPECIFIED: _ClassVar[Sloppy]
    SLOPPY_NEVER: _ClassVar[Sloppy]
    SLOPPY_REQUEST: _ClassVar[Sloppy]
    SLOPPY_ALWAYS: _ClassVar[Sloppy]
QUORUM_MODE_UNSPECIFIED: QuorumMode
QUORUM_MODE_STRICT: QuorumMode
QUORUM_MODE_SLOPPY: QuorumMode
TABLE_KIND_UNSPECIFIED: TableKind
TABLE_KIND_LWW: TableKind
TABLE_KIND_CAUSAL: TableKind
TABLE_KIND_LINEARIZABLE: TableKind
SLOPPY_UNSPECIFIED: Sloppy
SLOPPY_NEVER: Sloppy
SLOPPY_REQUEST: Sloppy
SLOPPY_ALWAYS: Sloppy

class Quorum(_message.Message):
    __slots__ = ("count", "named")
    class Named(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NAMED_UNSPECIFIED: _ClassVar[Quorum.Named]
        NAMED_ONE: _ClassVar[Quorum.Named]
        NAMED_QUORUM: _ClassVar[Quorum.Named]
        NAMED_ALL: _ClassVar[Quorum.Named]
    NAMED_UNSPECIFIED: Quorum.Named
    NAMED_ONE: Quorum.Named
    NAMED_QUORUM: Quorum.Named
    NAMED_ALL: Quorum.Named
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NAMED_FIELD_NUMBER: _ClassVar[int]
    count: int
    named: Quorum.Named
    def __init__(self, count: _Optional[int] = ..., named: _Optional[_Union[Quorum.Named, str]] = ...) -> None: ...

class RequestHeader(_message.Message):
    __slots__ = ("table", "timeout_ms", "trace_id")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    table: str
    timeout_ms: int
    trace_id: bytes
    def __init__(self, table: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., trace_id: _Optional[bytes] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("request_id", "number", "lower_ns", "upper_ns", "since_ns")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LOWER_NS_FIELD_NUMBER: _ClassVar[int]
    UPPER_NS_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    number: int
    lower_ns: int
    upper_ns: int
    since_ns: int
    def __init__(self, request_id: _Optional[bytes] = ..., number: _Optional[int] = ..., lower_ns: _Optional[int] = ..., upper_ns: _Optional[int] = ..., since_ns: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("header", "key", "r", "mode", "monotonic", "trace")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    r: Quorum
    mode: QuorumMode
    monotonic: bool
    trace: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., r: _Optional[_Union[Quorum, _Mapping]] = ..., mode: _Optional[_Union[QuorumMode, str]] = ..., monotonic: bool = ..., trace: bool = ...) -> None: ...

class TraceStep(_message.Message):
    __slots__ = ("at_ns", "member", "event")
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    at_ns: int
    member: str
    event: str
    def __init__(self, at_ns: _Optional[int] = ..., member: _Optional[str] = ..., event: _Optional[str] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("found", "value", "receipt", "expires_ns", "siblings", "sibling_count", "context", "trace", "total_ns")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    SIBLING_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    found: bool
    value: bytes
    receipt: Receipt
    expires_ns: int
    siblings: _containers.RepeatedCompositeFieldContainer[Sibling]
    sibling_count: int
    context: bytes
    trace: _containers.RepeatedCompositeFieldContainer[TraceStep]
    total_ns: int
    def __init__(self, found: bool = ..., value: _Optional[bytes] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., expires_ns: _Optional[int] = ..., siblings: _Optional[_Iterable[_Union[Sibling, _Mapping]]] = ..., sibling_count: _Optional[int] = ..., context: _Optional[bytes] = ..., trace: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., total_ns: _Optional[int] = ...) -> None: ...

class Sibling(_message.Message):
    __slots__ = ("value", "stamp", "expires_ns", "counter")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    stamp: bytes
    expires_ns: int
    counter: bool
    def __init__(self, value: _Optional[bytes] = ..., stamp: _Optional[bytes] = ..., expires_ns: _Optional[int] = ..., counter: bool = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("header", "key", "value", "w", "r", "attempt", "ttl_ms", "time_ns", "mode", "context", "trace")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    value: bytes
    w: Quorum
    r: Quorum
    attempt: Attempt
    ttl_ms: int
    time_ns: int
    mode: QuorumMode
    context: bytes
    trace: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., w: _Optional[_Union[Quorum, _Mapping]] = ..., r: _Optional[_Union[Quorum, _Mapping]] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., ttl_ms: _Optional[int] = ..., time_ns: _Optional[int] = ..., mode: _Optional[_Union[QuorumMode, str]] = ..., context: _Optional[bytes] = ..., trace: bool = ...) -> None: ...

class PutResponse(_message.Message):
    __slots__ = ("receipt", "context", "sibling_count", "trace", "total_ns")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SIBLING_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    context: bytes
    sibling_count: int
    trace: _containers.RepeatedCompositeFieldContainer[TraceStep]
    total_ns: int
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., context: _Optional[bytes] = ..., sibling_count: _Optional[int] = ..., trace: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., total_ns: _Optional[int] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("header", "key", "w", "r", "attempt", "mode", "context", "trace", "time_ns")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    w: Quorum
    r: Quorum
    attempt: Attempt
    mode: QuorumMode
    context: bytes
    trace: bool
    time_ns: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., w: _Optional[_Union[Quorum, _Mapping]] = ..., r: _Optional[_Union[Quorum, _Mapping]] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., mode: _Optional[_Union[QuorumMode, str]] = ..., context: _Optional[bytes] = ..., trace: bool = ..., time_ns: _Optional[int] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("receipt", "context", "sibling_count", "trace", "total_ns")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SIBLING_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    context: bytes
    sibling_count: int
    trace: _containers.RepeatedCompositeFieldContainer[TraceStep]
    total_ns: int
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., context: _Optional[bytes] = ..., sibling_count: _Optional[int] = ..., trace: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., total_ns: _Optional[int] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("header", "items", "w", "attempt", "atomic")
    class Item(_message.Message):
        __slots__ = ("key", "value", "ttl_ms")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        TTL_MS_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        ttl_ms: int
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ...) -> None: ...
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ATOMIC_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    items: _containers.RepeatedCompositeFieldContainer[BatchRequest.Item]
    w: Quorum
    attempt: Attempt
    atomic: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., items: _Optional[_Iterable[_Union[BatchRequest.Item, _Mapping]]] = ..., w: _Optional[_Union[Quorum, _Mapping]] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., atomic: bool = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("outcomes",)
    class Outcome(_message.Message):
        __slots__ = ("receipt", "error", "group")
        RECEIPT_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        GROUP_FIELD_NUMBER: _ClassVar[int]
        receipt: Receipt
        error: ErrorDetail
        group: int
        def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ..., group: _Optional[int] = ...) -> None: ...
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[BatchResponse.Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[BatchResponse.Outcome, _Mapping]]] = ...) -> None: ...

class CasRequest(_message.Message):
    __slots__ = ("header", "key", "absent", "value_is", "stamp_is", "value", "ttl_ms", "attempt")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    VALUE_IS_FIELD_NUMBER: _ClassVar[int]
    STAMP_IS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    absent: bool
    value_is: bytes
    stamp_is: bytes
    value: bytes
    ttl_ms: int
    attempt: Attempt
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., absent: bool = ..., value_is: _Optional[bytes] = ..., stamp_is: _Optional[bytes] = ..., value: _Optional[bytes] = ..., ttl_ms: _Optional[int] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ...) -> None: ...

class CasResponse(_message.Message):
    __slots__ = ("applied", "receipt", "current")
    class Version(_message.Message):
        __slots__ = ("value", "stamp", "expires_ns")
        VALUE_FIELD_NUMBER: _ClassVar[int]
        STAMP_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
        value: bytes
        stamp: bytes
        expires_ns: int
        def __init__(self, value: _Optional[bytes] = ..., stamp: _Optional[bytes] = ..., expires_ns: _Optional[int] = ...) -> None: ...
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    applied: bool
    receipt: Receipt
    current: CasResponse.Version
    def __init__(self, applied: bool = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., current: _Optional[_Union[CasResponse.Version, _Mapping]] = ...) -> None: ...

class IncrementRequest(_message.Message):
    __slots__ = ("header", "key", "by", "w", "attempt", "mode", "trace")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    by: int
    w: Quorum
    attempt: Attempt
    mode: QuorumMode
    trace: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., by: _Optional[int] = ..., w: _Optional[_Union[Quorum, _Mapping]] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., mode: _Optional[_Union[QuorumMode, str]] = ..., trace: bool = ...) -> None: ...

class IncrementResponse(_message.Message):
    __slots__ = ("value", "receipt", "trace", "total_ns")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    value: int
    receipt: Receipt
    trace: _containers.RepeatedCompositeFieldContainer[TraceStep]
    total_ns: int
    def __init__(self, value: _Optional[int] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., trace: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., total_ns: _Optional[int] = ...) -> None: ...

class GetOutcomeRequest(_message.Message):
    __slots__ = ("header", "key", "request_id", "since_ns", "lower_ns")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    LOWER_NS_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    key: bytes
    request_id: bytes
    since_ns: int
    lower_ns: int
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., key: _Optional[bytes] = ..., request_id: _Optional[bytes] = ..., since_ns: _Optional[int] = ..., lower_ns: _Optional[int] = ...) -> None: ...

class GetOutcomeResponse(_message.Message):
    __slots__ = ("fate", "stamp", "receipt")
    class Fate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        FATE_UNSPECIFIED: _ClassVar[GetOutcomeResponse.Fate]
        FATE_APPLIED: _ClassVar[GetOutcomeResponse.Fate]
        FATE_CANCELLED: _ClassVar[GetOutcomeResponse.Fate]
    FATE_UNSPECIFIED: GetOutcomeResponse.Fate
    FATE_APPLIED: GetOutcomeResponse.Fate
    FATE_CANCELLED: GetOutcomeResponse.Fate
    FATE_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    fate: GetOutcomeResponse.Fate
    stamp: bytes
    receipt: Receipt
    def __init__(self, fate: _Optional[_Union[GetOutcomeResponse.Fate, str]] = ..., stamp: _Optional[bytes] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("header", "prefix", "after", "limit", "keys_only", "r", "reverse")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    KEYS_ONLY_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    REVERSE_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    prefix: bytes
    after: bytes
    limit: int
    keys_only: bool
    r: Quorum
    reverse: bool
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., prefix: _Optional[bytes] = ..., after: _Optional[bytes] = ..., limit: _Optional[int] = ..., keys_only: bool = ..., r: _Optional[_Union[Quorum, _Mapping]] = ..., reverse: bool = ...) -> None: ...

class ScanResponse(_message.Message):
    __slots__ = ("entries", "more", "resume", "receipt")
    class Entry(_message.Message):
        __slots__ = ("key", "value", "stamp", "expires_ns", "sibling_count", "value_left_out")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        STAMP_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
        SIBLING_COUNT_FIELD_NUMBER: _ClassVar[int]
        VALUE_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        value: bytes
        stamp: bytes
        expires_ns: int
        sibling_count: int
        value_left_out: bool
        def __init__(self, key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., stamp: _Optional[bytes] = ..., expires_ns: _Optional[int] = ..., sibling_count: _Optional[int] = ..., value_left_out: bool = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ScanResponse.Entry]
    more: bool
    resume: bytes
    receipt: Receipt
    def __init__(self, entries: _Optional[_Iterable[_Union[ScanResponse.Entry, _Mapping]]] = ..., more: bool = ..., resume: _Optional[bytes] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("header", "prefix", "values", "token")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    header: RequestHeader
    prefix: bytes
    values: bool
    token: bytes
    def __init__(self, header: _Optional[_Union[RequestHeader, _Mapping]] = ..., prefix: _Optional[bytes] = ..., values: bool = ..., token: _Optional[bytes] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("events", "token", "epoch")
    class Event(_message.Message):
        __slots__ = ("began", "change", "gap", "whole")
        BEGAN_FIELD_NUMBER: _ClassVar[int]
        CHANGE_FIELD_NUMBER: _ClassVar[int]
        GAP_FIELD_NUMBER: _ClassVar[int]
        WHOLE_FIELD_NUMBER: _ClassVar[int]
        began: bool
        change: WatchResponse.Change
        gap: WatchResponse.Gap
        whole: bool
        def __init__(self, began: bool = ..., change: _Optional[_Union[WatchResponse.Change, _Mapping]] = ..., gap: _Optional[_Union[WatchResponse.Gap, _Mapping]] = ..., whole: bool = ...) -> None: ...
    class Change(_message.Message):
        __slots__ = ("key", "stamp", "deleted", "expires_ns", "sibling_count", "value", "value_left_out")
        KEY_FIELD_NUMBER: _ClassVar[int]
        STAMP_FIELD_NUMBER: _ClassVar[int]
        DELETED_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
        SIBLING_COUNT_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        VALUE_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
        key: bytes
        stamp: bytes
        deleted: bool
        expires_ns: int
        sibling_count: int
        value: bytes
        value_left_out: bool
        def __init__(self, key: _Optional[bytes] = ..., stamp: _Optional[bytes] = ..., deleted: bool = ..., expires_ns: _Optional[int] = ..., sibling_count: _Optional[int] = ..., value: _Optional[bytes] = ..., value_left_out: bool = ...) -> None: ...
    class Gap(_message.Message):
        __slots__ = ("reason", "partitions", "count")
        REASON_FIELD_NUMBER: _ClassVar[int]
        PARTITIONS_FIELD_NUMBER: _ClassVar[int]
        COUNT_FIELD_NUMBER: _ClassVar[int]
        reason: str
        partitions: _containers.RepeatedScalarFieldContainer[int]
        count: int
        def __init__(self, reason: _Optional[str] = ..., partitions: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ...) -> None: ...
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[WatchResponse.Event]
    token: bytes
    epoch: int
    def __init__(self, events: _Optional[_Iterable[_Union[WatchResponse.Event, _Mapping]]] = ..., token: _Optional[bytes] = ..., epoch: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("epoch", "stamp", "answered", "n", "needed", "weak", "repaired", "server_time_ns", "trace_id", "stand_ins", "may_miss", "many_siblings", "client_time", "superseded", "superseded_by")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STAMP_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    WEAK_FIELD_NUMBER: _ClassVar[int]
    REPAIRED_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    STAND_INS_FIELD_NUMBER: _ClassVar[int]
    MAY_MISS_FIELD_NUMBER: _ClassVar[int]
    MANY_SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_FIELD_NUMBER: _ClassVar[int]
    SUPERSEDED_BY_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    stamp: bytes
    answered: int
    n: int
    needed: int
    weak: bool
    repaired: bool
    server_time_ns: int
    trace_id: bytes
    stand_ins: int
    may_miss: bool
    many_siblings: bool
    client_time: bool
    superseded: bool
    superseded_by: bytes
    def __init__(self, epoch: _Optional[int] = ..., stamp: _Optional[bytes] = ..., answered: _Optional[int] = ..., n: _Optional[int] = ..., needed: _Optional[int] = ..., weak: bool = ..., repaired: bool = ..., server_time_ns: _Optional[int] = ..., trace_id: _Optional[bytes] = ..., stand_ins: _Optional[int] = ..., may_miss: bool = ..., many_siblings: bool = ..., client_time: bool = ..., superseded: bool = ..., superseded_by: _Optional[bytes] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("ops",)
    class Op(_message.Message):
        __slots__ = ("id", "get", "put", "delete", "cas", "get_outcome", "increment", "batch")
        ID_FIELD_NUMBER: _ClassVar[int]
        GET_FIELD_NUMBER: _ClassVar[int]
        PUT_FIELD_NUMBER: _ClassVar[int]
        DELETE_FIELD_NUMBER: _ClassVar[int]
        CAS_FIELD_NUMBER: _ClassVar[int]
        GET_OUTCOME_FIELD_NUMBER: _ClassVar[int]
        INCREMENT_FIELD_NUMBER: _ClassVar[int]
        BATCH_FIELD_NUMBER: _ClassVar[int]
        id: int
        get: GetRequest
        put: PutRequest
        delete: DeleteRequest
        cas: CasRequest
        get_outcome: GetOutcomeRequest
        increment: IncrementRequest
        batch: BatchRequest
        def __init__(self, id: _Optional[int] = ..., get: _Optional[_Union[GetRequest, _Mapping]] = ..., put: _Optional[_Union[PutRequest, _Mapping]] = ..., delete: _Optional[_Union[DeleteRequest, _Mapping]] = ..., cas: _Optional[_Union[CasRequest, _Mapping]] = ..., get_outcome: _Optional[_Union[GetOutcomeRequest, _Mapping]] = ..., increment: _Optional[_Union[IncrementRequest, _Mapping]] = ..., batch: _Optional[_Union[BatchRequest, _Mapping]] = ...) -> None: ...
    OPS_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedCompositeFieldContainer[SessionRequest.Op]
    def __init__(self, ops: _Optional[_Iterable[_Union[SessionRequest.Op, _Mapping]]] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("answers",)
    class Answer(_message.Message):
        __slots__ = ("id", "get", "put", "delete", "error", "cas", "get_outcome", "increment", "batch")
        ID_FIELD_NUMBER: _ClassVar[int]
        GET_FIELD_NUMBER: _ClassVar[int]
        PUT_FIELD_NUMBER: _ClassVar[int]
        DELETE_FIELD_NUMBER: _ClassVar[int]
        ERROR_FIELD_NUMBER: _ClassVar[int]
        CAS_FIELD_NUMBER: _ClassVar[int]
        GET_OUTCOME_FIELD_NUMBER: _ClassVar[int]
        INCREMENT_FIELD_NUMBER: _ClassVar[int]
        BATCH_FIELD_NUMBER: _ClassVar[int]
        id: int
        get: GetResponse
        put: PutResponse
        delete: DeleteResponse
        error: ErrorDetail
        cas: CasResponse
        get_outcome: GetOutcomeResponse
        increment: IncrementResponse
        batch: BatchResponse
        def __init__(self, id: _Optional[int] = ..., get: _Optional[_Union[GetResponse, _Mapping]] = ..., put: _Optional[_Union[PutResponse, _Mapping]] = ..., delete: _Optional[_Union[DeleteResponse, _Mapping]] = ..., error: _Optional[_Union[ErrorDetail, _Mapping]] = ..., cas: _Optional[_Union[CasResponse, _Mapping]] = ..., get_outcome: _Optional[_Union[GetOutcomeResponse, _Mapping]] = ..., increment: _Optional[_Union[IncrementResponse, _Mapping]] = ..., batch: _Optional[_Union[BatchResponse, _Mapping]] = ...) -> None: ...
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[SessionResponse.Answer]
    def __init__(self, answers: _Optional[_Iterable[_Union[SessionResponse.Answer, _Mapping]]] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("code", "message", "retryable", "applied", "limit", "needed", "got", "epoch", "retry_after_ms", "server_time_ns", "bound", "trace", "total_ns")
    class Applied(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        APPLIED_UNKNOWN: _ClassVar[ErrorDetail.Applied]
        APPLIED_NO: _ClassVar[ErrorDetail.Applied]
        APPLIED_YES: _ClassVar[ErrorDetail.Applied]
    APPLIED_UNKNOWN: ErrorDetail.Applied
    APPLIED_NO: ErrorDetail.Applied
    APPLIED_YES: ErrorDetail.Applied
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    GOT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    applied: ErrorDetail.Applied
    limit: int
    needed: int
    got: int
    epoch: int
    retry_after_ms: int
    server_time_ns: int
    bound: str
    trace: _containers.RepeatedCompositeFieldContainer[TraceStep]
    total_ns: int
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., applied: _Optional[_Union[ErrorDetail.Applied, str]] = ..., limit: _Optional[int] = ..., needed: _Optional[int] = ..., got: _Optional[int] = ..., epoch: _Optional[int] = ..., retry_after_ms: _Optional[int] = ..., server_time_ns: _Optional[int] = ..., bound: _Optional[str] = ..., trace: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ..., total_ns: _Optional[int] = ...) -> None: ...

class WatchRingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RingUpdate(_message.Message):
    __slots__ = ("epoch", "members", "placement", "units", "server_time_ns")
    class Members(_message.Message):
        __slots__ = ("list",)
        LIST_FIELD_NUMBER: _ClassVar[int]
        list: _containers.RepeatedCompositeFieldContainer[RingUpdate.Member]
        def __init__(self, list: _Optional[_Iterable[_Union[RingUpdate.Member, _Mapping]]] = ...) -> None: ...
    class Member(_message.Message):
        __slots__ = ("id", "name", "address", "zone", "state", "role", "serving")
        ID_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        ADDRESS_FIELD_NUMBER: _ClassVar[int]
        ZONE_FIELD_NUMBER: _ClassVar[int]
        STATE_FIELD_NUMBER: _ClassVar[int]
        ROLE_FIELD_NUMBER: _ClassVar[int]
        SERVING_FIELD_NUMBER: _ClassVar[int]
        id: int
        name: str
        address: str
        zone: str
        state: str
        role: str
        serving: bool
        def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., address: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[str] = ..., role: _Optional[str] = ..., serving: bool = ...) -> None: ...
    class Placement(_message.Message):
        __slots__ = ("cluster_id", "cluster_name", "ring", "classes", "tables")
        CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
        CLUSTER_NAME_FIELD_NUMBER: _ClassVar[int]
        RING_FIELD_NUMBER: _ClassVar[int]
        CLASSES_FIELD_NUMBER: _ClassVar[int]
        TABLES_FIELD_NUMBER: _ClassVar[int]
        cluster_id: bytes
        cluster_name: str
        ring: _containers.RepeatedScalarFieldContainer[int]
        classes: _containers.RepeatedCompositeFieldContainer[RingUpdate.Class]
        tables: _containers.RepeatedCompositeFieldContainer[RingUpdate.Table]
        def __init__(self, cluster_id: _Optional[bytes] = ..., cluster_name: _Optional[str] = ..., ring: _Optional[_Iterable[int]] = ..., classes: _Optional[_Iterable[_Union[RingUpdate.Class, _Mapping]]] = ..., tables: _Optional[_Iterable[_Union[RingUpdate.Table, _Mapping]]] = ...) -> None: ...
    class Class(_message.Message):
        __slots__ = ("n", "r_min", "w_min", "owner_counts", "owners", "moving")
        N_FIELD_NUMBER: _ClassVar[int]
        R_MIN_FIELD_NUMBER: _ClassVar[int]
        W_MIN_FIELD_NUMBER: _ClassVar[int]
        OWNER_COUNTS_FIELD_NUMBER: _ClassVar[int]
        OWNERS_FIELD_NUMBER: _ClassVar[int]
        MOVING_FIELD_NUMBER: _ClassVar[int]
        n: int
        r_min: int
        w_min: int
        owner_counts: _containers.RepeatedScalarFieldContainer[int]
        owners: _containers.RepeatedScalarFieldContainer[int]
        moving: _containers.RepeatedCompositeFieldContainer[RingUpdate.Unit]
        def __init__(self, n: _Optional[int] = ..., r_min: _Optional[int] = ..., w_min: _Optional[int] = ..., owner_counts: _Optional[_Iterable[int]] = ..., owners: _Optional[_Iterable[int]] = ..., moving: _Optional[_Iterable[_Union[RingUpdate.Unit, _Mapping]]] = ...) -> None: ...
    class Unit(_message.Message):
        __slots__ = ("partition", "owners", "other", "read_new")
        CLASS_FIELD_NUMBER: _ClassVar[int]
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        OWNERS_FIELD_NUMBER: _ClassVar[int]
        OTHER_FIELD_NUMBER: _ClassVar[int]
        READ_NEW_FIELD_NUMBER: _ClassVar[int]
        partition: int
        owners: _containers.RepeatedScalarFieldContainer[int]
        other: _containers.RepeatedScalarFieldContainer[int]
        read_new: bool
        def __init__(self, partition: _Optional[int] = ..., owners: _Optional[_Iterable[int]] = ..., other: _Optional[_Iterable[int]] = ..., read_new: bool = ..., **kwargs) -> None: ...
    class Table(_message.Message):
        __slots__ = ("name",)
        NAME_FIELD_NUMBER: _ClassVar[int]
        CLASS_FIELD_NUMBER: _ClassVar[int]
        name: str
        def __init__(self, name: _Optional[str] = ..., **kwargs) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    members: RingUpdate.Members
    placement: RingUpdate.Placement
    units: _containers.RepeatedCompositeFieldContainer[RingUpdate.Unit]
    server_time_ns: int
    def __init__(self, epoch: _Optional[int] = ..., members: _Optional[_Union[RingUpdate.Members, _Mapping]] = ..., placement: _Optional[_Union[RingUpdate.Placement, _Mapping]] = ..., units: _Optional[_Iterable[_Union[RingUpdate.Unit, _Mapping]]] = ..., server_time_ns: _Optional[int] = ...) -> None: ...

class Table(_message.Message):
    __slots__ = ("id", "name", "kind", "n", "r", "w", "r_min", "w_min", "sloppy", "ttl_ms", "value_bytes_max")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    R_MIN_FIELD_NUMBER: _ClassVar[int]
    W_MIN_FIELD_NUMBER: _ClassVar[int]
    SLOPPY_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    kind: TableKind
    n: int
    r: int
    w: int
    r_min: int
    w_min: int
    sloppy: Sloppy
    ttl_ms: int
    value_bytes_max: int
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[TableKind, str]] = ..., n: _Optional[int] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., r_min: _Optional[int] = ..., w_min: _Optional[int] = ..., sloppy: _Optional[_Union[Sloppy, str]] = ..., ttl_ms: _Optional[int] = ..., value_bytes_max: _Optional[int] = ..., **kwargs) -> None: ...

class TableHeader(_message.Message):
    __slots__ = ("timeout_ms", "request_id")
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    timeout_ms: int
    request_id: bytes
    def __init__(self, timeout_ms: _Optional[int] = ..., request_id: _Optional[bytes] = ...) -> None: ...

class CreateTableRequest(_message.Message):
    __slots__ = ("header", "name", "kind", "n", "r", "w", "r_min", "w_min", "sloppy", "ttl_ms", "value_bytes_max")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    R_MIN_FIELD_NUMBER: _ClassVar[int]
    W_MIN_FIELD_NUMBER: _ClassVar[int]
    SLOPPY_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    header: TableHeader
    name: str
    kind: TableKind
    n: int
    r: int
    w: int
    r_min: int
    w_min: int
    sloppy: Sloppy
    ttl_ms: int
    value_bytes_max: int
    def __init__(self, header: _Optional[_Union[TableHeader, _Mapping]] = ..., name: _Optional[str] = ..., kind: _Optional[_Union[TableKind, str]] = ..., n: _Optional[int] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., r_min: _Optional[int] = ..., w_min: _Optional[int] = ..., sloppy: _Optional[_Union[Sloppy, str]] = ..., ttl_ms: _Optional[int] = ..., value_bytes_max: _Optional[int] = ...) -> None: ...

class AlterTableRequest(_message.Message):
    __slots__ = ("header", "name", "r", "w", "sloppy", "ttl_ms", "value_bytes_max")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    R_FIELD_NUMBER: _ClassVar[int]
    W_FIELD_NUMBER: _ClassVar[int]
    SLOPPY_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    header: TableHeader
    name: str
    r: int
    w: int
    sloppy: Sloppy
    ttl_ms: int
    value_bytes_max: int
    def __init__(self, header: _Optional[_Union[TableHeader, _Mapping]] = ..., name: _Optional[str] = ..., r: _Optional[int] = ..., w: _Optional[int] = ..., sloppy: _Optional[_Union[Sloppy, str]] = ..., ttl_ms: _Optional[int] = ..., value_bytes_max: _Optional[int] = ...) -> None: ...

class DropTableRequest(_message.Message):
    __slots__ = ("header", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: TableHeader
    name: str
    def __init__(self, header: _Optional[_Union[TableHeader, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class DescribeTableRequest(_message.Message):
    __slots__ = ("header", "name")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    header: TableHeader
    name: str
    def __init__(self, header: _Optional[_Union[TableHeader, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class ListTablesRequest(_message.Message):
    __slots__ = ("header",)
    HEADER_FIELD_NUMBER: _ClassVar[int]
    header: TableHeader
    def __init__(self, header: _Optional[_Union[TableHeader, _Mapping]] = ...) -> None: ...

class TableResponse(_message.Message):
    __slots__ = ("epoch", "table", "confirmed")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    table: Table
    confirmed: bool
    def __init__(self, epoch: _Optional[int] = ..., table: _Optional[_Union[Table, _Mapping]] = ..., confirmed: bool = ...) -> None: ...

class ListTablesResponse(_message.Message):
    __slots__ = ("epoch", "tables", "confirmed")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    tables: _containers.RepeatedCompositeFieldContainer[Table]
    confirmed: bool
    def __init__(self, epoch: _Optional[int] = ..., tables: _Optional[_Iterable[_Union[Table, _Mapping]]] = ..., confirmed: bool = ...) -> None: ...
