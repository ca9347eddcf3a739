"""Each request of this package as an operation: the message it sends, but for what differs between
attempts, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from . import _errors as errors
from . import _wire as wire
from ._attempts import Attempt, Named
from ._errors import RoundtableError, malformed
from ._types import (
    CasReply,
    Data,
    FoundVersion,
    GetReply,
    Incremented,
    Outcome,
    Quorum,
    Receipt,
    Sibling,
    Siblings,
    Stamp,
    WriteId,
    Written,
)
from .v1 import kv_pb2 as pb

T = TypeVar("T")

KV = "roundtable.v1.Kv"


@dataclass
class Operation(Generic[T]):
    """A request of any kind."""

    service: str
    method: str
    build: Callable[[float, Attempt | None], Any]
    """The message of one attempt: what the server is told it has, in seconds, and which try it is."""
    read: Callable[[Any], T]
    """What the answer means."""
    answer: Any
    """The class of the answer."""
    is_write: bool = False
    is_known_by_id: bool = False
    """Whether the server knows its attempts to be one by their id, so that another may follow one of
    which nothing is known, without a window."""
    is_quick: bool = True
    """Whether one takes about as long as another: its attempts are then given up soon after answers
    usually come."""
    is_once: bool = False
    """Whether nothing may follow an attempt that may have been applied."""
    named: Named | None = None


@dataclass(frozen=True)
class Common:
    """What all requests of keys have in common."""

    table: str = ""
    trace_id: bytes = b""

    def header(self, remaining: float) -> pb.RequestHeader:
        """The header of one attempt."""
        time = wire.timeout_ms(remaining)
        return pb.RequestHeader(table=self.table, timeout_ms=time, trace_id=self.trace_id)


def of_key(method: str, message: Any, common: Common, answer: Any, read: Callable[[Any], T]) -> Operation[T]:
    """A question about a key."""

    def build(remaining: float, _attempt: Attempt | None) -> Any:
        sent = type(message)()
        sent.CopyFrom(message)
        sent.header.CopyFrom(common.header(remaining))
        return sent

    return Operation(KV, method, build, read, answer)


def write_of_key(
    method: str,
    message: Any,
    common: Common,
    answer: Any,
    read: Callable[[Any], T],
    named: Named | None,
) -> Operation[T]:
    """A change of a key."""
    operation = of_key(method, message, common, answer, read)
    build_bare = operation.build

    def build(remaining: float, attempt: Attempt | None) -> Any:
        sent = build_bare(remaining, attempt)
        if attempt is not None:
            sent.attempt.CopyFrom(wire.attempt(attempt))
        return sent

    operation.build, operation.is_write, operation.named = build, True, named
    return operation


def name_of(named: WriteId | None, again: WriteId | None) -> Named | None:
    """The name a write was given."""
    if named is not None and again is not None:
        raise errors.coded("REQUEST_MALFORMED", "a write is named or sent again, not both")
    if again is not None:
        return Named(again, again=True)
    return None if named is None else Named(named, again=False)


def get(
    key: Data, common: Common, r: Quorum | None, sloppy: bool | None, monotonic: bool
) -> tuple[Operation[GetReply], Operation[Siblings]]:
    """A read: for one value, and for all siblings."""
    message = pb.GetRequest(key=wire.key(key), r=wire.quorum(r), mode=wire.mode(sloppy), monotonic=monotonic)
    one = of_key("Get", message, common, pb.GetResponse, _got)
    every = of_key("Get", message, common, pb.GetResponse, _siblings)
    return one, every


def _got(got: pb.GetResponse) -> GetReply:
    receipt = wire.receipt(got)
    # One of several would be a guess, and none a lie.
    if got.sibling_count > 1:
        text = f"the key has {got.sibling_count} siblings; read them all and resolve them"
        raise errors.Conflict(errors.SIBLINGS, text)
    if not got.found:
        return GetReply(None, receipt, None, got.context)
    return GetReply(got.value, receipt, wire.expires(got), got.context)


def _siblings(got: pb.GetResponse) -> Siblings:
    receipt = wire.receipt(got)
    if got.found and not got.context:
        # A table of another kind: one value or none.
        values = [Sibling(got.value, receipt.stamp, wire.expires(got))]
    else:
        values = [
            Sibling(one.value, wire.stamp(one.stamp), wire.expires(one), one.counter) for one in got.siblings
        ]
    return Siblings(values, max(got.sibling_count, len(values)), got.context, receipt)


def put(
    key: Data,
    value: Data,
    common: Common,
    *,
    w: Quorum | None,
    r: Quorum | None,
    sloppy: bool | None,
    ttl: float | timedelta | None,
    time_ns: int | None,
    context: bytes,
    named: Named | None,
) -> Operation[Written]:
    """A write."""
    message = pb.PutRequest(
        key=wire.key(key),
        value=wire.value(value),
        w=wire.quorum(w),
        r=wire.quorum(r),
        mode=wire.mode(sloppy),
        ttl_ms=None if ttl is None else wire.ttl_ms(ttl),
        time_ns=time_ns,
        context=context,
    )
    return write_of_key("Put", message, common, pb.PutResponse, _written, named)


def delete(
    key: Data,
    common: Common,
    *,
    w: Quorum | None,
    r: Quorum | None,
    sloppy: bool | None,
    time_ns: int | None,
    context: bytes,
    named: Named | None,
) -> Operation[Written]:
    """A delete."""
    message = pb.DeleteRequest(
        key=wire.key(key),
        w=wire.quorum(w),
        r=wire.quorum(r),
        mode=wire.mode(sloppy),
        time_ns=time_ns,
        context=context,
    )
    return write_of_key("Delete", message, common, pb.DeleteResponse, _written, named)


def _written(wrote: pb.PutResponse | pb.DeleteResponse) -> Written:
    return Written(wire.receipt(wrote), wrote.context, wrote.sibling_count)


def cas(
    key: Data,
    value: Data | None,
    common: Common,
    *,
    expect: Data | Stamp | None,
    ttl: float | timedelta | None,
    named: Named | None,
) -> Operation[CasReply]:
    """A compare-and-set."""
    message = pb.CasRequest(
        key=wire.key(key),
        value=None if value is None else wire.value(value),
        ttl_ms=None if ttl is None else wire.ttl_ms(ttl),
    )
    if expect is None:
        message.absent = True
    elif isinstance(expect, Stamp):
        message.stamp_is = expect.to_bytes()
    else:
        message.value_is = wire.value(expect)
    operation = write_of_key("Cas", message, common, pb.CasResponse, _compared, named)
    # It waits its turn, and given up early it is in the way of its own next one.
    operation.is_quick = False
    return operation


def _compared(compared: pb.CasResponse) -> CasReply:
    current = None
    if compared.HasField("current"):
        found = compared.current
        current = FoundVersion(found.value, wire.stamp(found.stamp), wire.expires(found))
    return CasReply(compared.applied, wire.receipt(compared), current)


def increment(
    key: Data,
    by: int,
    common: Common,
    *,
    w: Quorum | None,
    sloppy: bool | None,
    once: bool,
    named: Named | None,
) -> Operation[Incremented]:
    """An increment of a counter."""
    if not -(2**63) <= by < 2**63:
        raise ValueError(f"by is {by}: it must be a signed number of 64 bits")
    message = pb.IncrementRequest(key=wire.key(key), by=by, w=wire.quorum(w), mode=wire.mode(sloppy))
    operation = write_of_key("Increment", message, common, pb.IncrementResponse, _added, named)
    # It may wait its turn; and one of a causal table that is sent again can count twice.
    operation.is_quick = False
    operation.is_once = once
    return operation


def _added(made: pb.IncrementResponse) -> Incremented:
    value = made.value if made.HasField("value") else None
    return Incremented(value, wire.receipt(made))


def outcome(key: Data, write: WriteId, common: Common) -> Operation[Outcome]:
    """A question about a write. It settles it, but asked twice it is answered the same."""
    message = pb.GetOutcomeRequest(
        key=wire.key(key), request_id=write.id, since_ns=write.since_ns, lower_ns=write.last_ns
    )
    operation = of_key("GetOutcome", message, common, pb.GetOutcomeResponse, _told)
    operation.is_quick = False
    return operation


def _told(told: pb.GetOutcomeResponse) -> Outcome:
    if told.fate == pb.GetOutcomeResponse.FATE_APPLIED:
        return Outcome(True, wire.stamp(told.stamp))
    if told.fate == pb.GetOutcomeResponse.FATE_CANCELLED:
        return Outcome(False)
    raise malformed("an outcome that is none")


def receipt_of(answer: object) -> Receipt | None:
    """What an answer rests on, if it says so."""
    receipt = getattr(answer, "receipt", None)
    return receipt if isinstance(receipt, Receipt) else None


__all__ = ["Common", "Operation", "RoundtableError"]
