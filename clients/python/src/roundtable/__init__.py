"""A client for Roundtable, a distributed key-value database without a leader.

>>> from roundtable import Client
>>> with Client(["127.0.0.1:7450", "127.0.0.1:7460"]) as kv:  # doctest: +SKIP
...     kv.put("greeting", "hello")
...     print(kv.get("greeting").value)
"""

from ._aio import AsyncClient
from ._errors import (
    CODES,
    Applied,
    Conflict,
    Corruption,
    DeadlineExceeded,
    Facts,
    InternalError,
    InvalidArgument,
    NotAvailableYet,
    Overloaded,
    QuorumNotReached,
    RoundtableError,
    Unauthenticated,
    Unavailable,
)
from ._sync import Client
from ._tables import AsyncTables, Tables
from ._types import (
    CasReply,
    Data,
    Entry,
    FoundVersion,
    GetReply,
    Incremented,
    Outcome,
    Quorum,
    Receipt,
    Sibling,
    Siblings,
    Sloppy,
    Stamp,
    Table,
    TableKind,
    TableList,
    WriteId,
    Written,
)

__all__ = [
    "CODES",
    "Applied",
    "AsyncClient",
    "AsyncTables",
    "CasReply",
    "Client",
    "Conflict",
    "Corruption",
    "Data",
    "DeadlineExceeded",
    "Entry",
    "Facts",
    "FoundVersion",
    "GetReply",
    "Incremented",
    "InternalError",
    "InvalidArgument",
    "NotAvailableYet",
    "Outcome",
    "Overloaded",
    "Quorum",
    "QuorumNotReached",
    "Receipt",
    "RoundtableError",
    "Sibling",
    "Siblings",
    "Sloppy",
    "Stamp",
    "Table",
    "TableKind",
    "TableList",
    "Tables",
    "Unauthenticated",
    "Unavailable",
    "WriteId",
    "Written",
]
