"""Who is asked next: the less busy of two drawn at random, among the endpoints in good health. Two
failures in a row take an endpoint out for a while; then one request tries it, and an answer lets it
back. Knows no socket; time is handed in."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from ._errors import coded

_FAILURES_MAX = 2
_EJECTION_MIN = 0.25
_EJECTION_MAX = 8.0
_OUTRUN_MAX = 4


class Endpoint:
    """One address of the cluster, and what is known of its health."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.open = 0
        """Requests in flight on it."""
        self._failures = 0
        self._outrun = 0
        self._out_until: float | None = None

    def out_until(self, now: float) -> float | None:
        """When it is tried again; ``None`` while it may be asked, or tried now."""
        if self._out_until is None or self._out_until <= now:
            return None
        return self._out_until

    def is_well(self) -> bool:
        """Whether it may be asked, and is not to be tried first."""
        return self._out_until is None

    def begin_trial(self, now: float) -> bool:
        """Whether it was out and this request tries it; nobody else does until it has had its chance."""
        if self._out_until is None:
            return False
        self._out_until = now + self._ejection()
        return True

    def answered(self) -> None:
        """It answered, be it with an error."""
        self._failures, self._outrun, self._out_until = 0, 0, None

    def outrun(self, now: float) -> None:
        """Another one that was asked later has answered first. Several in a row count as one failure."""
        self._outrun += 1
        if self._outrun >= _OUTRUN_MAX:
            self._outrun = 0
            self.failed(now)

    def failed(self, now: float) -> None:
        """It could not be reached, did not answer in time, or does not serve."""
        self._failures += 1
        if self._failures >= _FAILURES_MAX:
            self._out_until = now + self._ejection()

    def _ejection(self) -> float:
        doublings = min(max(self._failures - _FAILURES_MAX, 0), 16)
        return float(min(_EJECTION_MIN * 2**doublings, _EJECTION_MAX))


class Pool:
    """The addresses of a client; at least one."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.endpoints = [Endpoint(address) for address in dict.fromkeys(map(checked, addresses))]
        if not self.endpoints:
            raise coded("REQUEST_MALFORMED", "there is no endpoint")

    def spare(self, avoid: Collection[str]) -> Endpoint | None:
        """Whom to ask as well, if anybody is well who is not to be avoided."""
        fit = [one for one in self.endpoints if one.address not in avoid and one.is_well()]
        return _less_busy(fit) if fit else None

    def pick(self, avoid: Collection[str], now: float) -> Endpoint:
        """Whom to ask at ``now``, but not those in ``avoid``, unless there are no others."""
        fit: list[Endpoint] = []
        soonest: tuple[float, Endpoint] | None = None
        for endpoint in self.endpoints:
            if endpoint.address in avoid:
                continue
            until = endpoint.out_until(now)
            if until is not None:
                if soonest is None or until < soonest[0]:
                    soonest = (until, endpoint)
            elif endpoint.begin_trial(now):
                return endpoint
            else:
                fit.append(endpoint)
        if fit:
            return _less_busy(fit)
        # With everybody out, asking is still better than giving up unasked; and one who was to be
        # avoided is better than nobody.
        return soonest[1] if soonest else self.endpoints[0]


def _less_busy(fit: Sequence[Endpoint]) -> Endpoint:
    return min(random.sample(fit, min(len(fit), 2)), key=lambda endpoint: endpoint.open)


def checked(address: str) -> str:
    """``host:port`` of an address, with ``http://`` in front or not. Raises ``InvalidArgument``."""
    scheme, separator, rest = address.partition("://")
    if separator and scheme != "http":
        raise coded("REQUEST_MALFORMED", f"{address!r}: scheme {scheme} is not http")
    bare = (rest if separator else address).rstrip("/")
    host, _, port = bare.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise coded("REQUEST_MALFORMED", f"endpoint {address!r} is not host:port")
    return bare
