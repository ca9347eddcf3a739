"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from . import _channel as channel
from . import _operations as operations
from ._attempts import new_id
from ._batch import Batch
from ._core import Core, Options, no_turn
from ._errors import RoundtableError
from ._operations import Common, Operation
from ._scan import Scan
from ._steps import AskTime, Cancel, Either, Sleep, Start, Step, Steps, Wait
from ._tables import AsyncTables
from ._types import (
    CasReply,
    Data,
    Entry,
    GetReply,
    Incremented,
    Outcome,
    Quorum,
    Receipt,
    Siblings,
    Stamp,
    WriteId,
    Written,
)
from .v1 import kv_pb2 as pb

T = TypeVar("T")


class AsyncClient:
    """A handle to a cluster, for the tasks of one event loop: :class:`Client` with ``await``.

    A request whose task is cancelled is given up at once; of a write nobody then knows what came of it.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float = 5.0,
        attempts: int = 4,
        retry_burst: int = 64,
        retry_percent: int = 20,
        hedge_percent: int = 5,
        open_max: int = 64,
    ) -> None:
        options = Options(timeout, max(attempts, 1), retry_burst, retry_percent, hedge_percent)
        self._core = Core(list(endpoints), options)
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._turns = asyncio.Semaphore(max(open_max, 1))
        self.tables = AsyncTables(self._run)
        """Makes, lists, describes, alters and drops tables."""

    async def get(
        self,
        key: Data,
        *,
        table: str = "",
        r: Quorum | None = None,
        sloppy: bool | None = None,
        monotonic: bool = False,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> GetReply:
        """As :meth:`Client.get`."""
        one, _ = operations.get(key, Common(table, trace_id), r, sloppy, monotonic)
        return await self._run(one, timeout)

    async def siblings(
        self,
        key: Data,
        *,
        table: str = "",
        r: Quorum | None = None,
        sloppy: bool | None = None,
        monotonic: bool = False,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Siblings:
        """As :meth:`Client.siblings`."""
        _, every = operations.get(key, Common(table, trace_id), r, sloppy, monotonic)
        return await self._run(every, timeout)

    async def put(
        self,
        key: Data,
        value: Data,
        *,
        table: str = "",
        w: Quorum | None = None,
        r: Quorum | None = None,
        sloppy: bool | None = None,
        ttl: float | timedelta | None = None,
        time_ns: int | None = None,
        context: bytes = b"",
        named: WriteId | None = None,
        again: WriteId | None = None,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Written:
        """As :meth:`Client.put`."""
        operation = operations.put(
            key,
            value,
            Common(table, trace_id),
            w=w,
            r=r,
            sloppy=sloppy,
            ttl=ttl,
            time_ns=time_ns,
            context=context,
            named=operations.name_of(named, again),
        )
        return await self._run(operation, timeout)

    async def delete(
        self,
        key: Data,
        *,
        table: str = "",
        w: Quorum | None = None,
        r: Quorum | None = None,
        sloppy: bool | None = None,
        time_ns: int | None = None,
        context: bytes = b"",
        named: WriteId | None = None,
        again: WriteId | None = None,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Written:
        """As :meth:`Client.delete`."""
        operation = operations.delete(
            key,
            Common(table, trace_id),
            w=w,
            r=r,
            sloppy=sloppy,
            time_ns=time_ns,
            context=context,
            named=operations.name_of(named, again),
        )
        return await self._run(operation, timeout)

    async def cas(
        self,
        key: Data,
        value: Data | None,
        *,
        table: str,
        expect: Data | Stamp | None = None,
        ttl: float | timedelta | None = None,
        named: WriteId | None = None,
        again: WriteId | None = None,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> CasReply:
        """As :meth:`Client.cas`."""
        operation = operations.cas(
            key,
            value,
            Common(table, trace_id),
            expect=expect,
            ttl=ttl,
            named=operations.name_of(named, again),
        )
        return await self._run(operation, timeout)

    async def batch(
        self,
        writes: Mapping[Data, Data | None],
        *,
        table: str = "",
        w: Quorum | None = None,
        ttl: float | timedelta | None = None,
        atomic: bool = False,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> dict[Data, Receipt | RoundtableError]:
        """As :meth:`Client.batch`."""
        batch = Batch(writes, Common(table, trace_id), w=w, ttl=ttl, atomic=atomic)
        try:
            await self._run(batch.operation, timeout)
        except RoundtableError as error:
            return batch.outcomes(error)
        return batch.outcomes(None)

    async def increment(
        self,
        key: Data,
        by: int = 1,
        *,
        table: str,
        w: Quorum | None = None,
        sloppy: bool | None = None,
        once: bool = False,
        named: WriteId | None = None,
        again: WriteId | None = None,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Incremented:
        """As :meth:`Client.increment`."""
        operation = operations.increment(
            key,
            by,
            Common(table, trace_id),
            w=w,
            sloppy=sloppy,
            once=once,
            named=operations.name_of(named, again),
        )
        return await self._run(operation, timeout)

    async def outcome(
        self,
        key: Data,
        write: WriteId,
        *,
        table: str,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Outcome:
        """As :meth:`Client.outcome`."""
        return await self._run(operations.outcome(key, write, Common(table, trace_id)), timeout)

    def scan(
        self,
        *,
        prefix: Data = b"",
        start: Data = b"",
        after: Data = b"",
        stop: Data | None = None,
        limit: int | None = None,
        page_size: int = 0,
        keys_only: bool = False,
        reverse: bool = False,
        r: Quorum | None = None,
        table: str = "",
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> AsyncIterator[Entry]:
        """As :meth:`Client.scan`."""
        common = Common(table, trace_id)
        pages = Scan(common, prefix, start, after, stop, limit, page_size, keys_only, reverse, r)
        return self._entries(pages, timeout)

    def new_write(self) -> WriteId:
        """As :meth:`Client.new_write`."""
        return WriteId(new_id(), self._core.server_now() or 0)

    async def close(self) -> None:
        """Closes all connections; requests under way fail."""
        channels, self._channels = self._channels, {}
        for opened in channels.values():
            await opened.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _entries(self, pages: Scan, timeout: float | None) -> AsyncIterator[Entry]:
        while (operation := pages.next_page()) is not None:
            for entry in await self._run(operation, timeout):
                yield entry

    async def _run(self, operation: Operation[T], timeout: float | None) -> T:
        deadline = self._core.deadline(timeout)
        try:
            await asyncio.wait_for(self._turns.acquire(), deadline - monotonic())
        except asyncio.TimeoutError:
            raise no_turn() from None
        try:
            return await self._drive(self._core.run(operation, deadline))
        finally:
            self._turns.release()

    async def _drive(self, steps: Steps[T]) -> T:
        calls: list[asyncio.Future[Any]] = []
        try:
            sent: Any = None
            while True:
                step = steps.send(sent)
                if isinstance(step, Start):
                    sent = self._start(step)
                    calls.append(sent)
                else:
                    sent = await self._do(step)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        finally:
            steps.close()
            # A task that is cancelled leaves no call behind; to one that is over it does nothing.
            for call in calls:
                call.cancel()

    def _start(self, step: Start) -> asyncio.Future[Any]:
        ask = self._channel(step.address).unary_unary(
            channel.path(step.operation),
            request_serializer=channel.serialize,
            response_deserializer=step.operation.answer.FromString,
        )
        return asyncio.ensure_future(_heard(ask(step.message, timeout=step.timeout)))

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Wait):
            done, _ = await asyncio.wait({step.call}, timeout=max(step.seconds, 0.0))
            return step.call.result() if done else None
        if isinstance(step, Either):
            seconds, first = max(step.seconds, 0.0), asyncio.FIRST_COMPLETED
            done, _ = await asyncio.wait(set(step.calls), timeout=seconds, return_when=first)
            if not done:
                return None
            place = next(place for place, call in enumerate(step.calls) if call in done)
            return place, step.calls[place].result()
        if isinstance(step, Cancel):
            return step.call.cancel()
        if isinstance(step, AskTime):
            return await self._ask_time(step)
        if isinstance(step, Sleep):
            return await asyncio.sleep(step.seconds)
        raise AssertionError(f"a step that is none: {step}")

    async def _ask_time(self, step: AskTime) -> Any:
        ask = self._channel(step.address).unary_stream(
            channel.WATCH_RING,
            request_serializer=bytes,
            response_deserializer=pb.RingUpdate.FromString,
        )
        stream = ask(channel.watch_ring(), timeout=step.seconds)
        try:
            update = await stream.read()
            return update.server_time_ns if isinstance(update, pb.RingUpdate) else None
        except grpc.RpcError as failed:
            return failed
        finally:
            stream.cancel()

    def _channel(self, address: str) -> grpc.aio.Channel:
        opened = self._channels.get(address)
        if opened is None:
            opened = grpc.aio.insecure_channel(address, options=channel.OPTIONS)
            self._channels[address] = opened
        return opened


async def _heard(call: Any) -> Any:
    """The answer of a call, or why it failed; cancelled, it cancels the call."""
    try:
        return await call
    except grpc.RpcError as failed:
        return failed
