"""A server that does what its script says: enough of the protocol to see what a client sends, and to fail
in ways that a real cluster cannot be made to on demand. Speaks over a real socket."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

from roundtable.v1 import kv_pb2 as pb

START_NS = 1_700_000_000_000_000_000

Act = Callable[["Fake", grpc.ServicerContext, threading.Event], None]


def swallow(fake: Fake, context: grpc.ServicerContext, closing: threading.Event) -> None:
    """Never answers."""
    while context.is_active():
        if closing.wait(0.01):
            return
    fake.given_up.set()


def break_off(_fake: Fake, context: grpc.ServicerContext, _closing: threading.Event) -> None:
    """Ends the call without a word of ours, as a connection that breaks does."""
    context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def slow(seconds: float) -> Act:
    """Answers late."""

    def act(_fake: Fake, _context: grpc.ServicerContext, closing: threading.Event) -> None:
        closing.wait(seconds)

    return act


def refuse(
    code: str, applied: pb.ErrorDetail.Applied, *, retryable: bool = True, retry_after_ms: int | None = None
) -> Act:
    """Answers with an error."""

    def act(_fake: Fake, context: grpc.ServicerContext, _closing: threading.Event) -> None:
        detail = pb.ErrorDetail(
            code=code, message="as told", retryable=retryable, applied=applied, retry_after_ms=retry_after_ms
        )
        context.set_trailing_metadata((("roundtable-error-bin", detail.SerializeToString()),))
        context.abort(grpc.StatusCode.UNAVAILABLE, "as told")

    return act


class Fake:
    """The server, and what it saw."""

    def __init__(self, *script: Act, clock_ns: int = START_NS) -> None:
        self.script = deque(script)
        self.clock_ns = clock_ns
        """What its clock reads, for ever; 0 says no time."""
        self.puts: list[pb.PutRequest] = []
        self.gets: list[pb.GetRequest] = []
        self.tables: list[pb.CreateTableRequest] = []
        self.batches: list[pb.BatchRequest] = []
        self.refused: deque[set[bytes]] = deque()
        """Of each batch to come, the keys whose writes fail for now."""
        self.times_asked = 0
        self.given_up = threading.Event()
        """A call that was swallowed is not waited for any more."""
        self._closing = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        kv = {
            "Put": _unary(self._put, pb.PutRequest),
            "Get": _unary(self._get, pb.GetRequest),
            "Batch": _unary(self._batch, pb.BatchRequest),
            "WatchRing": grpc.unary_stream_rpc_method_handler(
                self._watch, request_deserializer=pb.WatchRingRequest.FromString, response_serializer=_bytes
            ),
        }
        tables = {"Create": _unary(self._create, pb.CreateTableRequest)}
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler("roundtable.v1.Kv", kv),
                grpc.method_handlers_generic_handler("roundtable.v1.Tables", tables),
            )
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.stop(0).wait()

    def _act(self, context: grpc.ServicerContext) -> None:
        if self.script:
            self.script.popleft()(self, context, self._closing)

    def _receipt(self) -> pb.Receipt:
        return pb.Receipt(epoch=1, stamp=bytes(16), answered=3, n=3, needed=2, server_time_ns=self.clock_ns)

    def _put(self, request: pb.PutRequest, context: grpc.ServicerContext) -> pb.PutResponse:
        self.puts.append(request)
        self._act(context)
        return pb.PutResponse(receipt=self._receipt())

    def _get(self, request: pb.GetRequest, context: grpc.ServicerContext) -> pb.GetResponse:
        self.gets.append(request)
        self._act(context)
        return pb.GetResponse(found=True, value=b"value", receipt=self._receipt())

    def _batch(self, request: pb.BatchRequest, context: grpc.ServicerContext) -> pb.BatchResponse:
        self.batches.append(request)
        self._act(context)
        refused = self.refused.popleft() if self.refused else set()
        applied = pb.ErrorDetail.APPLIED_UNKNOWN
        failed = pb.ErrorDetail(code="QUORUM_NOT_REACHED", retryable=True, applied=applied)
        outcomes = [
            pb.BatchResponse.Outcome(error=failed)
            if item.key in refused
            else pb.BatchResponse.Outcome(receipt=self._receipt())
            for item in request.items
        ]
        return pb.BatchResponse(outcomes=outcomes)

    def _create(self, request: pb.CreateTableRequest, context: grpc.ServicerContext) -> pb.TableResponse:
        self.tables.append(request)
        self._act(context)
        return pb.TableResponse(epoch=2, confirmed=True)

    def _watch(
        self, _request: pb.WatchRingRequest, _context: grpc.ServicerContext
    ) -> Iterator[pb.RingUpdate]:
        self.times_asked += 1
        yield pb.RingUpdate(epoch=1, server_time_ns=self.clock_ns)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _unary(behaviour: Any, request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, request_deserializer=request.FromString, response_serializer=_bytes
    )
