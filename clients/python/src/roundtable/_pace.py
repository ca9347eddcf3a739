"""How hard the servers are asked: the budget of retries, how long an attempt may take, and what their
clock reads. Numbers go in and come out; nothing here knows a clock or a socket."""

from __future__ import annotations

PATIENCE_MIN = 0.05
"""Seconds: no attempt is given up earlier; pauses of schedulers and disks are as long."""
_DEVIATIONS = 8
_HEDGE_MIN = 0.002
_HEDGE_DEVIATIONS = 4
_DOUBLINGS_MAX = 6
_READING_AGE_MAX = 10.0


class Budget:
    """A token bucket that requests fill slowly and retries drain quickly, so that retries never add more
    than a fraction to the load of a cluster in trouble. Starts full."""

    def __init__(self, burst: int, percent: int) -> None:
        self._capacity = burst * 100
        self._tokens = self._capacity
        self._percent = percent

    def deposit(self) -> None:
        """Counts a request."""
        self._tokens = min(self._tokens + self._percent, self._capacity)

    def withdraw(self) -> bool:
        """Pays for a retry; false when there is too little left."""
        if self._tokens < 100:
            return False
        self._tokens -= 100
        return True


class Patience:
    """What answers of one kind take, as TCP's retransmission timer estimates it (RFC 6298)."""

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._deviation = 0.0
        self._doublings = 0

    def answered(self, took: float) -> None:
        """An answer took so many seconds."""
        if self._smoothed is None:
            self._smoothed, self._deviation = took, took / 2
        else:
            off = abs(self._smoothed - took)
            self._smoothed = (self._smoothed * 7 + took) / 8
            self._deviation = (self._deviation * 3 + off) / 4
        self._doublings = 0

    def gave_up(self) -> None:
        """An attempt was given up: when everybody is slow, giving up early only makes more work."""
        self._doublings = min(self._doublings + 1, _DOUBLINGS_MAX)

    def usually(self) -> float | None:
        """Seconds in which nearly all answers come; ``None`` before the first."""
        if self._smoothed is None:
            return None
        return max(self._smoothed + self._deviation * _HEDGE_DEVIATIONS, _HEDGE_MIN)

    def of(self, remaining: float) -> float:
        """Seconds to wait for an attempt of a request that has ``remaining`` left."""
        half = half_of(remaining)
        if self._smoothed is None:
            return half
        estimate = self._smoothed + self._deviation * _DEVIATIONS
        return min(max(estimate, PATIENCE_MIN) * float(2**self._doublings), half)


def half_of(remaining: float) -> float:
    """The patience with requests whose latency says nothing about the next one's."""
    return min(max(remaining / 2, PATIENCE_MIN), remaining)


class ServerTime:
    """What the servers' clock reads, as far as receipts tell: the furthest reading seen, carried forward
    by our own clock. It bounds the windows of write attempts and nothing else."""

    def __init__(self) -> None:
        self._reading: tuple[int, float] | None = None

    def learn(self, seen_ns: int, now: float) -> None:
        """Takes note of a reading that came in at ``now``. One that is old gives way to any newer one,
        so that a node with a fast clock is forgotten."""
        if seen_ns == 0:
            return
        if self._reading is not None:
            wall, at = self._reading
            if now - at < _READING_AGE_MAX and seen_ns <= wall + int((now - at) * 1e9):
                return
        self._reading = (seen_ns, now)

    def estimate(self, now: float) -> int | None:
        """The servers' time at ``now``, in nanoseconds; ``None`` before the first reading."""
        if self._reading is None:
            return None
        wall, at = self._reading
        return wall + int((now - at) * 1e9)
