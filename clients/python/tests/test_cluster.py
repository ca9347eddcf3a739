"""The client against a real cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest
from conftest import Cluster

from roundtable import (
    Applied,
    Client,
    Conflict,
    InvalidArgument,
    QuorumNotReached,
    Receipt,
    RoundtableError,
    Sloppy,
    TableKind,
)

_names = count()


@pytest.fixture
def kv(cluster: Cluster) -> Iterator[Client]:
    with Client(cluster.endpoints) as client:
        yield client


def fresh(kv: Client, kind: TableKind) -> str:
    """A table of the test's own."""
    name = f"{kind.value}-{next(_names)}"
    kv.tables.create(name, kind=kind)
    return name


BYTES = [b"", b"\0", b"\n", b"line\nline\r\n", bytes(range(256)), "grüße".encode(), b"\xff" * 1000]


@pytest.mark.parametrize("data", BYTES, ids=range(len(BYTES)))
def test_any_bytes_round_trip_as_key_and_value(kv: Client, data: bytes) -> None:
    key = b"bytes:" + data
    kv.put(key, data)
    assert kv.get(key).value == data
    found = {entry.key: entry.value for entry in kv.scan(prefix=b"bytes:")}
    assert found[key] == data
    kv.delete(key)
    assert kv.get(key).value is None


def test_text_is_utf8_and_what_kvctl_wrote_is_read(cluster: Cluster, kv: Client) -> None:
    kv.put("schlüssel", "wert\n")
    assert cluster.kvctl("get", "schlüssel") == b"wert\n"
    cluster.kvctl("put", "from-kvctl", "yes")
    assert kv.get(b"from-kvctl").value == b"yes"


def test_the_largest_key_and_value_are_taken_and_larger_ones_refused_before_they_travel(kv: Client) -> None:
    key, value = b"k" * 4096, b"v" * (1 << 20)
    kv.put(key, value)
    assert kv.get(key).value == value
    kv.delete(key)
    for bad, code in [((b"", b""), "KEY_EMPTY"), ((key + b"k", b""), "KEY_TOO_LARGE")]:
        with pytest.raises(InvalidArgument, match=code):
            kv.put(*bad)
    with pytest.raises(InvalidArgument, match="VALUE_TOO_LARGE"):
        kv.put("key", value + b"v")


def test_a_receipt_says_what_an_answer_rests_on(kv: Client) -> None:
    wrote = kv.put("receipt", "1", w="all", trace_id=b"t" * 16).receipt
    assert (wrote.n, wrote.needed, wrote.answered, wrote.weak) == (3, 3, 0b111, False)
    assert wrote.trace_id == b"t" * 16
    assert abs(wrote.stamp.time_ns - time.time_ns()) < 60 * 10**9
    read = kv.get("receipt", r=1).receipt
    assert (read.stamp, read.needed, read.weak) == (wrote.stamp, 1, True)
    assert kv.get("receipt", r="one").receipt.needed == 1
    assert kv.get("receipt", monotonic=True).value == b"1"
    lost = kv.put("receipt", "0", time_ns=wrote.stamp.time_ns - 10**9, w="all").receipt
    assert lost.superseded_by == wrote.stamp
    assert kv.get("receipt").value == b"1"
    with pytest.raises(InvalidArgument, match="QUORUM_INVALID"):
        kv.get("receipt", r=4)


def test_a_value_expires(kv: Client) -> None:
    kv.put("short", "lived", ttl=0.3)
    before = kv.get("short")
    assert before.value == b"lived"
    assert before.expires_ns is not None
    until = time.monotonic() + 5
    while kv.get("short").value is not None:
        assert time.monotonic() < until
        time.sleep(0.02)
    kv.put("long", "lived", ttl=0)
    assert kv.get("long").expires_ns is None


def test_scans_are_in_byte_order_over_all_pages(kv: Client) -> None:
    table = fresh(kv, TableKind.LWW)
    keys = [b"k%03d" % number for number in range(25)] + [b"k\xff", b"k"]
    for key in keys:
        kv.put(key, key, table=table)

    def scanned(**options: object) -> list[bytes]:
        return [entry.key for entry in kv.scan(table=table, page_size=4, **options)]  # type: ignore[arg-type]

    ordered = sorted(keys)
    assert scanned() == ordered
    assert scanned(prefix="k00") == [key for key in ordered if key.startswith(b"k00")]
    assert scanned(start=b"k005", stop=b"k009") == [b"k005", b"k006", b"k007", b"k008"]
    assert scanned(after=b"k005", limit=3) == [b"k006", b"k007", b"k008"]
    assert scanned(limit=9) == ordered[:9]
    assert scanned(stop=b"k") == []
    assert scanned(reverse=True) == ordered[::-1]
    assert scanned(reverse=True, start=b"k005", stop=b"k009") == [b"k008", b"k007", b"k006", b"k005"]
    assert scanned(reverse=True, after=b"k005", stop=b"k009", limit=2) == [b"k008", b"k007"]
    assert scanned(reverse=True, prefix=b"k00", limit=1) == [max(k for k in ordered if k.startswith(b"k00"))]
    assert scanned(limit=0) == []
    values = {entry.key: entry.value for entry in kv.scan(table=table)}
    assert values == {key: key for key in keys}
    assert {entry.value for entry in kv.scan(table=table, keys_only=True)} == {b""}


def test_siblings_are_kept_until_a_context_takes_their_place(kv: Client) -> None:
    table = fresh(kv, TableKind.CAUSAL)
    kv.put("cart", "apples", table=table)
    kv.put("cart", "pears", table=table)
    with pytest.raises(Conflict) as caught:
        kv.get("cart", table=table)
    assert caught.value.code == "SIBLINGS"
    both = kv.siblings("cart", table=table)
    assert {sibling.value for sibling in both.values} == {b"apples", b"pears"}
    assert both.count == 2
    merged = kv.put("cart", "apples, pears", table=table, context=both.context)
    assert merged.siblings == 1
    reply = kv.get("cart", table=table)
    assert (reply.value, bool(reply.context)) == (b"apples, pears", True)
    # The context of a write is enough for the next one.
    after = kv.put("cart", "", table=table, context=merged.context)
    assert kv.get("cart", table=table).value == b""
    kv.delete("cart", table=table, context=after.context)
    assert kv.siblings("cart", table=table).values == []
    with pytest.raises(InvalidArgument, match="CONTEXT_INVALID"):
        kv.put("cart", "x", table=table, context=b"damaged")


def test_a_compare_and_set_is_made_once_and_says_what_was_there(kv: Client) -> None:
    table = fresh(kv, TableKind.LINEARIZABLE)
    first = kv.cas("12A", "Ada", table=table)
    assert first.applied
    second = kv.cas("12A", "Eve", table=table)
    assert not second.applied
    assert second.current is not None
    assert (second.current.value, second.current.stamp) == (b"Ada", first.receipt.stamp)
    assert kv.cas("12A", "Eve", table=table, expect="Ada").applied
    assert not kv.cas("12A", "Bob", table=table, expect=first.receipt.stamp).applied
    assert kv.cas("12A", None, table=table, expect="Eve").applied
    assert kv.get("12A", table=table).value is None
    assert kv.cas("12A", b"", table=table).applied
    assert kv.cas("12A", b"\n", table=table, expect=b"").applied
    with pytest.raises(InvalidArgument, match="KIND_MISMATCH"):
        kv.cas("12A", "Ada", table="default")


@pytest.mark.parametrize("kind", [TableKind.LINEARIZABLE, TableKind.CAUSAL])
def test_a_counter_is_added_to_and_read_in_decimal(kv: Client, kind: TableKind) -> None:
    table = fresh(kv, kind)
    assert kv.increment("hits", table=table).value == 1
    assert kv.increment("hits", -5, table=table, once=True).value == -4
    assert kv.get("hits", r="all", table=table).value == b"-4"
    siblings = kv.siblings("hits", table=table).values
    assert [one.is_counter for one in siblings] == [kind is TableKind.CAUSAL]
    kv.put("text", "a", table=table)
    with pytest.raises(Conflict, match="COUNTER_MISMATCH"):
        kv.increment("text", table=table)
    kv.increment("full", 2**63 - 1, table=table)
    with pytest.raises(InvalidArgument, match="COUNTER_OVERFLOW"):
        kv.increment("full", table=table)
    with pytest.raises(ValueError, match="64 bits"):
        kv.increment("full", 2**63, table=table)
    with pytest.raises(InvalidArgument, match="KIND_MISMATCH"):
        kv.increment("hits", table="default")


def test_a_batch_is_made_together_or_each_by_itself(kv: Client) -> None:
    table = fresh(kv, TableKind.LWW)
    kv.put("{t}c", "old", table=table)
    made = kv.batch({"{t}a": "1", b"{t}b": b"2", "{t}c": None}, table=table, atomic=True)
    receipts = [made[key] for key in ("{t}a", b"{t}b", "{t}c")]
    assert all(isinstance(one, Receipt) for one in receipts)
    assert len({one.stamp for one in receipts if isinstance(one, Receipt)}) == 1
    assert [kv.get(key, table=table).value for key in ("{t}a", "{t}b", "{t}c")] == [b"1", b"2", None]
    alone = kv.batch({"x": "1", "y": "2"}, table=table, ttl=60)
    assert all(isinstance(one, Receipt) for one in alone.values())
    with pytest.raises(InvalidArgument, match="BATCH_TOO_LARGE"):
        kv.batch({f"{{t}}{at}": None for at in range(257)}, table=table, atomic=True)
    causal = fresh(kv, TableKind.CAUSAL)
    refused = kv.batch({"{t}a": "1", "{t}b": "2"}, table=causal, atomic=True)
    assert [one.code for one in refused.values() if isinstance(one, InvalidArgument)] == ["KIND_MISMATCH"] * 2


def test_what_became_of_a_write_is_settled(kv: Client) -> None:
    table = fresh(kv, TableKind.LINEARIZABLE)
    write = kv.new_write()
    made = kv.put("key", "1", table=table, named=write)
    told = kv.outcome("key", write, table=table)
    assert (told.applied, told.stamp) == (True, made.receipt.stamp)
    # Sent again, it is the same write, and nothing is changed.
    kv.put("key", "2", table=table)
    assert kv.put("key", "1", table=table, again=write).receipt.stamp == made.receipt.stamp
    assert kv.get("key", table=table).value == b"2"
    never = kv.new_write()
    assert not kv.outcome("key", never, table=table).applied
    with pytest.raises(Conflict) as caught:
        kv.put("key", "3", table=table, again=never)
    assert caught.value.code == "REQUEST_CANCELLED"
    assert kv.get("key", table=table).value == b"2"


def test_tables_are_made_changed_and_dropped(kv: Client) -> None:
    made = kv.tables.create("people", n=3, w=3, ttl=3600, sloppy=Sloppy.NEVER, value_bytes_max=100)
    assert made is not None
    assert (made.kind, made.n, made.r, made.w, made.ttl) == (TableKind.LWW, 3, 2, 3, 3600.0)
    with pytest.raises(Conflict, match="TABLE_EXISTS"):
        kv.tables.create("people")
    kv.put("ada", "Lovelace", table="people")
    assert kv.get("ada", table="people").expires_ns is not None
    with pytest.raises(InvalidArgument, match="VALUE_TOO_LARGE") as caught:
        kv.put("ada", "x" * 101, table="people")
    assert (caught.value.facts.limit, caught.value.applied) == (100, Applied.NO)
    with pytest.raises(InvalidArgument, match="SLOPPY_NOT_ALLOWED"):
        kv.put("ada", "Lovelace", table="people", sloppy=True)
    altered = kv.tables.alter("people", w=2, ttl=0)
    assert altered is not None
    assert (altered.w, altered.ttl) == (2, None)
    assert kv.tables.describe("people") == altered
    listed = kv.tables.list()
    assert listed.confirmed
    assert altered in listed.tables
    assert kv.tables.drop("people") > listed.epoch
    with pytest.raises(InvalidArgument, match="TABLE_UNKNOWN"):
        kv.get("ada", table="people")


def test_threads_share_a_client_through_the_death_of_a_node(cluster: Cluster, kv: Client) -> None:
    failed: list[RoundtableError] = []
    written: list[bytes] = []
    ending = threading.Event()

    def write(thread: int) -> None:
        for number in count():
            key = b"t%d-%d" % (thread, number)
            try:
                kv.put(key, key)
                written.append(key)
            except RoundtableError as error:
                failed.append(error)
            if ending.is_set():
                return

    def advance(by: int) -> None:
        target, until = len(written) + by, time.monotonic() + 30
        while len(written) < target:
            assert time.monotonic() < until, failed
            time.sleep(0.01)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    try:
        advance(100)
        cluster.kill(3)
        advance(200)
        cluster.start(3)
        advance(100)
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert failed == []
    for key in written:
        assert kv.get(key).value == key


def test_without_a_quorum_the_error_says_so_and_what_is_known(cluster: Cluster, kv: Client) -> None:
    cluster.kill(2)
    cluster.kill(3)
    try:
        with Client(cluster.endpoints[:1], timeout=1.5) as one, pytest.raises(QuorumNotReached) as caught:
            one.put("key", "value", w=2)
        assert (caught.value.facts.needed, caught.value.code) == (2, "QUORUM_NOT_REACHED")
        assert caught.value.write is not None
    finally:
        for node in (2, 3):
            cluster.start_alone(node)
        cluster.all_serve()
    kv.put("key", "value", w="all")
