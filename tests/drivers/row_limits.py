"""asyncpg's pool and psycopg's threads under a limit on rows: see README.md. Each worker owns thirty rows of `parts`, ten of
which it may change at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import psycopg

WORKERS = 8
TURNS = 15

MANY = "UPDATE parts SET name = $1 WHERE id BETWEEN $2 AND $2 + $3"
DELETE = "DELETE FROM parts WHERE (id - 1) / 30 * 30 + 1 = "


async def refused(what):
    try:
        await what
        return 0
    except asyncpg.InsufficientPrivilegeError as error:
        assert error.detail == "policy: few-rows", error.detail
        return 1


async def pooled(pool, worker):
    first = worker * 30 + 1
    seen = 0
    for turn in range(TURNS):
        async with pool.acquire() as session:
            own = f"asyncpg {worker} {turn}"
            tag = await session.execute(MANY, own, first, 9)
            assert tag == "UPDATE 10", tag
            seen += await refused(session.execute(MANY, "gone", first, 29))
            # One implicit transaction: the first is undone with the second.
            seen += await refused(
                session.executemany(MANY, [("gone", first, 2), ("gone", first, 20)])
            )
            seen += await refused(session.execute(f"UPDATE parts SET name = 'gone' WHERE id = {first}; {DELETE}{first}"))
            async with session.transaction():
                await session.execute("INSERT INTO tools VALUES ($1, $2)", 1000 + first + turn * 100, own)
                try:
                    async with session.transaction():
                        await session.fetch(f"{DELETE}{first} RETURNING name")
                except asyncpg.InsufficientPrivilegeError:
                    seen += 1
            rows = await session.fetch("SELECT DISTINCT name FROM parts WHERE id BETWEEN $1 AND $1 + 9", first)
            assert [row["name"] for row in rows] == [own], rows
    return seen


async def with_asyncpg():
    async with asyncpg.create_pool(min_size=4, max_size=4) as pool:
        seen = await asyncio.gather(*(pooled(pool, worker) for worker in range(WORKERS)))
        print("asyncpg refused", *seen)
        async with pool.acquire() as session:
            records = [(500 + number, "copied") for number in range(11)]
            assert await refused(session.copy_records_to_table("parts", records=records))
            print("asyncpg", await session.copy_records_to_table("parts", records=records[:10]))
            print("asyncpg", await session.execute("DELETE FROM parts WHERE name = 'copied'"))


asyncio.run(with_asyncpg())


def threaded(worker):
    seen = 0
    first = worker * 30 + 1
    with psycopg.connect(autocommit=True, prepare_threshold=2) as session:
        for turn in range(TURNS):
            own = f"psycopg {worker} {turn}"
            changed = session.execute("UPDATE parts SET name = %s WHERE id BETWEEN %s AND %s", (own, first, first + 9))
            assert changed.rowcount == 10
            for sql in ["UPDATE parts SET name = 'gone' WHERE id BETWEEN %s AND %s", f"{DELETE}%s AND id <= %s"]:
                try:
                    session.execute(sql, (first, first + 29))
                except psycopg.errors.InsufficientPrivilege as error:
                    assert error.diag.message_detail == "policy: few-rows"
                    seen += 1
            with session.pipeline():
                tools = session.execute("UPDATE tools SET name = %s WHERE id = %s", (own, first))
                rows = session.execute("SELECT DISTINCT name FROM parts WHERE id BETWEEN %s AND %s", (first, first + 9))
                assert rows.fetchall() == [(own,)] and tools.rowcount == 1
    return seen


with ThreadPoolExecutor(WORKERS) as threads:
    print("psycopg refused", *threads.map(threaded, range(WORKERS)))
