"""Windows, budgets, patience and health, without a clock or a socket."""

from __future__ import annotations

import pytest

from roundtable import Applied, Stamp, WriteId
from roundtable._attempts import WINDOW_NS, Attempts, Named
from roundtable._errors import RoundtableError
from roundtable._pace import PATIENCE_MIN, Budget, Patience, ServerTime
from roundtable._pool import Endpoint, Pool, checked
from roundtable._scan import just_below

ID = bytes(15) + b"\7"


def test_windows_follow_each_other_without_overlap() -> None:
    attempts = Attempts()
    first = attempts.begin(1_000)
    attempts.failed(Applied.UNKNOWN)
    second = attempts.begin(5_000)
    assert (first.number, first.lower_ns, first.upper_ns) == (0, 0, 1_000 + WINDOW_NS)
    assert (second.request_id, second.number) == (first.request_id, 1)
    assert (second.lower_ns, second.upper_ns) == (first.upper_ns, 5_000 + WINDOW_NS)
    assert first.since_ns == second.since_ns == 1_000
    assert attempts.write == WriteId(first.request_id, 1_000, second.upper_ns)


def test_a_window_is_never_empty_even_when_server_time_stands_still() -> None:
    attempts = Attempts()
    attempts.begin(1_000)
    attempts.failed(Applied.UNKNOWN)
    second = attempts.begin(1_000)
    assert second.upper_ns > second.lower_ns


def test_an_attempt_without_effect_neither_moves_the_window_nor_makes_the_next_one_wait() -> None:
    attempts = Attempts()
    attempts.begin(1_000)
    attempts.failed(Applied.NO)
    assert attempts.ahead(2_000) == 0
    assert attempts.begin(2_000).lower_ns == 0
    attempts.failed(Applied.UNKNOWN)
    assert attempts.ahead(2_000) == WINDOW_NS / 1e9
    assert attempts.ahead(None) == 0


def test_before_server_time_is_known_only_a_harmless_failure_is_retried() -> None:
    attempts = Attempts()
    first = attempts.begin(None)
    assert (first.lower_ns, first.upper_ns) == (0, 0)
    assert attempts.may_follow(Applied.NO)
    assert not attempts.may_follow(Applied.UNKNOWN)
    attempts.begin(1_000)
    assert attempts.may_follow(Applied.UNKNOWN)
    assert not attempts.may_follow(Applied.YES)


def test_a_write_of_elsewhere_goes_on_above_all_windows_that_may_be_open() -> None:
    write = WriteId(ID, 3, 0)
    first = Attempts(Named(write, again=False), 1_000).begin(1_000)
    assert (first.request_id, first.number, first.since_ns, first.lower_ns) == (ID, 0, 3, 0)
    attempts = Attempts(Named(write, again=True), 1_000)
    following = attempts.begin(1_000)
    assert (following.request_id, following.number, following.since_ns) == (ID, 1, 3)
    assert following.lower_ns == 1_000 + WINDOW_NS
    attempts.failed(Applied.NO)
    assert attempts.applied is Applied.UNKNOWN


def test_an_unknown_attempt_keeps_the_whole_write_unknown() -> None:
    attempts = Attempts()
    known = []
    for one in (Applied.NO, Applied.UNKNOWN, Applied.NO, Applied.YES, Applied.UNKNOWN):
        attempts.failed(one)
        known.append(attempts.applied)
    assert known == [Applied.NO, Applied.UNKNOWN, Applied.UNKNOWN, Applied.YES, Applied.YES]


def test_retries_are_a_fraction_of_requests_once_the_burst_is_spent() -> None:
    budget = Budget(3, 10)
    assert sum(budget.withdraw() for _ in range(9)) == 3
    retried = 0
    for _ in range(100):
        budget.deposit()
        retried += budget.withdraw()
    assert retried == 10
    for _ in range(1000):
        budget.deposit()
    assert sum(budget.withdraw() for _ in range(9)) == 3


def test_fast_answers_make_patience_short_and_giving_up_doubles_it() -> None:
    patience = Patience()
    assert patience.of(1.0) == 0.5
    for _ in range(100):
        patience.answered(0.002)
    assert patience.of(1.0) == PATIENCE_MIN
    patience.gave_up()
    assert patience.of(1.0) == PATIENCE_MIN * 2
    for _ in range(100):
        patience.gave_up()
    assert patience.of(1.0) == 0.5
    patience.answered(0.1)
    assert 0.1 < patience.of(1.0) < 0.25


def test_the_furthest_reading_is_carried_forward_and_one_far_ahead_forgotten() -> None:
    time = ServerTime()
    assert time.estimate(5.0) is None
    time.learn(1_000_000_000_000, 0.0)
    time.learn(5_000_000_000, 1.0)
    assert time.estimate(1.0) == 1_001_000_000_000
    time.learn(15_000_000_000, 11.0)
    assert time.estimate(11.0) == 15_000_000_000


def test_failures_in_a_row_take_an_endpoint_out_and_a_trial_lets_it_back() -> None:
    pool = Pool(["a:1", "b:1"])
    one, other = pool.endpoints
    one.failed(0.0)
    assert one.out_until(0.0) is None
    one.failed(0.0)
    assert one.out_until(0.0) == 0.25
    assert {pool.pick([], 0.1) for _ in range(20)} == {other}
    # Its time is over: one request tries it, the next ones do not.
    assert pool.pick([], 0.3) is one
    assert {pool.pick([], 0.3) for _ in range(20)} == {other}
    one.answered()
    assert {pool.pick([], 0.3) for _ in range(60)} == {one, other}
    assert {pool.pick(["b:1"], 0.3) for _ in range(20)} == {one}


def test_each_failed_trial_doubles_the_wait_up_to_a_bound() -> None:
    endpoint = Endpoint("a:1")
    waits = []
    for _ in range(30):
        endpoint.failed(0.0)
        waits.append(endpoint.out_until(0.0))
    assert waits[:3] == [None, 0.25, 0.5]
    assert waits[-1] == 8.0


def test_the_less_busy_endpoint_is_asked() -> None:
    pool = Pool(["a:1", "b:1", "a:1"])
    busy, idle = pool.endpoints
    busy.open = 3
    assert {pool.pick([], 0.0) for _ in range(20)} == {idle}


@pytest.mark.parametrize("bad", ["", "host", "https://host:1", "host:0", "host:x", ":1"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(RoundtableError, match="REQUEST_MALFORMED"):
        checked(bad)


def test_addresses_may_have_a_scheme() -> None:
    assert checked("http://host:7450/") == "host:7450"
    assert checked("[::1]:7450") == "[::1]:7450"


def test_the_name_of_a_write_survives_as_text() -> None:
    write = WriteId(ID, 0xABC, 0xDEF)
    assert str(write) == "00000000000000000000000000000007-abc-def"
    assert WriteId.parse(str(write)) == write
    assert WriteId.parse(ID.hex()) == WriteId(ID)
    for bad in ("", "7", "0" * 32, ID.hex() + "-x", str(write) + "-1"):
        with pytest.raises(ValueError, match=r".+"):
            WriteId.parse(bad)


def test_stamps_are_ordered_as_their_bytes() -> None:
    stamps = [Stamp(1, 0, 9), Stamp(1, 1, 0), Stamp(2, 0, 0), Stamp(2, 0, 1)]
    as_bytes = [stamp.to_bytes() for stamp in stamps]
    assert as_bytes == sorted(as_bytes)
    assert [Stamp.from_bytes(data) for data in as_bytes] == sorted(stamps)
    with pytest.raises(ValueError, match="16 bytes"):
        Stamp.from_bytes(b"short")


def test_nothing_fits_between_a_key_and_the_one_just_below_it() -> None:
    assert just_below(b"") == b""
    assert just_below(b"ab\0") == b"ab"
    below = just_below(b"ab")
    assert (len(below), below[:3]) == (4096, b"aa\xff")
    assert below < b"ab"
