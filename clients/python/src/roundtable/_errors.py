"""What a caller is told when a request fails: why, whether to try again, and, of a write, what is known
of its outcome. Statuses of gRPC do not leave this package."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import WriteId


class Applied(enum.Enum):
    """What is known of a write's effect, over all its attempts."""

    NO = "no"
    """It has no effect, and will have none."""
    YES = "yes"
    """It has taken effect; only the answer fell short of what was asked."""
    UNKNOWN = "unknown"
    """It may have taken effect, or may yet: read before you decide, or write again."""


@dataclass(frozen=True)
class Facts:
    """The numbers behind an error; ``None`` where they do not belong to it."""

    limit: int | None = None
    needed: int | None = None
    got: int | None = None
    epoch: int | None = None
    retry_after: float | None = None
    """Seconds."""
    server_time_ns: int | None = None
    """Nanoseconds since the Unix epoch, by the server's clock."""
    bound: str | None = None
    """Whose bound of operations in flight was reached: ``node``, ``table`` or ``client``."""


class RoundtableError(Exception):
    """A failed request."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(code, message)
        self.code = code
        """Stable text: a code of ``docs/errors.md``, ``UNAVAILABLE``, ``SIBLINGS`` or ``UNAUTHENTICATED``."""
        self.message = message
        """The reason, for people."""
        self.retryable = retryable
        """Whether the same request may succeed when it is sent again."""
        self.applied = Applied.NO
        """What is known of a write's effect; of reads always ``Applied.NO``."""
        self.facts = Facts()
        """The numbers behind it."""
        self.write: WriteId | None = None
        """Of a failed write, what names it: for ``outcome``, or to go on with it."""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class InvalidArgument(RoundtableError):
    """The request is at fault; sent again, it will fail again."""


class Conflict(RoundtableError):
    """It contradicts what is there."""


class NotAvailableYet(RoundtableError):
    """A later version of the server offers this."""


class Unavailable(RoundtableError):
    """No node could be reached, or those that were do not serve at the moment."""


class QuorumNotReached(RoundtableError):
    """Too few replicas answered."""


class DeadlineExceeded(RoundtableError):
    """Time ran out."""


class Overloaded(RoundtableError):
    """The cluster asks to slow down."""


class Corruption(RoundtableError):
    """Stored bytes failed their checksum."""


class Unauthenticated(RoundtableError):
    """The server does not accept who we are."""


class InternalError(RoundtableError):
    """A defect, here or there; also of a code that a newer server knows and this package does not."""


CODES: dict[str, type[RoundtableError]] = {
    "KEY_EMPTY": InvalidArgument,
    "KEY_TOO_LARGE": InvalidArgument,
    "VALUE_TOO_LARGE": InvalidArgument,
    "BATCH_TOO_LARGE": InvalidArgument,
    "QUORUM_INVALID": InvalidArgument,
    "SLOPPY_NOT_ALLOWED": InvalidArgument,
    "TABLE_UNKNOWN": InvalidArgument,
    "TABLE_NAME_INVALID": InvalidArgument,
    "TABLE_INVALID": InvalidArgument,
    "TABLE_LIMIT": InvalidArgument,
    "MEMBER_UNKNOWN": InvalidArgument,
    "PLAN_INVALID": InvalidArgument,
    "CONTEXT_INVALID": InvalidArgument,
    "KIND_MISMATCH": InvalidArgument,
    "COUNTER_OVERFLOW": InvalidArgument,
    "TIME_TOO_FAR": InvalidArgument,
    "TIME_TOO_OLD": InvalidArgument,
    "REQUEST_MALFORMED": InvalidArgument,
    "TABLE_EXISTS": Conflict,
    "MEMBER_EXISTS": Conflict,
    "PLAN_CONFLICT": Conflict,
    "SIBLING_LIMIT": Conflict,
    "COUNTER_MISMATCH": Conflict,
    "REQUEST_CANCELLED": Conflict,
    "OUTCOME_FORGOTTEN": Conflict,
    "NOT_AVAILABLE_YET": NotAvailableYet,
    "NOT_READY": Unavailable,
    "CLOCK_BEHIND": Unavailable,
    "CLOCK_AHEAD": Unavailable,
    "ATTEMPT_EXPIRED": Unavailable,
    "CONTENTION": Unavailable,
    "STORAGE_READ_ONLY": Unavailable,
    "DISK_FULL": Unavailable,
    "PROTOCOL_MISMATCH": Unavailable,
    "CLUSTER_MISMATCH": Unavailable,
    "LINEAGE_MISMATCH": Unavailable,
    "IDENTITY_REFUSED": Unavailable,
    "QUORUM_NOT_REACHED": QuorumNotReached,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "OVERLOADED": Overloaded,
    "CORRUPTION": Corruption,
    "INTERNAL": InternalError,
}
"""The error that each code of the protocol becomes: the table of ``docs/errors.md``."""

UNAVAILABLE = "UNAVAILABLE"
"""The code of errors without an answer from a server."""
SIBLINGS = "SIBLINGS"
"""The code of a read of one value where there are several."""
UNAUTHENTICATED = "UNAUTHENTICATED"
"""The code of refused credentials."""


def coded(code: str, message: str, *, retryable: bool = False) -> RoundtableError:
    """The error of a code of the protocol."""
    return CODES.get(code, InternalError)(code, message, retryable=retryable)


def unavailable(message: str) -> RoundtableError:
    """No answer: the connection could not be made, or broke."""
    return Unavailable(UNAVAILABLE, message, retryable=True)


def deadline() -> RoundtableError:
    """The caller's time is up."""
    return coded("DEADLINE_EXCEEDED", "no answer within the timeout", retryable=True)


def malformed(what: str) -> RoundtableError:
    """An answer that no server of this protocol sends."""
    return coded("INTERNAL", f"the server sent {what}")


def serves(error: RoundtableError) -> bool:
    """Whether a node that answers with ``error`` is worth asking. One that refuses at once looks idle,
    so it would draw more and more requests, were it not taken out."""
    return error.code not in (UNAVAILABLE, "NOT_READY", "CLOCK_AHEAD")
