"""What requests are made of, and what they are answered."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

Data = bytes | str
"""A key or value as it is handed in: text is encoded as UTF-8. What comes back is always bytes."""
Quorum = int | Literal["one", "quorum", "all"]
"""How many replicas must answer: so many, or by name in terms of the table's n."""


@dataclass(frozen=True, order=True)
class Stamp:
    """Names a version: of two versions of a key of an ``lww`` table the higher stamp wins."""

    time_ns: int
    """Nanoseconds since the Unix epoch."""
    counter: int
    node: int
    """The id of the member that gave it."""

    @staticmethod
    def from_bytes(data: bytes) -> Stamp:
        """Reads 16 bytes. Raises ``ValueError`` when there are more or fewer."""
        if len(data) != 16:
            raise ValueError(f"a stamp has 16 bytes, not {len(data)}")
        parts = (data[:8], data[8:12], data[12:])
        time_ns, counter, node = (int.from_bytes(part, "big") for part in parts)
        return Stamp(time_ns, counter, node)

    def to_bytes(self) -> bytes:
        """16 bytes, in the order of stamps."""
        parts = ((self.time_ns, 8), (self.counter, 4), (self.node, 4))
        return b"".join(number.to_bytes(size, "big") for number, size in parts)


@dataclass(frozen=True)
class WriteId:
    """Names a write, so that it can be asked after, or gone on with, from anywhere. As text it is
    ``ID-SINCE-LAST`` in hexadecimal, as the Rust library and ``kvctl`` write it."""

    id: bytes
    """16 random bytes, not all 0."""
    since_ns: int = 0
    """When it had not begun yet, by the servers' time; 0 when nobody knows."""
    last_ns: int = 0
    """Where the window of its last attempt ended; 0 when nobody knows."""

    def __post_init__(self) -> None:
        if len(self.id) != 16 or not any(self.id):
            raise ValueError("the id of a write has 16 bytes, not all 0")

    def __str__(self) -> str:
        return f"{self.id.hex()}-{self.since_ns:x}-{self.last_ns:x}"

    @staticmethod
    def parse(text: str) -> WriteId:
        """Reads what ``str`` has written; the id alone is enough. Raises ``ValueError``."""
        head, *times = text.split("-")
        if len(head) != 32 or len(times) > 2:
            raise ValueError(f"{text!r} is not ID-SINCE-LAST, an id of 32 hexadecimal digits")
        return WriteId(bytes.fromhex(head), *(int(time, 16) for time in times))


@dataclass(frozen=True)
class Receipt:
    """What an answer rests on."""

    epoch: int
    """The version of the cluster state it was answered by."""
    stamp: Stamp
    """Of the version read or written; zero when there is none."""
    answered: int
    """Bit i: owner i of the preference list, or its stand-in, had answered."""
    stand_ins: int
    """Bit i: a stand-in answered for owner i."""
    n: int
    """Copies of the key."""
    needed: int
    """How many had to answer."""
    weak: bool
    """Below the table's floors: its promises do not cover this answer."""
    repaired: bool
    """The owners that answered did not agree; repair was sent."""
    may_miss: bool
    """A read that may lack acknowledged sloppy writes."""
    many_siblings: bool
    """The key has ten siblings or more: somebody writes without contexts."""
    superseded_by: Stamp | None
    """Of a write that has lost to a later version: that version's stamp."""
    server_time_ns: int
    """Nanoseconds since the Unix epoch, by the server's hybrid clock."""
    trace_id: bytes
    """As it was sent, or empty."""


@dataclass(frozen=True)
class GetReply:
    """What a read found."""

    value: bytes | None
    """``None`` when there is none, which rests on as many answers as a value does."""
    receipt: Receipt
    expires_ns: int | None = None
    """When the value expires, in nanoseconds since the Unix epoch; ``None``: never."""
    context: bytes = b""
    """Of a causal table: what has been seen, for the next write of the key. Opaque."""


@dataclass(frozen=True)
class Sibling:
    """One of the values of a key."""

    value: bytes
    stamp: Stamp
    expires_ns: int | None = None
    is_counter: bool = False
    """The value is the sum of a counter, in decimal."""


@dataclass(frozen=True)
class Siblings:
    """All values of a key."""

    values: list[Sibling]
    """Oldest first; none when there is no such key."""
    count: int
    """How many there are: more than ``values`` when they do not fit one answer. A write with this
    context takes the place of those that are here, and the next read returns the others."""
    context: bytes
    """A write with it takes the place of all ``values``. Opaque."""
    receipt: Receipt


@dataclass(frozen=True)
class Written:
    """What came of a put or delete."""

    receipt: Receipt
    context: bytes = b""
    """Of a causal table: what its writer has now seen, the write included. Opaque."""
    siblings: int = 0
    """Of a causal table: how many there are now; several when others have written meanwhile."""


@dataclass(frozen=True)
class FoundVersion:
    """A value of a linearizable table, and which."""

    value: bytes
    stamp: Stamp
    expires_ns: int | None = None


@dataclass(frozen=True)
class CasReply:
    """What a compare-and-set came to."""

    applied: bool
    """Whether the key was as expected, and was changed. If not, this request never will change it."""
    receipt: Receipt
    """Its stamp is that of the change, or of what was found."""
    current: FoundVersion | None = None
    """Of one that was not applied, what the key held; ``None`` when it held nothing."""


@dataclass(frozen=True)
class Incremented:
    """An increment that was acknowledged."""

    value: int | None
    """Of a linearizable table: what this increment has made of the key; ``None`` when an attempt whose
    answer was lost had made it, and the key has been changed since. Of a causal table: what the node that
    made it then held; increments of others may be missing."""
    receipt: Receipt


@dataclass(frozen=True)
class Outcome:
    """What became of a write of a linearizable table. Final."""

    applied: bool
    """Whether it was made; others may have taken its place since. If not, it never will be."""
    stamp: Stamp | None = None
    """Of one that was made."""


@dataclass(frozen=True)
class Entry:
    """One key of a scan."""

    key: bytes
    value: bytes
    """Empty when only keys were asked for."""
    stamp: Stamp
    expires_ns: int | None = None
    siblings: int = 1
    """How many there are; 1 in tables of other kinds than causal."""
    value_left_out: bool = False
    """The value was wanted and is not here: there are several, or they are too large. Get the key."""


class TableKind(enum.Enum):
    """What a table promises about writes that do not see each other."""

    LWW = "lww"
    CAUSAL = "causal"
    LINEARIZABLE = "linearizable"


class Sloppy(enum.Enum):
    """Whether stand-ins may count towards a quorum while owners are away."""

    NEVER = "never"
    REQUEST = "request"
    ALWAYS = "always"


@dataclass(frozen=True)
class Table:
    """One table."""

    id: int
    name: str
    kind: TableKind
    n: int
    r: int
    w: int
    r_min: int
    w_min: int
    sloppy: Sloppy
    ttl: float | None
    """Default time to live, in seconds; ``None``: for ever."""
    value_bytes_max: int


@dataclass(frozen=True)
class TableList:
    """All tables."""

    epoch: int
    confirmed: bool
    """Whether a majority of the council has confirmed that this is the newest there is."""
    tables: list[Table] = field(default_factory=list)
