"""What the decisions about a request have to wait for: carried out by threads, or by asyncio."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from ._operations import Operation

T = TypeVar("T")


@dataclass(frozen=True)
class Start:
    """Begin a call; sent back: its handle."""

    address: str
    operation: Operation[Any]
    message: Any
    timeout: float


@dataclass(frozen=True)
class Wait:
    """Wait so many seconds for a call; sent back: its answer, its ``grpc.RpcError``, or ``None``."""

    call: Any
    seconds: float


@dataclass(frozen=True)
class Either:
    """Wait so many seconds for one of two calls; sent back: the place of the first one that is over and what
    :class:`Wait` would give, or ``None``."""

    calls: tuple[Any, Any]
    seconds: float


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for a call any more; sent back: nothing."""

    call: Any


@dataclass(frozen=True)
class AskTime:
    """Ask one endpoint for the servers' time; sent back: nanoseconds, a ``grpc.RpcError``, or ``None``
    when there is no answer within so many seconds."""

    address: str
    seconds: float


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds; sent back: nothing."""

    seconds: float


Step = Start | Wait | Either | Cancel | AskTime | Sleep
Steps = Generator[Step, Any, T]
