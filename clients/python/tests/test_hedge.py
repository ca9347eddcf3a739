"""Reads that take long, of which a second endpoint is asked; against servers that are slow when told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fake import Fake, break_off, refuse, slow

from roundtable import AsyncClient, Client, Unavailable
from roundtable.v1 import kv_pb2 as pb

WARM = 16
"""Reads until it is known what one takes."""
LATE = 1.5
"""Seconds a slow answer takes."""
READS = 20


@contextmanager
def two(hedge_percent: int) -> Iterator[tuple[Client, Fake, Fake]]:
    """A client of two servers, which knows what a read takes."""
    with Fake() as one, Fake() as other:
        addresses = [one.address, other.address]
        with Client(addresses, hedge_percent=hedge_percent, attempts=1) as kv:
            for _ in range(WARM):
                kv.get("key")
            yield kv, one, other


def read_past_a_slow_one(kv: Client, fake: Fake) -> float:
    """Reads until `fake` has been slow; how long the longest took."""
    fake.script.append(slow(LATE))
    longest = 0.0
    for _ in range(READS):
        begun = time.monotonic()
        assert kv.get("key").value == b"value"
        longest = max(longest, time.monotonic() - begun)
        if not fake.script:
            return longest
    raise AssertionError("the slow one was never asked")


def test_a_read_that_takes_long_is_answered_by_a_second_endpoint() -> None:
    with two(hedge_percent=100) as (kv, one, _other):
        assert read_past_a_slow_one(kv, one) < LATE / 2
        assert kv._core.hedged > 0


def test_without_hedges_a_slow_endpoint_is_waited_for() -> None:
    with two(hedge_percent=0) as (kv, one, _other):
        assert read_past_a_slow_one(kv, one) > LATE / 2
        assert kv._core.hedged == 0


def test_writes_are_never_under_way_twice() -> None:
    with two(hedge_percent=100) as (kv, one, other):
        for _ in range(WARM):
            kv.put("key", "value")
        one.script.append(slow(LATE))
        other.script.append(slow(LATE))
        kv.put("key", "value")
        assert len(one.puts) + len(other.puts) == WARM + 1


def test_asyncio_asks_a_second_endpoint_too() -> None:
    async def read(addresses: list[str], fake: Fake) -> tuple[float, int]:
        async with AsyncClient(addresses, hedge_percent=100, attempts=1) as kv:
            for _ in range(WARM):
                await kv.get("key")
            fake.script.append(slow(LATE))
            longest = 0.0
            for _ in range(READS):
                begun = time.monotonic()
                await kv.get("key")
                longest = max(longest, time.monotonic() - begun)
            return longest, kv._core.hedged

    with Fake() as one, Fake() as other:
        longest, hedged = asyncio.run(read([one.address, other.address], one))
        assert not one.script
        assert longest < LATE / 2
        assert hedged > 0


def test_where_one_fails_the_other_is_waited_for_and_an_error_of_both_is_told() -> None:
    def late_refusal(fake, context, closing) -> None:  # type: ignore[no-untyped-def]
        slow(0.2)(fake, context, closing)
        break_off(fake, context, closing)

    with two(hedge_percent=100) as (kv, one, other):
        # Whoever is first is slow and then breaks off, or answers late, but well.
        one.script.append(late_refusal)
        other.script.append(slow(0.4))
        assert kv.get("key").value == b"value"
        one.script.clear()
        other.script.clear()
        one.script.append(late_refusal)
        other.script.append(late_refusal)
        with pytest.raises(Unavailable):
            kv.get("key")
        assert [endpoint.open for endpoint in kv._core.pool.endpoints] == [0, 0]


def test_who_answers_with_an_error_of_the_cluster_is_well() -> None:
    def late_error(fake, context, closing) -> None:  # type: ignore[no-untyped-def]
        slow(0.2)(fake, context, closing)
        refuse("QUORUM_NOT_REACHED", pb.ErrorDetail.APPLIED_NO)(fake, context, closing)

    with two(hedge_percent=100) as (kv, one, other):
        one.script.append(late_error)
        other.script.append(slow(0.4))
        assert kv.get("key").value == b"value"
        assert kv._core.hedged > 0
        assert [endpoint._failures for endpoint in kv._core.pool.endpoints] == [0, 0]
