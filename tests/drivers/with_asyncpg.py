"""asyncpg: see README.md."""

import asyncio
import io

import asyncpg

ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, "
    "generate_series(1, 1000) AS c"
)


async def main():
    # A pool resets its sessions between users.
    pool = await asyncpg.create_pool(min_size=1, max_size=1)
    async with pool.acquire() as session:
        print("connected", session.get_settings().client_encoding)
    async with pool.acquire() as session:
        print("connected", await session.fetchval("SELECT 'again'"))
        await steps(session)
    await pool.close()
    print("done")


async def steps(session):
    product = await session.prepare("SELECT name, price FROM products WHERE id = $1")
    for number in range(1, 4):
        print("prepared", *await product.fetchrow(number))

    row = await session.fetchrow(
        "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03', 'h\u00e9llo'::text, "
        "'\\x00ff'::bytea, ARRAY[1, 2, 3], 12.50::numeric, '{\"a\": [1]}'::jsonb, inet '10.0.0.1', "
        "'b3bd8a5c-1f5e-4f4f-9d0b-111111111111'::uuid, interval '1 day 2 hours', int4range(1, 5), "
        "ROW(1, 'a'::text), name FROM products WHERE id = $1",
        5,
    )
    print("binary", *(repr(value) for value in row))
    # A type that the driver does not know makes it look into the catalogue.
    print("binary", *await session.fetchrow("SELECT $1::mood, ARRAY[$2::mood]", "fine", "bad"))

    transaction = session.transaction(isolation="serializable")
    await transaction.start()
    await session.execute("INSERT INTO parts (id, name) VALUES (1000, 'inside')")
    print("transaction", await session.fetchval("SELECT count(*) FROM parts WHERE id = 1000"))
    total = 0
    async for row in session.cursor("SELECT id FROM products", prefetch=7):
        total += row["id"]
    print("transaction", total)
    await transaction.rollback()
    print("transaction", await session.fetchval("SELECT count(*) FROM parts WHERE id = 1000"))

    rows = [(1, "one"), (2, "two\t"), (3, None)]
    print("copy", await session.copy_records_to_table("parts", records=rows, columns=["id", "name"]))
    out = io.BytesIO()
    await session.copy_from_query("SELECT id, name FROM parts ORDER BY id", output=out, format="csv")
    print("copy", repr(out.getvalue()))
    await session.executemany("DELETE FROM parts WHERE id = $1", [(1,), (2,), (3,)])

    # asyncpg cancels what takes longer than its time-out.
    try:
        await session.execute(ENDLESS, timeout=1)
        print("cancel none")
    except asyncio.TimeoutError:
        print("cancel", await session.fetchval("SELECT 'done'"))

    try:
        await session.execute("TRUNCATE parts")
        print("refused none")
    except asyncpg.PostgresError as error:
        print("refused", error.sqlstate)
    print("after", await session.fetchval("SELECT 1"))

    print("masked", *(repr(value) for value in await session.fetchrow("SELECT * FROM people ORDER BY id")))


asyncio.run(main())
