"""Tables: made, listed, described, altered and dropped. A change is safe to repeat: the servers know the
attempts of one request by its id, and make it once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

from . import _wire as wire
from ._attempts import Attempt
from ._errors import malformed
from ._operations import Operation
from ._types import Sloppy, Table, TableKind, TableList
from .v1 import kv_pb2 as pb

T = TypeVar("T")

TABLES = "roundtable.v1.Tables"


class Run(Protocol):
    """Runs an operation."""

    def __call__(self, operation: Operation[T], timeout: float | None, /) -> T: ...


class RunAsync(Protocol):
    """Runs an operation, for asyncio."""

    async def __call__(self, operation: Operation[T], timeout: float | None, /) -> T: ...


def _operation(
    method: str, message: Any, answer: Any, read: Callable[[Any], T], *, changes: bool
) -> Operation[T]:
    def build(remaining: float, attempt: Attempt | None) -> Any:
        sent = type(message)()
        sent.CopyFrom(message)
        sent.header.timeout_ms = wire.timeout_ms(remaining)
        if attempt is not None:
            sent.header.request_id = attempt.request_id
        return sent

    operation = Operation(TABLES, method, build, read, answer, is_write=changes, is_quick=False)
    operation.is_known_by_id = changes
    return operation


class _Quorums(NamedTuple):
    n: int | None
    r: int | None
    w: int | None
    r_min: int | None
    w_min: int | None


def _create(
    name: str,
    kind: TableKind,
    sloppy: Sloppy | None,
    ttl: float | timedelta | None,
    value_bytes_max: int | None,
    quorums: _Quorums,
) -> Operation[Table | None]:
    message = pb.CreateTableRequest(
        name=name,
        kind=wire.kind_to_wire(kind),
        ttl_ms=0 if ttl is None else wire.ttl_ms(ttl),
        value_bytes_max=value_bytes_max,
        n=quorums.n,
        r=quorums.r,
        w=quorums.w,
        r_min=quorums.r_min,
        w_min=quorums.w_min,
    )
    if sloppy is not None:
        message.sloppy = wire.sloppy_to_wire(sloppy)
    return _operation("Create", message, pb.TableResponse, _changed, changes=True)


def _alter(
    name: str,
    r: int | None,
    w: int | None,
    sloppy: Sloppy | None,
    ttl: float | timedelta | None,
    value_bytes_max: int | None,
) -> Operation[Table | None]:
    message = pb.AlterTableRequest(
        name=name,
        r=r,
        w=w,
        sloppy=None if sloppy is None else wire.sloppy_to_wire(sloppy),
        ttl_ms=None if ttl is None else wire.ttl_ms(ttl),
        value_bytes_max=value_bytes_max,
    )
    return _operation("Alter", message, pb.TableResponse, _changed, changes=True)


def _drop(name: str) -> Operation[int]:
    message = pb.DropTableRequest(name=name)
    return _operation("Drop", message, pb.TableResponse, lambda told: told.epoch, changes=True)


def _describe(name: str) -> Operation[Table]:
    message = pb.DescribeTableRequest(name=name)
    return _operation("Describe", message, pb.TableResponse, _described, changes=False)


def _list() -> Operation[TableList]:
    return _operation("List", pb.ListTablesRequest(), pb.ListTablesResponse, _listed, changes=False)


def _changed(told: pb.TableResponse) -> Table | None:
    return wire.table(told.table) if told.HasField("table") else None


def _described(told: pb.TableResponse) -> Table:
    table = _changed(told)
    if table is None:
        raise malformed("no table")
    return table


def _listed(told: pb.ListTablesResponse) -> TableList:
    return TableList(told.epoch, told.confirmed, [wire.table(one) for one in told.tables])


class Tables:
    """Requests about tables. Times to live are in seconds."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def create(
        self,
        name: str,
        *,
        kind: TableKind = TableKind.LWW,
        n: int | None = None,
        r: int | None = None,
        w: int | None = None,
        r_min: int | None = None,
        w_min: int | None = None,
        sloppy: Sloppy | None = None,
        ttl: float | timedelta | None = None,
        value_bytes_max: int | None = None,
        timeout: float | None = None,
    ) -> Table | None:
        """Makes a table; once this returns, every node serves it. What is left out has its default: n of
        the table every cluster is born with, and majorities. ``None`` when an earlier attempt had made it
        and somebody has changed it since."""
        quorums = _Quorums(n, r, w, r_min, w_min)
        return self._run(_create(name, kind, sloppy, ttl, value_bytes_max, quorums), timeout)

    def alter(
        self,
        name: str,
        *,
        r: int | None = None,
        w: int | None = None,
        sloppy: Sloppy | None = None,
        ttl: float | timedelta | None = None,
        value_bytes_max: int | None = None,
        timeout: float | None = None,
    ) -> Table | None:
        """Gives a table other defaults. What is left out stays as it is; ``ttl=0`` takes it away."""
        return self._run(_alter(name, r, w, sloppy, ttl, value_bytes_max), timeout)

    def drop(self, name: str, *, timeout: float | None = None) -> int:
        """Drops a table and all its keys, for good; returns the epoch as of which it is gone."""
        return self._run(_drop(name), timeout)

    def describe(self, name: str, *, timeout: float | None = None) -> Table:
        """One table."""
        return self._run(_describe(name), timeout)

    def list(self, *, timeout: float | None = None) -> TableList:
        """All tables."""
        return self._run(_list(), timeout)


class AsyncTables:
    """Requests about tables, for asyncio: those of :class:`Tables`."""

    def __init__(self, run: RunAsync) -> None:
        self._run = run

    async def create(
        self,
        name: str,
        *,
        kind: TableKind = TableKind.LWW,
        n: int | None = None,
        r: int | None = None,
        w: int | None = None,
        r_min: int | None = None,
        w_min: int | None = None,
        sloppy: Sloppy | None = None,
        ttl: float | timedelta | None = None,
        value_bytes_max: int | None = None,
        timeout: float | None = None,
    ) -> Table | None:
        """As :meth:`Tables.create`."""
        quorums = _Quorums(n, r, w, r_min, w_min)
        return await self._run(_create(name, kind, sloppy, ttl, value_bytes_max, quorums), timeout)

    async def alter(
        self,
        name: str,
        *,
        r: int | None = None,
        w: int | None = None,
        sloppy: Sloppy | None = None,
        ttl: float | timedelta | None = None,
        value_bytes_max: int | None = None,
        timeout: float | None = None,
    ) -> Table | None:
        """As :meth:`Tables.alter`."""
        return await self._run(_alter(name, r, w, sloppy, ttl, value_bytes_max), timeout)

    async def drop(self, name: str, *, timeout: float | None = None) -> int:
        """As :meth:`Tables.drop`."""
        return await self._run(_drop(name), timeout)

    async def describe(self, name: str, *, timeout: float | None = None) -> Table:
        """As :meth:`Tables.describe`."""
        return await self._run(_describe(name), timeout)

    async def list(self, *, timeout: float | None = None) -> TableList:
        """As :meth:`Tables.list`."""
        return await self._run(_list(), timeout)
