"""A real cluster, of real processes on loopback addresses of its own: `kvd dev` of $KVD_BIN_DIR."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


class Cluster:
    """Three nodes; each can be killed and started again."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        # 127.0 is everybody's; the rest of the loopback net is drawn from.
        self.host = f"127.85.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self.endpoints = [f"{self.host}:{port}" for port in (7450, 7460, 7470)]
        self._by_hand: list[subprocess.Popen[bytes]] = []

    def kvd(self, *arguments: str) -> None:
        command = [str(self.binaries / "kvd"), "dev", "--dir", str(self.folder), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60)

    def kvctl(self, *arguments: str) -> bytes:
        command = [str(self.binaries / "kvctl"), "-e", ",".join(self.endpoints), *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout

    def pid(self, node: int) -> int:
        return int((self.folder / f"n{node}" / "kvd.pid").read_text())

    def kill(self, node: int) -> None:
        """Ends a node as hard as the system allows, and waits until it is gone: until the lock of its pid
        file is free, which is later than its process id."""
        os.kill(self.pid(node), signal.SIGKILL)
        gone = time.monotonic() + 10
        while not _is_free(self.folder / f"n{node}" / "kvd.pid"):
            assert time.monotonic() < gone, f"n{node} does not end"
            time.sleep(0.01)

    def start(self, node: int) -> None:
        """Starts a killed node again, and waits until all know that it serves."""
        self.start_alone(node)
        self.all_serve()

    def start_alone(self, node: int) -> None:
        """Starts a killed node again."""
        config = str(self.folder / f"n{node}" / "kvd.toml")
        with open(self.folder / f"n{node}" / "log", "ab") as log:
            run = [str(self.binaries / "kvd"), "run", "--config", config]
            self._by_hand.append(subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def all_serve(self) -> None:
        """Waits until all know all others to serve."""
        self.kvctl("wait", "--for", "nodes=3", "--timeout", "30s")

    def stop(self) -> None:
        self.kvd("--stop")
        for process in self._by_hand:
            process.wait(timeout=30)


def _is_free(file: Path) -> bool:
    with open(file, "rb") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    binaries = Path(os.environ.get("KVD_BIN_DIR", REPOSITORY / "target" / "release"))
    assert (binaries / "kvd").exists(), f"{binaries}/kvd: build it, or say with KVD_BIN_DIR where it is"
    one = Cluster(binaries, tmp_path_factory.mktemp("cluster") / "dev")
    one.kvd("--detach", "--host", one.host, "--base-port", "7450")
    try:
        yield one
    finally:
        one.stop()
