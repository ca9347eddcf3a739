"""One request over all its attempts: whom to ask, how long to wait, whether to ask again. The decisions
are a generator, which yields what is to be waited for and is sent what came of it, so that threads and
asyncio run the same ones. Does what the Rust library does (``src/client/call.rs`` there)."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import grpc

from . import _errors as errors
from . import _wire as wire
from ._attempts import Attempts
from ._errors import Applied, RoundtableError, serves
from ._hedge import Asked, Heard, listen
from ._operations import Operation, receipt_of
from ._pace import Budget, Patience, ServerTime, half_of
from ._pool import Endpoint, Pool
from ._steps import AskTime, Cancel, Sleep, Start, Steps, Wait

T = TypeVar("T")

_PAUSE_MIN = 0.004
_PAUSE_MAX = 0.5
_HEDGE_BURST = 16


@dataclass(frozen=True)
class Options:
    """How a client behaves."""

    timeout: float
    attempts: int
    retry_burst: int
    retry_percent: int
    hedge_percent: int


@dataclass
class _Failed:
    error: RoundtableError
    # It is what somebody answered, not that nobody did.
    is_heard: bool
    addresses: list[str]
    is_paid: bool


class Core:
    """What all requests of a client share."""

    def __init__(self, addresses: list[str], options: Options) -> None:
        self.pool = Pool(addresses)
        self.options = options
        self.budget = Budget(options.retry_burst, options.retry_percent)
        percent = min(max(options.hedge_percent, 0), 100)
        self.hedges = Budget(_HEDGE_BURST if percent > 0 else 0, percent)
        self.hedged = 0
        """Reads of which a second endpoint was asked."""
        self.reads = Patience()
        self.writes = Patience()
        self.server_time = ServerTime()
        self._learning = False
        # Threads share all of the above; it is never held while something is waited for.
        self._lock = threading.Lock()

    def deadline(self, timeout: float | None) -> float:
        """When a request that begins now is out of time."""
        return monotonic() + (self.options.timeout if timeout is None else timeout)

    def run(self, operation: Operation[T], deadline: float) -> Steps[T]:
        """Runs an operation until it succeeds, fails for good, or the deadline has passed. Raises the last
        attempt's error, with what is known of the outcome over all of them."""
        # An attempt that begins in this time could do little but put its own silence in the place of what
        # those before have said.
        kept = kept_for_answers(deadline - monotonic())
        if operation.is_write:
            yield from self._learn_time(deadline)
        attempts = Attempts(operation.named, self.server_now())
        avoid: list[str] = []
        told: RoundtableError | None = None
        with self._lock:
            self.budget.deposit()
        for number in range(1, self.options.attempts + 1):
            # Ask everybody once before anybody twice.
            if len(avoid) >= len(self.pool.endpoints):
                avoid.clear()
            final = number == self.options.attempts
            answer = yield from self._attempt(operation, attempts, avoid, deadline, final)
            if not isinstance(answer, _Failed):
                return answer
            error = answer.error
            self._learn(error.facts.server_time_ns)
            attempts.failed(error.applied)
            # What a server said tells more than that another could not be reached, or did not answer.
            if told is None or (answer.is_heard and error.code != errors.UNAVAILABLE):
                told = error
            may_follow = attempts.may_follow(error.applied) or (
                operation.is_known_by_id and error.applied is not Applied.YES
            )
            may_follow = may_follow and (error.applied is Applied.NO or not operation.is_once)
            ahead = attempts.ahead(self.server_now())
            wake = self._wake(ahead, deadline, self._pause(number, error))
            # To be sent on by a node that does not serve costs no token, once a node.
            is_new = answer.addresses[0] not in avoid
            is_free = error.applied is Applied.NO and not serves(error) and is_new
            avoid.extend(answer.addresses)
            if final or not error.retryable or not may_follow or deadline - wake <= kept:
                break
            if not (answer.is_paid or is_free or self._withdraw()):
                break
            yield Sleep(max(wake - monotonic(), 0.0))
        assert told is not None, "there is at least one attempt"
        told.applied = attempts.applied
        if operation.is_write:
            told.write = attempts.write
        raise told

    def _attempt(
        self,
        operation: Operation[T],
        attempts: Attempts,
        avoid: list[str],
        deadline: float,
        final: bool,
    ) -> Steps[T | _Failed]:
        """One attempt. When it returns, it has been given up or is over."""
        now = monotonic()
        remaining = max(deadline - now, 0.001)
        with self._lock:
            endpoint = self.pool.pick(avoid, now)
            endpoint.open += 1
            known = self.server_time.estimate(now)
            estimate = self.writes if operation.is_write else self.reads
            patience = estimate.of(remaining) if operation.is_quick else half_of(remaining)
        asked = [endpoint]
        try:
            attempt = attempts.begin(known) if operation.is_write else None
            windowless = (
                operation.is_write
                and not operation.is_known_by_id
                and not attempts.may_follow(Applied.UNKNOWN)
            )
            patient = final or len(self.pool.endpoints) == 1 or windowless or operation.is_once
            until = deadline if patient else now + patience
            message = operation.build(_server_share(remaining), attempt)
            call = yield Start(endpoint.address, operation, message, remaining)
            first = Asked(endpoint, call, now)
            second = yield from self._ask_second(operation, first, avoid, asked, (until, deadline))
            if second is None:
                answer, is_paid = yield from self._listen(
                    operation, attempts, endpoint, call, until, deadline
                )
                heard = Heard(first, answer)
            else:
                heard, is_paid = yield from self._listen_to_both(first, second, until, deadline)
            took = monotonic() - heard.by.since
            judged = self._judge(operation, heard.by.endpoint, heard.answer, took)
        finally:
            with self._lock:
                for one in asked:
                    one.open -= 1
        if not isinstance(judged, RoundtableError):
            return judged
        error = judged
        addresses = [heard.by.endpoint.address]
        error.message = f"{addresses[0]}: {error.message}"
        addresses += [heard.beside.endpoint.address] if heard.beside else []
        return _Failed(error, heard.answer is not None, addresses, is_paid)

    def _ask_second(
        self,
        operation: Operation[Any],
        first: Asked,
        avoid: list[str],
        asked: list[Endpoint],
        times: tuple[float, float],
    ) -> Steps[Asked | None]:
        """Waits for a read as long as they usually take; then asks another endpoint that is well, if there is
        a token for it, and adds that to ``asked``. ``None``: nobody else was asked."""
        until, deadline = times
        if operation.is_write or not operation.is_quick or len(self.pool.endpoints) == 1:
            return None
        with self._lock:
            self.hedges.deposit()
            usually = self.reads.usually()
        if usually is None or first.since + usually >= until:
            return None
        # What is there by then is found again by whoever waits for it next.
        if (yield Wait(first.call, usually)) is not None:
            return None
        now = monotonic()
        with self._lock:
            endpoint = self.pool.spare([*avoid, first.endpoint.address])
            if endpoint is None or not self.hedges.withdraw():
                return None
            self.hedged += 1
            endpoint.open += 1
            asked.append(endpoint)
        remaining = max(deadline - now, 0.001)
        message = operation.build(_server_share(remaining), None)
        call = yield Start(endpoint.address, operation, message, remaining)
        return Asked(endpoint, call, now)

    def _listen_to_both(
        self, first: Asked, second: Asked, until: float, deadline: float
    ) -> Steps[tuple[Heard, bool]]:
        """Waits for a read that two endpoints were asked, until it is given up; as :meth:`_listen`."""
        heard = yield from listen(first, second, until)
        is_paid = False
        if heard is None:
            with self._lock:
                for one in (first, second):
                    one.endpoint.failed(monotonic())
                self.reads.gave_up()
            is_paid = until < deadline and self._withdraw()
            if not is_paid:
                heard = yield from listen(first, second, deadline)
        if heard is None:
            yield Cancel(first.call)
            yield Cancel(second.call)
            return Heard(first, None, beside=second), is_paid
        if heard.beside is not None and heard.beside_answer is not None:
            self._note(heard.beside.endpoint, wire.error(heard.beside_answer, write=False))
            return heard, False
        with self._lock:
            if heard.beside is not None:
                heard.beside.endpoint.failed(monotonic())
            elif heard.by is second:
                first.endpoint.outrun(monotonic())
        return heard, False

    def _note(self, endpoint: Endpoint, error: RoundtableError) -> None:
        """What an error says of who has answered with it."""
        with self._lock:
            if serves(error):
                endpoint.answered()
            else:
                endpoint.failed(monotonic())

    def _judge(
        self, operation: Operation[T], endpoint: Endpoint, heard: Any, took: float
    ) -> T | RoundtableError:
        """What was heard of an attempt; notes what it says of the endpoint."""
        if heard is None:
            error = errors.deadline()
            error.applied = Applied.UNKNOWN if operation.is_write else Applied.NO
            return error
        if isinstance(heard, grpc.RpcError):
            error = wire.error(heard, write=operation.is_write)
            self._note(endpoint, error)
            return error
        with self._lock:
            endpoint.answered()
            if operation.is_quick:
                (self.writes if operation.is_write else self.reads).answered(took)
        try:
            answer = operation.read(heard)
        except RoundtableError as error:
            return error
        receipt = receipt_of(answer)
        if receipt is not None:
            self._learn(receipt.server_time_ns)
        return answer

    def _listen(
        self,
        operation: Operation[Any],
        attempts: Attempts,
        endpoint: Endpoint,
        call: Any,
        until: float,
        deadline: float,
    ) -> Steps[tuple[Any, bool]]:
        """Waits for an attempt until it is given up: at ``until``, or at the deadline where there is no
        token for another. Says whether the next one has its token.

        A write cannot be sent again before the window of its attempt is over. Until then the answer is
        waited for after all: it comes sooner than that of the next attempt would."""
        heard = yield Wait(call, until - monotonic())
        if heard is not None:
            return heard, False
        with self._lock:
            # Others are asked from now on.
            endpoint.failed(monotonic())
            if operation.is_quick:
                (self.writes if operation.is_write else self.reads).gave_up()
        is_paid = False
        if until < deadline:
            if operation.is_write:
                over = self._wake(attempts.open(self.server_now()), deadline, 0.0)
                heard = yield Wait(call, over - monotonic())
                if heard is not None:
                    return heard, False
            # Giving up costs a retry. Without one, what is under way is all there is.
            is_paid = self._withdraw()
            if not is_paid:
                heard = yield Wait(call, deadline - monotonic())
                if heard is not None:
                    return heard, False
        yield Cancel(call)
        return None, is_paid

    def _learn_time(self, deadline: float) -> Steps[None]:
        """Asks what the servers' time is, unless that is known. A write that is sent without has no
        window, so nothing may follow an attempt of which nothing is known; a question may be repeated.
        Without an answer in a quarter of the time the write is sent all the same."""
        start = monotonic()
        share = (deadline - start) / 4
        over = start + share
        while self.server_now() is None and monotonic() < over:
            with self._lock:
                mine, self._learning = not self._learning, True
            if not mine:
                # Writes that begin together wait for one answer.
                yield Sleep(0.002)
                continue
            try:
                if (yield from self._ask_all(share / 2, over)):
                    return
            finally:
                self._learning = False
            return

    def _ask_all(self, patience: float, over: float) -> Steps[bool]:
        """Asks one endpoint after the other for the servers' time; says whether one has told it."""
        avoid: list[str] = []
        while len(avoid) < len(self.pool.endpoints) and monotonic() < over:
            now = monotonic()
            with self._lock:
                endpoint = self.pool.pick(avoid, now)
            heard = yield AskTime(endpoint.address, min(patience, over - now))
            failed = heard is None or (
                isinstance(heard, grpc.RpcError) and not serves(wire.error(heard, write=False))
            )
            with self._lock:
                if failed:
                    endpoint.failed(monotonic())
                else:
                    endpoint.answered()
            if isinstance(heard, int):
                self._learn(heard)
                return True
            avoid.append(endpoint.address)
        return False

    def server_now(self) -> int | None:
        """The servers' time, in nanoseconds, as far as it is known."""
        with self._lock:
            return self.server_time.estimate(monotonic())

    def _learn(self, seen_ns: int | None) -> None:
        with self._lock:
            self.server_time.learn(seen_ns or 0, monotonic())

    def _withdraw(self) -> bool:
        with self._lock:
            return self.budget.withdraw()

    @staticmethod
    def _wake(ahead: float, deadline: float, pause: float) -> float:
        """When to try again: after ``pause``, or once the last window, which is open for ``ahead`` yet,
        is over, if that leaves half of the time."""
        now = monotonic()
        affordable = ahead <= (deadline - now) / 2
        return now + (max(pause, ahead) if affordable else pause)

    @staticmethod
    def _pause(number: int, error: RoundtableError) -> float:
        longest: float = min(_PAUSE_MIN * 2 ** (number - 1), _PAUSE_MAX)
        drawn = longest * random.uniform(0.5, 1.0)
        return max(error.facts.retry_after or 0.0, drawn)


def no_turn() -> RoundtableError:
    """The time of a request was over before its turn came. Nothing was sent."""
    return errors.coded("DEADLINE_EXCEEDED", "too many requests were under way", retryable=True)


def _server_share(remaining: float) -> float:
    """What of the time left the server is given: a little is kept for its answer to travel, so that its
    own words about the outcome arrive before we stop listening, also from a machine that is busy."""
    return remaining - kept_for_answers(remaining)


def kept_for_answers(time: float) -> float:
    """What is kept of a time, in seconds, for an answer to travel."""
    return min(max(time, 0.0) / 20, 0.25)
