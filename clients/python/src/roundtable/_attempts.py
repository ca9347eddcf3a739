"""The attempts of one write. Each may be stamped only within its window of server time, and the windows
of one write follow each other without overlap: an attempt that was given up and wakes up late can only
lose to the one after it. Knows no clock and no socket."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ._errors import Applied
from ._types import WriteId

WINDOW_NS = 200_000_000
"""How far ahead of the servers' time a window ends."""


@dataclass(frozen=True)
class Named:
    """A write with a name, and whether it may have been sent before."""

    write: WriteId
    again: bool


@dataclass(frozen=True)
class Attempt:
    """One attempt, as it is sent; ``upper_ns`` is 0 when the window has no end."""

    request_id: bytes
    number: int
    lower_ns: int
    upper_ns: int
    since_ns: int


class Attempts:
    """The attempts of one write so far."""

    def __init__(self, named: Named | None = None, server_ns: int | None = None) -> None:
        self._id = named.write.id if named else new_id()
        self._since = named.write.since_ns if named else 0
        self._next = 0
        self._lower = 0
        self._upper = 0
        self._bounded = True
        self.applied = Applied.NO
        """What is known of the write over all its attempts."""
        if named and named.again:
            # Nobody knows what came of it: stamped above all windows that may be open until now.
            open_ns = 0 if server_ns is None else server_ns + WINDOW_NS
            self._lower = self._upper = max(named.write.last_ns, open_ns)
            self._next = 1
            self.applied = Applied.UNKNOWN

    @property
    def write(self) -> WriteId:
        """What names this write to those who ask what became of it."""
        return WriteId(self._id, self._since, self._upper)

    def begin(self, server_ns: int | None) -> Attempt:
        """The next attempt, given the servers' time now, if it is known. The last one must have been
        given up."""
        lower, number = self._lower, self._next
        upper = None
        if server_ns is not None:
            # Never empty, even when the estimate has stood still.
            upper = max(server_ns + WINDOW_NS, lower + 1)
        if number == 0 and self._since == 0:
            self._since = server_ns or 0
        self._next += 1
        self._bounded = upper is not None
        self._upper = lower if upper is None else upper
        return Attempt(self._id, number, lower, upper or 0, self._since)

    def ahead(self, server_ns: int | None) -> float:
        """Seconds the next attempt should wait, so that its stamp need not be ahead of the servers'
        time: retries that do not wait drive the clocks of the cluster forward."""
        return 0.0 if server_ns is None else max(self._lower - server_ns, 0) / 1e9

    def open(self, server_ns: int | None) -> float:
        """Seconds the window of the attempt under way is open yet; 0 when it has no end."""
        return 0.0 if server_ns is None else max(self._upper - server_ns, 0) / 1e9

    def failed(self, applied: Applied) -> None:
        """Takes note of how the last attempt failed."""
        if applied is not Applied.NO:
            self._lower = self._upper
        seen = {self.applied, applied}
        if Applied.YES in seen:
            self.applied = Applied.YES
        elif Applied.UNKNOWN in seen:
            self.applied = Applied.UNKNOWN

    def may_follow(self, applied: Applied) -> bool:
        """Whether another attempt may follow one that failed with ``applied``: when that had no effect,
        or when its window keeps it below the next."""
        if applied is Applied.UNKNOWN:
            return self._bounded
        return applied is Applied.NO


def new_id() -> bytes:
    """16 random bytes, not all 0."""
    while True:
        drawn = os.urandom(16)
        if any(drawn):
            return drawn
