"""Between the types of this package and the messages of ``proto/kv.proto``. What a server sends is
checked here; a malformed answer is an error of this package and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from . import _errors as errors
from ._attempts import Attempt
from ._errors import Applied, Facts, RoundtableError, coded, malformed
from ._types import Data, Quorum, Receipt, Sloppy, Stamp, Table, TableKind
from .v1 import kv_pb2 as pb

KEY_BYTES_MAX = 4 << 10
VALUE_BYTES_MAX = 1 << 20
TIMEOUT_MS_MAX = 60_000
DETAIL_TRAILER = "roundtable-error-bin"

_ZERO = Stamp(0, 0, 0)
_NAMED = {"one": pb.Quorum.NAMED_ONE, "quorum": pb.Quorum.NAMED_QUORUM, "all": pb.Quorum.NAMED_ALL}
_KINDS = {
    TableKind.LWW: pb.TABLE_KIND_LWW,
    TableKind.CAUSAL: pb.TABLE_KIND_CAUSAL,
    TableKind.LINEARIZABLE: pb.TABLE_KIND_LINEARIZABLE,
}
_SLOPPY = {
    Sloppy.NEVER: pb.SLOPPY_NEVER,
    Sloppy.REQUEST: pb.SLOPPY_REQUEST,
    Sloppy.ALWAYS: pb.SLOPPY_ALWAYS,
}
_APPLIED = {
    pb.ErrorDetail.APPLIED_NO: Applied.NO,
    pb.ErrorDetail.APPLIED_YES: Applied.YES,
}


def data(given: Data) -> bytes:
    """Bytes of what may be text."""
    return given.encode() if isinstance(given, str) else bytes(given)


def key(given: Data) -> bytes:
    """Checks a key before it travels."""
    checked = data(given)
    if not checked:
        raise coded("KEY_EMPTY", "a key has at least one byte")
    if len(checked) > KEY_BYTES_MAX:
        text = f"key has {len(checked)} bytes; the limit is {KEY_BYTES_MAX} bytes"
        raise coded("KEY_TOO_LARGE", text)
    return checked


def value(given: Data) -> bytes:
    """Checks a value before it travels."""
    checked = data(given)
    if len(checked) > VALUE_BYTES_MAX:
        text = f"value has {len(checked)} bytes; the limit is {VALUE_BYTES_MAX} bytes"
        raise coded("VALUE_TOO_LARGE", text)
    return checked


def timeout_ms(seconds: float) -> int:
    """What the server is told it has: 0 would mean its default."""
    return min(max(int(seconds * 1000), 1), TIMEOUT_MS_MAX)


def ttl_ms(ttl: float | timedelta) -> int:
    """A time to live in whole milliseconds, rounded up; 0 for ever."""
    micros = round((ttl.total_seconds() if isinstance(ttl, timedelta) else ttl) * 1e6)
    if micros < 0:
        raise coded("REQUEST_MALFORMED", f"a time to live of {ttl} is in the past")
    return -(-micros // 1000)


def quorum(given: Quorum | None) -> pb.Quorum | None:
    """A quorum; ``None`` is the table's."""
    if given is None:
        return None
    if isinstance(given, str):
        if given not in _NAMED:
            raise coded("QUORUM_INVALID", f"{given!r} is none of {', '.join(_NAMED)}")
        return pb.Quorum(named=_NAMED[given])
    if not 0 < given < 2**32:
        raise coded("QUORUM_INVALID", f"a quorum of {given}")
    return pb.Quorum(count=given)


def mode(sloppy: bool | None) -> pb.QuorumMode:
    """Who may count; ``None`` is as the table says."""
    if sloppy is None:
        return pb.QUORUM_MODE_UNSPECIFIED
    return pb.QUORUM_MODE_SLOPPY if sloppy else pb.QUORUM_MODE_STRICT


def attempt(this: Attempt) -> pb.Attempt:
    """An attempt of a write."""
    return pb.Attempt(
        request_id=this.request_id,
        number=this.number,
        lower_ns=this.lower_ns,
        upper_ns=this.upper_ns,
        since_ns=this.since_ns,
    )


def stamp(given: bytes) -> Stamp:
    """A stamp; none is zero."""
    if not given:
        return _ZERO
    try:
        return Stamp.from_bytes(given)
    except ValueError:
        raise malformed("a stamp that is not 16 bytes") from None


def expires(message: Any) -> int | None:
    """When what a message tells of expires."""
    return message.expires_ns if message.HasField("expires_ns") else None


def receipt(message: Any) -> Receipt:
    """The receipt of an answer."""
    if not message.HasField("receipt"):
        raise malformed("an answer without a receipt")
    wire = message.receipt
    return Receipt(
        epoch=wire.epoch,
        stamp=stamp(wire.stamp),
        answered=wire.answered,
        stand_ins=wire.stand_ins,
        n=wire.n,
        needed=wire.needed,
        weak=wire.weak,
        repaired=wire.repaired,
        may_miss=wire.may_miss,
        many_siblings=wire.many_siblings,
        superseded_by=stamp(wire.superseded_by) if wire.superseded_by else None,
        server_time_ns=wire.server_time_ns,
        trace_id=wire.trace_id,
    )


def kind_to_wire(kind: TableKind) -> pb.TableKind:
    """A table's kind."""
    return _KINDS[kind]


def sloppy_to_wire(sloppy: Sloppy) -> pb.Sloppy:
    """A table's sloppiness."""
    return _SLOPPY[sloppy]


def table(wire: pb.Table) -> Table:
    """A table."""
    kinds = {number: kind for kind, number in _KINDS.items()}
    modes = {number: sloppy for sloppy, number in _SLOPPY.items()}
    if wire.kind not in kinds or wire.sloppy not in modes:
        raise malformed(f"a table of kind {wire.kind}, {wire.sloppy} sloppy")
    return Table(
        id=wire.id,
        name=wire.name,
        kind=kinds[wire.kind],
        n=wire.n,
        r=wire.r,
        w=wire.w,
        r_min=wire.r_min,
        w_min=wire.w_min,
        sloppy=modes[wire.sloppy],
        ttl=wire.ttl_ms / 1000 if wire.ttl_ms else None,
        value_bytes_max=wire.value_bytes_max,
    )


def error(failed: grpc.RpcError, *, write: bool) -> RoundtableError:
    """What a failed call means; ``write`` says whether it may have had an effect."""
    detail = _detail(failed)
    if detail is not None:
        return from_detail(detail, write=write)
    code, text = failed.code(), failed.details() or ""
    lost = Applied.UNKNOWN if write else Applied.NO
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        told = errors.deadline()
    elif code is grpc.StatusCode.UNAVAILABLE and _never_sent(text):
        return errors.unavailable(text)
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        # Whoever says this has not looked at the request.
        return coded("NOT_AVAILABLE_YET", "the server does not offer this call")
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        told = coded("OVERLOADED", text, retryable=True)
    elif code in _AT_FAULT:
        told = coded("REQUEST_MALFORMED", text)
    elif code in _WHO_ARE_YOU:
        told = errors.Unauthenticated(errors.UNAUTHENTICATED, text)
    elif code in _BROKEN:
        # A peer that dies in mid-call shows as any of these.
        told = errors.unavailable(text)
    else:
        told = coded("INTERNAL", text)
    told.applied = lost
    return told


_AT_FAULT = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
)
_WHO_ARE_YOU = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
_BROKEN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
)


def _never_sent(text: str) -> bool:
    """Whether there was no connection to leave by. Of any other break it is not known."""
    return text.startswith(("failed to connect to all addresses", "DNS resolution failed"))


def _detail(failed: grpc.RpcError) -> pb.ErrorDetail | None:
    trailers: Iterable[tuple[str, str | bytes]] = failed.trailing_metadata() or ()  # type: ignore[assignment]
    for name, carried in trailers:
        if name == DETAIL_TRAILER and isinstance(carried, bytes):
            try:
                detail = pb.ErrorDetail.FromString(carried)
            except DecodeError:
                return None
            return detail if detail.code else None
    return None


def from_detail(detail: pb.ErrorDetail, *, write: bool) -> RoundtableError:
    told = coded(detail.code, detail.message, retryable=detail.retryable)
    if write:
        told.applied = _APPLIED.get(detail.applied, Applied.UNKNOWN)

    def said(name: str) -> Any:
        return getattr(detail, name) if detail.HasField(name) else None

    after_ms = said("retry_after_ms")
    told.facts = Facts(
        limit=said("limit"),
        needed=said("needed"),
        got=said("got"),
        epoch=said("epoch"),
        retry_after=None if after_ms is None else after_ms / 1000,
        server_time_ns=said("server_time_ns"),
        bound=said("bound"),
    )
    return told
