"""How connections are made, the same for threads and asyncio."""

from __future__ import annotations

from typing import Any

from ._operations import KV, Operation
from .v1 import kv_pb2 as pb

MESSAGE_BYTES_MAX = 8 << 20

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # A node that is gone is noticed within 15 s, also while nothing is asked.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Who is asked again, and when, is decided by health, not by the channel: its own pauses are short.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What is sent again, and as which attempt, is decided in this package alone.
    ("grpc.enable_retries", 0),
    # One connection for each endpoint of each client.
    ("grpc.use_local_subchannel_pool", 1),
]

WATCH_RING = f"/{KV}/WatchRing"


def path(operation: Operation[Any]) -> str:
    """The path of a call."""
    return f"/{operation.service}/{operation.method}"


def serialize(message: Any) -> bytes:
    """The bytes of a message."""
    return bytes(message.SerializeToString())


def watch_ring() -> bytes:
    """A wish to follow the ring: its first answer tells the servers' time."""
    return serialize(pb.WatchRingRequest())
