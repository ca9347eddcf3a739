"""Retries, against servers that fail as they are told to."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from fake import START_NS, Fake, break_off, refuse, slow, swallow

from roundtable import (
    Applied,
    AsyncClient,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    QuorumNotReached,
    Receipt,
    Unavailable,
)
from roundtable._attempts import WINDOW_NS
from roundtable._core import kept_for_answers
from roundtable.v1 import kv_pb2 as pb

UNKNOWN = pb.ErrorDetail.APPLIED_UNKNOWN
NO = pb.ErrorDetail.APPLIED_NO
YES = pb.ErrorDetail.APPLIED_YES


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{one.getsockname()[1]}"


def check_attempts(puts: list[pb.PutRequest]) -> None:
    """The attempts of one write: one id, counted, and windows that follow each other."""
    tries = [put.attempt for put in puts]
    assert len({one.request_id for one in tries}) == 1
    assert len(tries[0].request_id) == 16
    assert [one.number for one in tries] == list(range(len(tries)))
    assert {one.since_ns for one in tries} == {tries[0].since_ns}
    assert START_NS <= tries[0].since_ns < START_NS + 10**9
    assert tries[0].lower_ns == 0
    for before, after in zip(tries, tries[1:], strict=False):
        assert after.lower_ns == before.upper_ns
        assert after.upper_ns > after.lower_ns


def test_a_write_whose_fate_is_unknown_is_sent_again_as_the_same_write_above_its_window() -> None:
    with Fake(refuse("QUORUM_NOT_REACHED", UNKNOWN), refuse("QUORUM_NOT_REACHED", UNKNOWN)) as fake:
        with Client([fake.address]) as kv:
            begun = time.monotonic()
            kv.put("key", "value")
            took = time.monotonic() - begun
        assert len(fake.puts) == 3
        check_attempts(fake.puts)
        # Before the window of one is over, the next is not sent: two windows of 200 ms.
        assert took > 2 * WINDOW_NS / 1e9 * 0.9
        assert fake.puts[0].attempt.upper_ns >= START_NS + WINDOW_NS


def test_asyncio_makes_the_same_attempts() -> None:
    async def write(address: str) -> None:
        async with AsyncClient([address]) as kv:
            await kv.put("key", "value")

    with Fake(refuse("QUORUM_NOT_REACHED", UNKNOWN), refuse("NOT_READY", NO)) as fake:
        asyncio.run(write(fake.address))
        assert len(fake.puts) == 3
        tries = [put.attempt for put in fake.puts]
        assert tries[1].lower_ns == tries[0].upper_ns
        # The second had no effect: the third need not be above its window.
        assert tries[2].lower_ns == tries[1].lower_ns


def test_a_write_without_effect_is_sent_again_at_once() -> None:
    with Fake(refuse("NOT_READY", NO)) as fake, Client([fake.address]) as kv:
        begun = time.monotonic()
        kv.put("key", "value")
        assert time.monotonic() - begun < WINDOW_NS / 1e9
        assert [put.attempt.lower_ns for put in fake.puts] == [0, 0]


def test_an_attempt_that_is_never_answered_is_given_up_for_another_endpoint() -> None:
    with (
        Fake() as first,
        Fake() as second,
        Client([first.address, second.address], hedge_percent=0, timeout=4) as kv,
    ):
        for _ in range(30):
            kv.put("warm", "up")
        warm = len(first.puts) + len(second.puts)
        first.script.append(swallow)
        second.script.append(swallow)
        begun = time.monotonic()
        while first.script and second.script:
            kv.put("key", "value")
        # Well before half of the timeout; the window of the attempt that was given up is waited for.
        assert time.monotonic() - begun < 1.5
        tries = (first.puts + second.puts)[0:]
        given_up = {put.attempt.request_id for put in tries if put.attempt.number == 1}
        assert len(given_up) == 1, f"{len(tries) - warm} attempts"


def test_an_answer_within_the_window_ends_the_write_although_it_was_given_up() -> None:
    with Fake() as one, Fake() as other, Client([one.address, other.address], hedge_percent=0) as kv:
        for _ in range(30):
            kv.put("warm", "up")
        before = len(one.puts) + len(other.puts)
        # Longer than the patience, shorter than the window.
        one.script.append(slow(0.1))
        other.script.append(slow(0.1))
        kv.put("key", "value")
        assert len(one.puts) + len(other.puts) == before + 1


def test_a_silent_cluster_costs_the_timeout_and_the_write_stays_unknown() -> None:
    with Fake(swallow, swallow, swallow, swallow) as fake, Client([fake.address]) as kv:
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded) as caught:
            kv.put("key", "value", timeout=0.6)
        assert 0.5 < time.monotonic() - begun < 1.5
        assert caught.value.applied is Applied.UNKNOWN
        write = caught.value.write
        assert write is not None
        assert write.id == fake.puts[0].attempt.request_id
        assert write.last_ns == fake.puts[-1].attempt.upper_ns
        # Each server was told a little less than what there was.
        assert all(0 < put.header.timeout_ms <= 590 for put in fake.puts)


def test_what_a_server_has_said_is_not_replaced_by_the_silence_of_another() -> None:
    with Fake(refuse("QUORUM_NOT_REACHED", NO), *[swallow] * 3) as fake, Client([fake.address]) as kv:
        with pytest.raises(QuorumNotReached) as caught:
            kv.put("key", "value", timeout=0.6)
        assert caught.value.applied is Applied.UNKNOWN
        assert len(fake.puts) == 2


def test_no_attempt_begins_in_the_time_that_is_kept_for_answers() -> None:
    assert kept_for_answers(60) == kept_for_answers(5) == 0.25
    assert kept_for_answers(1) == 0.05
    # The server would have it asked again just before the end.
    script = refuse("OVERLOADED", NO, retry_after_ms=580)
    with Fake(script) as fake, Client([fake.address]) as kv, pytest.raises(Overloaded):
        kv.get("key", timeout=0.6)
    assert len(fake.gets) == 1


def test_a_later_harmless_failure_does_not_take_an_unknown_one_back() -> None:
    script = [refuse("QUORUM_NOT_REACHED", UNKNOWN), *[refuse("NOT_READY", NO)] * 3]
    with Fake(*script) as fake, Client([fake.address]) as kv, pytest.raises(Unavailable) as caught:
        kv.put("key", "value")
    assert caught.value.applied is Applied.UNKNOWN
    assert len(fake.puts) == 4


def test_a_connection_that_breaks_leaves_a_write_unknown_and_a_read_without_effect() -> None:
    with Fake(*[break_off] * 8) as fake, Client([fake.address]) as kv:
        with pytest.raises(Unavailable) as caught:
            kv.put("key", "value")
        assert (caught.value.code, caught.value.applied) == ("UNAVAILABLE", Applied.UNKNOWN)
        check_attempts(fake.puts)
        with pytest.raises(Unavailable) as caught:
            kv.get("key")
        assert caught.value.applied is Applied.NO
        assert len(fake.puts) == len(fake.gets) == 4


def test_without_a_token_what_is_under_way_is_waited_for() -> None:
    with (
        Fake() as one,
        Fake() as other,
        Client([one.address, other.address], hedge_percent=0, retry_burst=0) as kv,
    ):
        for _ in range(30):
            kv.get("warm")
        before = len(one.gets) + len(other.gets)
        one.script.append(slow(0.3))
        other.script.append(slow(0.3))
        kv.get("key")
        assert len(one.gets) + len(other.gets) == before + 1


def test_what_has_taken_effect_is_not_sent_again() -> None:
    script = refuse("QUORUM_NOT_REACHED", YES)
    with Fake(script) as fake, Client([fake.address]) as kv, pytest.raises(QuorumNotReached) as caught:
        kv.put("key", "value")
    assert caught.value.applied is Applied.YES
    assert len(fake.puts) == 1


def test_a_request_that_is_at_fault_is_not_sent_again() -> None:
    script = refuse("TABLE_UNKNOWN", NO, retryable=False)
    with Fake(script) as fake, Client([fake.address]) as kv, pytest.raises(InvalidArgument) as caught:
        kv.get("key", table="nowhere")
    assert (caught.value.code, len(fake.gets)) == ("TABLE_UNKNOWN", 1)


def test_without_server_time_a_write_of_unknown_fate_is_not_sent_again_and_has_no_window() -> None:
    fake = Fake(refuse("QUORUM_NOT_REACHED", UNKNOWN), clock_ns=0)
    with fake, Client([fake.address], timeout=0.4) as kv, pytest.raises(QuorumNotReached):
        kv.put("key", "value")
    attempt = fake.puts[0].attempt
    assert (len(fake.puts), attempt.lower_ns, attempt.upper_ns, attempt.since_ns) == (1, 0, 0, 0)


def test_the_first_write_asks_for_the_time_and_later_ones_know_it() -> None:
    with Fake() as fake, Client([fake.address]) as kv:
        kv.get("key")
        kv.put("key", "value")
        assert fake.times_asked == 0, "the read told it"
    with Fake() as fake, Client([fake.address]) as kv:
        kv.put("key", "value")
        kv.put("key", "value")
        assert fake.times_asked == 1
        assert all(put.attempt.upper_ns > 0 for put in fake.puts)


def test_a_change_of_tables_is_known_by_its_id_and_sent_again_without_a_window() -> None:
    with Fake(refuse("QUORUM_NOT_REACHED", UNKNOWN), clock_ns=0) as fake:
        with Client([fake.address], timeout=2) as kv:
            kv.tables.create("people", n=3)
        ids = {create.header.request_id for create in fake.tables}
        assert (len(fake.tables), len(ids)) == (2, 1)
        assert len(ids.pop()) == 16


def test_nobody_home_is_said_at_once_and_nothing_was_applied() -> None:
    with Client([nobody(), nobody()]) as kv:
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            kv.put("key", "value")
        assert time.monotonic() - begun < 4
        assert (caught.value.code, caught.value.applied) == ("UNAVAILABLE", Applied.NO)


def test_one_dead_address_of_two_is_not_noticed() -> None:
    with Fake() as fake, Client([nobody(), fake.address]) as kv:
        for number in range(20):
            kv.put(f"key-{number}", "value")
        assert len(fake.puts) == 20


def test_the_server_says_when_to_try_again() -> None:
    script = refuse("OVERLOADED", NO, retry_after_ms=120)
    with Fake(script) as fake, Client([fake.address]) as kv:
        begun = time.monotonic()
        kv.get("key")
        assert time.monotonic() - begun >= 0.115
        assert len(fake.gets) == 2


def test_retries_stop_when_the_budget_is_spent() -> None:
    fake = Fake(*[refuse("OVERLOADED", NO)] * 100)
    with fake, Client([fake.address], retry_burst=5, retry_percent=0) as kv:
        for _ in range(10):
            with pytest.raises(Overloaded):
                kv.get("key")
        assert len(fake.gets) == 15


def test_requests_beyond_the_bound_wait_for_their_turn_and_are_stamped_when_it_comes() -> None:
    async def burst(fake: Fake) -> None:
        async with AsyncClient([fake.address], open_max=1) as kv:
            await kv.get("key")
            await asyncio.gather(*(kv.put(f"key-{number}", "value") for number in range(3)))
            with pytest.raises(DeadlineExceeded) as caught:
                await asyncio.gather(kv.put("long", "value"), kv.put("short", "value", timeout=0.05))
            assert caught.value.applied is Applied.NO

    # Each takes longer than half of a window: begun together, the third would be sent too late.
    with Fake(slow(0), slow(0.15), slow(0.15), slow(0.15), slow(0.3)) as fake:
        asyncio.run(burst(fake))
        uppers = [put.attempt.upper_ns for put in fake.puts[:3]]
        assert uppers[2] - uppers[0] > 0.25e9
        assert [put.key for put in fake.puts[3:]] == [b"long"]


def test_threads_wait_for_their_turn_too() -> None:
    with Fake(swallow) as fake, Client([fake.address], open_max=1, timeout=1) as kv:
        holder = threading.Thread(target=lambda: pytest.raises(DeadlineExceeded, kv.get, "long"))
        holder.start()
        while not fake.gets:
            time.sleep(0.005)
        with pytest.raises(DeadlineExceeded, match="under way"):
            kv.get("short", timeout=0.05)
        holder.join()
        assert [get.key for get in fake.gets] == [b"long"]


def test_a_cancelled_task_leaves_no_call_behind() -> None:
    async def give_up(address: str) -> None:
        async with AsyncClient([address]) as kv:
            task = asyncio.ensure_future(kv.get("key"))
            while not fake.gets:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert {endpoint.open for endpoint in kv._core.pool.endpoints} == {0}
            # The server hears of it, long before the timeout and while the connection stands.
            assert await asyncio.to_thread(fake.given_up.wait, 2)

    with Fake(swallow) as fake:
        asyncio.run(give_up(fake.address))


def test_what_a_batch_has_made_is_not_sent_again_and_the_rest_is_the_same_batch() -> None:
    with Fake() as fake:
        fake.refused.extend([{b"b", b"c"}, {b"c"}])
        with Client([fake.address]) as kv:
            made = kv.batch({"a": "1", "b": "2", "c": None}, atomic=True)
        assert all(isinstance(one, Receipt) for one in made.values())
        sent = [[item.key for item in batch.items] for batch in fake.batches]
        assert sent == [[b"a", b"b", b"c"], [b"b", b"c"], [b"c"]]
        tries = [batch.attempt for batch in fake.batches]
        assert len({one.request_id for one in tries}) == 1
        assert tries[1].lower_ns == tries[0].upper_ns
        assert all(batch.atomic for batch in fake.batches)


def test_of_a_batch_that_fails_in_part_the_rest_is_told() -> None:
    with Fake() as fake:
        fake.refused.extend([{b"b"}] * 9)
        with Client([fake.address], attempts=2) as kv:
            made = kv.batch({"a": "1", "b": "2"}, atomic=True)
        failed = made["b"]
        assert isinstance(made["a"], Receipt)
        assert isinstance(failed, QuorumNotReached)
        assert failed.applied is Applied.UNKNOWN
