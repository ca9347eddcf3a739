"""Scans: pages of keys in byte order, each page a request of its own with its own timeout and retries,
so that a scan survives the node it began on."""

from __future__ import annotations

from typing import Any

from . import _wire as wire
from ._attempts import Attempt
from ._errors import malformed
from ._operations import KV, Common, Operation
from ._types import Data, Entry, Quorum
from .v1 import kv_pb2 as pb

PAGE_MAX = 1000
PAGE_DEFAULT = 500


class Scan:
    """A scan as far as it has come."""

    def __init__(
        self,
        common: Common,
        prefix: Data,
        start: Data,
        after: Data,
        stop: Data | None,
        limit: int | None,
        page_size: int,
        keys_only: bool,
        reverse: bool,
        r: Quorum | None,
    ) -> None:
        self._common = common
        self._prefix = wire.data(prefix)
        self._after = max(just_below(wire.data(start)), wire.data(after))
        self._stop = None if stop is None else wire.data(stop)
        self._left = limit
        self._page_size = min(max(page_size, 0), PAGE_MAX)
        self._keys_only = keys_only
        self._reverse = reverse
        self._r = wire.quorum(r)
        # Strictly above this, in reverse strictly below; empty: at the end.
        self._place = (self._stop or b"") if reverse else self._after
        if self._place:
            wire.key(self._place)

    def _is_past(self, key: bytes) -> bool:
        """Whether a key is past what was asked for."""
        if self._reverse:
            return bool(self._after) and key <= self._after
        return self._stop is not None and self._stop <= key

    def _goes_on(self, resume: bytes) -> bool:
        """Whether the page at hand can end there."""
        if self._reverse:
            return bool(resume) and (not self._place or resume < self._place)
        return resume > self._place

    def next_page(self) -> Operation[list[Entry]] | None:
        """The next page; ``None`` when there is none. The one before must have been answered."""
        # No key is below the empty one.
        is_empty = self._stop == b"" or (bool(self._place) and self._is_past(self._place))
        if is_empty or (self._left is not None and self._left <= 0):
            return None
        return Operation(KV, "Scan", self._build, self._read, pb.ScanResponse, is_quick=False)

    def _build(self, remaining: float, _attempt: Attempt | None) -> Any:
        limit = self._page_size
        if self._left is not None:
            limit = min(self._left, limit or PAGE_DEFAULT)
        return pb.ScanRequest(
            header=self._common.header(remaining),
            prefix=self._prefix,
            after=self._place,
            limit=limit,
            keys_only=self._keys_only,
            reverse=self._reverse,
            r=self._r,
        )

    def _read(self, page: pb.ScanResponse) -> list[Entry]:
        wire.receipt(page)
        entries: list[Entry] = []
        ended = not page.more
        for one in page.entries:
            if self._is_past(one.key) or (self._left is not None and self._left <= len(entries)):
                ended = True
                break
            entries.append(
                Entry(
                    key=one.key,
                    value=one.value,
                    stamp=wire.stamp(one.stamp),
                    expires_ns=wire.expires(one),
                    siblings=max(one.sibling_count, 1),
                    value_left_out=one.value_left_out and not self._keys_only,
                )
            )
        if not ended and not self._goes_on(page.resume):
            raise malformed("a page that resumes before its start")
        self._place = page.resume
        if ended:
            self._left = 0
        elif self._left is not None:
            self._left -= len(entries)
        return entries


def just_below(key: bytes) -> bytes:
    """The greatest key below ``key``, so that "strictly above it" means "at or above ``key``". Keys are
    at most 4 KiB, so there is one: the same with its last byte one lower and then as many 0xff as fit,
    or without its last byte when that is 0."""
    if not key:
        return b""
    head, last = key[:-1], key[-1]
    if last == 0:
        return head
    below = head + bytes([last - 1])
    return below.ljust(max(wire.KEY_BYTES_MAX, len(key)), b"\xff")
