"""The examples of the README run as they stand there, against a real cluster."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import Cluster

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_examples_run(cluster: Cluster) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks):
        code = block.replace("127.0.0.1:", f"{cluster.host}:")
        exec(compile(code, f"README.md, example {number + 1}", "exec"), names)
