"""The client for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import grpc

from . import _channel as channel
from . import _operations as operations
from ._attempts import new_id
from ._batch import Batch
from ._core import Core, Options, no_turn
from ._errors import RoundtableError
from ._operations import Common, Operation
from ._scan import Scan
from ._steps import AskTime, Cancel, Either, Sleep, Start, Step, Steps, Wait
from ._tables import Tables
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


class Client:
    """A handle to a cluster, for threads: any number may share one.

    ``endpoints`` are ``host:port`` of any nodes; several let the client go on when one is down.
    ``timeout`` is how long a request may take over all its attempts, in seconds, unless it says otherwise
    itself; servers grant at most 60 s an attempt. A request is tried ``attempts`` times at most;
    ``retry_burst`` retries are free at once, and in the long run ``retry_percent`` of the requests. A read
    that takes longer than they usually do is asked of a second endpoint as well, at most ``hedge_percent`` of
    the reads (0: none). Of more than ``open_max`` requests at a time the others wait for their turn: what a
    write says of its time holds from when it leaves, and must not grow old in a queue.

    Every request raises :class:`RoundtableError`. Connections are opened when they are needed.
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
        self._channels: dict[str, grpc.Channel] = {}
        self._turns = threading.Semaphore(max(open_max, 1))
        self._opening = threading.Lock()
        self.tables = Tables(self._run)
        """Makes, lists, describes, alters and drops tables."""

    def get(
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
        """Reads one key. One that is not there has ``value`` ``None``; one with several siblings is a
        ``Conflict`` with code ``SIBLINGS``. With ``monotonic`` no later read goes back behind the answer."""
        one, _ = operations.get(key, Common(table, trace_id), r, sloppy, monotonic)
        return self._run(one, timeout)

    def siblings(
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
        """Reads all values of a key of a causal table, and the context for the next write."""
        _, every = operations.get(key, Common(table, trace_id), r, sloppy, monotonic)
        return self._run(every, timeout)

    def put(
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
        """Writes one key. ``ttl`` in seconds (0: for ever; the table's when left out). ``context``, in
        causal tables, is what the value takes the place of: without one, of nothing. ``named`` sends it
        under a name of :meth:`new_write`, ``again`` goes on with one that may have been sent before."""
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
        return self._run(operation, timeout)

    def delete(
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
        """Deletes one key; that of an absent one succeeds. In causal tables it deletes what ``context``
        has seen, or without one what a read finds."""
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
        return self._run(operation, timeout)

    def cas(
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
        """Changes a key of a linearizable table to ``value``, or deletes it with ``None``, if it holds
        what is expected: exactly that value, the version of that stamp, or with ``None`` nothing. If it
        does not, that is an answer and no error."""
        operation = operations.cas(
            key,
            value,
            Common(table, trace_id),
            expect=expect,
            ttl=ttl,
            named=operations.name_of(named, again),
        )
        return self._run(operation, timeout)

    def batch(
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
        """Writes many keys in one request: each its value, or deleted where that is ``None``; what came of
        each is a receipt or an error, in the same order. With ``atomic`` the writes whose keys are of one
        partition are made together or not at all, and share their outcome: keys with the same ``{tag}``
        always are (lww tables only). At most 256 writes and 4 MiB: more is ``BATCH_TOO_LARGE``, and
        nothing is sent."""
        batch = Batch(writes, Common(table, trace_id), w=w, ttl=ttl, atomic=atomic)
        try:
            self._run(batch.operation, timeout)
        except RoundtableError as error:
            return batch.outcomes(error)
        return batch.outcomes(None)

    def increment(
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
        """Adds ``by`` to the number that a key of a causal or linearizable table holds; one that is not
        there holds 0. Exact on linearizable tables. On causal ones an increment that was tried again can
        count twice: with ``once`` nothing follows an attempt that may have counted."""
        operation = operations.increment(
            key,
            by,
            Common(table, trace_id),
            w=w,
            sloppy=sloppy,
            once=once,
            named=operations.name_of(named, again),
        )
        return self._run(operation, timeout)

    def outcome(
        self,
        key: Data,
        write: WriteId,
        *,
        table: str,
        timeout: float | None = None,
        trace_id: bytes = b"",
    ) -> Outcome:
        """What became of a write of a key of a linearizable table: ``error.write`` names it."""
        return self._run(operations.outcome(key, write, Common(table, trace_id)), timeout)

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
    ) -> Iterator[Entry]:
        """Keys in byte order: those that begin with ``prefix``, at or above ``start``, strictly above
        ``after``, strictly below ``stop``, ``limit`` in all. Read in pages of ``page_size`` (500; at most
        1000), each a request with its own timeout. Go on with ``after`` where one failed. With ``reverse``
        the same keys from the highest down; go on with ``stop`` then."""
        common = Common(table, trace_id)
        pages = Scan(common, prefix, start, after, stop, limit, page_size, keys_only, reverse, r)
        return self._entries(pages, timeout)

    def new_write(self) -> WriteId:
        """A name for a write that is yet to be sent, to be noted down before: the next life of the
        program asks for its ``outcome``, or sends it ``again``."""
        return WriteId(new_id(), self._core.server_now() or 0)

    def close(self) -> None:
        """Closes all connections; requests under way fail."""
        with self._opening:
            channels, self._channels = self._channels, {}
        for opened in channels.values():
            opened.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _entries(self, pages: Scan, timeout: float | None) -> Iterator[Entry]:
        while (operation := pages.next_page()) is not None:
            yield from self._run(operation, timeout)

    def _run(self, operation: Operation[T], timeout: float | None) -> T:
        deadline = self._core.deadline(timeout)
        if not self._turns.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise no_turn()
        try:
            return self._drive(self._core.run(operation, deadline))
        finally:
            self._turns.release()

    def _drive(self, steps: Steps[T]) -> T:
        calls: list[Any] = []
        try:
            sent: Any = None
            while True:
                step = steps.send(sent)
                if isinstance(step, Start):
                    sent = self._start(step)
                    calls.append(sent)
                else:
                    sent = self._do(step)
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        finally:
            steps.close()
            # Whoever is interrupted leaves no call behind; to one that is over it does nothing.
            for call in calls:
                call.cancel()

    def _start(self, step: Start) -> Any:
        call = self._channel(step.address).unary_unary(
            channel.path(step.operation),
            request_serializer=channel.serialize,
            response_deserializer=step.operation.answer.FromString,
        )
        return call.future(step.message, timeout=step.timeout)

    def _do(self, step: Step) -> Any:
        if isinstance(step, Wait):
            try:
                return step.call.result(timeout=max(step.seconds, 0.0))
            except grpc.FutureTimeoutError:
                return None
            except grpc.RpcError as failed:
                return failed
        if isinstance(step, Either):
            return self._either(step)
        if isinstance(step, Cancel):
            return step.call.cancel()
        if isinstance(step, AskTime):
            return self._ask_time(step)
        if isinstance(step, Sleep):
            return time.sleep(step.seconds)
        raise AssertionError(f"a step that is none: {step}")

    def _either(self, step: Either) -> Any:
        over = threading.Event()
        for call in step.calls:
            call.add_done_callback(lambda _: over.set())
        if not over.wait(max(step.seconds, 0.0)):
            return None
        place = next(place for place, call in enumerate(step.calls) if call.done())
        return place, self._do(Wait(step.calls[place], 0.0))

    def _ask_time(self, step: AskTime) -> Any:
        ask = self._channel(step.address).unary_stream(
            channel.WATCH_RING,
            request_serializer=bytes,
            response_deserializer=pb.RingUpdate.FromString,
        )
        stream = ask(channel.watch_ring(), timeout=step.seconds)
        try:
            update: pb.RingUpdate = next(stream)
            return update.server_time_ns
        except StopIteration:
            return None
        except grpc.RpcError as failed:
            return failed
        finally:
            stream.cancel()

    def _channel(self, address: str) -> grpc.Channel:
        with self._opening:
            opened = self._channels.get(address)
            if opened is None:
                opened = grpc.insecure_channel(address, options=channel.OPTIONS)
                self._channels[address] = opened
            return opened
