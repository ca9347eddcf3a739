"""Many writes in one request, each with an outcome of its own. What is made is not sent again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from . import _errors as errors
from . import _wire as wire
from ._attempts import Attempt
from ._errors import Applied, RoundtableError, malformed
from ._operations import KV, Common, Operation
from ._types import Data, Quorum, Receipt
from .v1 import kv_pb2 as pb

ITEMS_MAX = 256
BYTES_MAX = 4 << 20

Outcomes = dict[Data, "Receipt | RoundtableError"]


class Batch:
    """Writes over all attempts."""

    def __init__(
        self,
        writes: Mapping[Data, Data | None],
        common: Common,
        *,
        w: Quorum | None,
        ttl: float | timedelta | None,
        atomic: bool,
    ) -> None:
        self._keys = list(writes)
        ttl_ms = None if ttl is None else wire.ttl_ms(ttl)
        self._items = [_item(key, value, ttl_ms) for key, value in writes.items()]
        _check(self._items)
        self._common, self._w, self._atomic = common, w, atomic
        self._done: dict[int, Receipt | RoundtableError] = {}
        self._sent: list[int] = []
        self.operation: Operation[None] = Operation(
            KV, "Batch", self._build, self._read, pb.BatchResponse, is_write=True, is_quick=False
        )

    def outcomes(self, error: RoundtableError | None) -> Outcomes:
        """What came of each; ``error`` is what the request failed with, of those that have no other."""
        left = error or errors.deadline()
        return {key: self._done.get(at, left) for at, key in enumerate(self._keys)}

    def _build(self, remaining: float, attempt: Attempt | None) -> pb.BatchRequest:
        self._sent = [at for at in range(len(self._items)) if at not in self._done]
        return pb.BatchRequest(
            header=self._common.header(remaining),
            items=[self._items[at] for at in self._sent],
            w=wire.quorum(self._w),
            attempt=None if attempt is None else wire.attempt(attempt),
            atomic=self._atomic,
        )

    def _read(self, told: pb.BatchResponse) -> None:
        if len(told.outcomes) != len(self._sent):
            raise malformed("another number of outcomes")
        again: RoundtableError | None = None
        for at, outcome in zip(self._sent, told.outcomes, strict=True):
            if outcome.HasField("receipt"):
                self._done[at] = wire.receipt(outcome)
            elif outcome.HasField("error"):
                error = wire.from_detail(outcome.error, write=True)
                if not error.retryable:
                    self._done[at] = error
                elif again is None or again.applied is Applied.NO:
                    again = error
            else:
                raise malformed("an outcome that is none")
        if again is not None:
            raise again


def _item(key: Data, value: Data | None, ttl_ms: int | None) -> pb.BatchRequest.Item:
    if value is None:
        return pb.BatchRequest.Item(key=wire.key(key))
    return pb.BatchRequest.Item(key=wire.key(key), value=wire.value(value), ttl_ms=ttl_ms)


def _check(items: list[pb.BatchRequest.Item]) -> None:
    size = sum(len(item.key) + len(item.value) for item in items)
    for limit, got, what in (
        (ITEMS_MAX, len(items), "writes"),
        (BYTES_MAX, size, "bytes of keys and values"),
    ):
        if got > limit:
            raise errors.coded("BATCH_TOO_LARGE", f"the batch has {got} {what}; the limit is {limit}")
