"""A second endpoint for a read that takes long: who answers first is heard (hedged requests: Dean and
Barroso, "The Tail at Scale", 2013). One node that stands still for a moment then costs its readers
milliseconds, and not the patience with which an attempt is given up. Writes are never sent twice at once:
their attempts must follow each other."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc

from ._pool import Endpoint
from ._steps import Cancel, Either, Step, Wait


@dataclass
class Asked:
    """A call that is under way: with whom, and since when."""

    endpoint: Endpoint
    call: Any
    since: float


@dataclass
class Heard:
    """What came of one call, or of two."""

    by: Asked
    answer: Any
    """The message, a ``grpc.RpcError``, or ``None``: it was given up."""
    beside: Asked | None = None
    """The other call, where that has failed too."""
    beside_answer: Any = None
    """Its ``grpc.RpcError``, or ``None``: it was given up."""


def listen(first: Asked, second: Asked, until: float) -> Generator[Step, Any, Heard | None]:
    """Waits for either until a time; ``None``: neither has answered, and both are under way. Where one has
    failed, the other is waited for. Calls that nobody waits for any more are cancelled."""
    which = yield Either((first.call, second.call), until - monotonic())
    if which is None:
        return None
    place, answer = which
    by, other = (first, second) if place == 0 else (second, first)
    if not isinstance(answer, grpc.RpcError):
        yield Cancel(other.call)
        return Heard(by, answer)
    late = yield Wait(other.call, until - monotonic())
    if late is None:
        yield Cancel(other.call)
        return Heard(by, answer, beside=other)
    return Heard(other, late, beside=by, beside_answer=answer)
