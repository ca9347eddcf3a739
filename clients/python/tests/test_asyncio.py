"""The asyncio client against a real cluster."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from conftest import Cluster

from roundtable import AsyncClient, AsyncTables, Client, Conflict, TableKind, Tables


def test_all_requests_work(cluster: Cluster) -> None:
    async def session() -> None:
        async with AsyncClient(cluster.endpoints) as kv:
            await kv.put("async", b"\0\n")
            assert (await kv.get("async")).value == b"\0\n"
            await kv.delete("async")
            assert (await kv.get("async")).value is None

            await kv.tables.create("async-carts", kind=TableKind.CAUSAL)
            await kv.put("cart", "a", table="async-carts")
            await kv.put("cart", "b", table="async-carts")
            with pytest.raises(Conflict, match="SIBLINGS"):
                await kv.get("cart", table="async-carts")
            both = await kv.siblings("cart", table="async-carts")
            await kv.put("cart", "ab", table="async-carts", context=both.context)
            assert (await kv.get("cart", table="async-carts")).value == b"ab"

            await kv.tables.create("async-seats", kind=TableKind.LINEARIZABLE)
            write = kv.new_write()
            assert (await kv.cas("12A", "Ada", table="async-seats", named=write)).applied
            assert not (await kv.cas("12A", "Eve", table="async-seats")).applied
            assert (await kv.outcome("12A", write, table="async-seats")).applied
            altered = await kv.tables.alter("async-seats", r=3)
            assert altered == await kv.tables.describe("async-seats")
            assert altered in (await kv.tables.list()).tables
            await kv.tables.drop("async-seats")

    asyncio.run(session())


def test_many_tasks_share_a_client(cluster: Cluster) -> None:
    async def session() -> None:
        async with AsyncClient(cluster.endpoints) as kv:
            keys = [b"many:%03d" % number for number in range(300)]
            await asyncio.gather(*(kv.put(key, key) for key in keys))
            replies = await asyncio.gather(*(kv.get(key) for key in keys))
            assert [reply.value for reply in replies] == keys
            found = [entry.key async for entry in kv.scan(prefix="many:", page_size=40)]
            assert found == keys

    asyncio.run(session())


@pytest.mark.parametrize(("one", "other"), [(Client, AsyncClient), (Tables, AsyncTables)])
def test_both_clients_take_the_same(one: type, other: type) -> None:
    def surface(kind: type) -> dict[str, dict[str, object]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        public = [(name, method) for name, method in methods if not name.startswith("_")]
        parameters = {name: inspect.signature(method).parameters for name, method in public}
        return {name: {one: str(all[one]) for one in all} for name, all in parameters.items()}

    assert surface(one) == surface(other)
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters
