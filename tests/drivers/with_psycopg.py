"""psycopg 3: see README.md."""

import threading

import psycopg

ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, "
    "generate_series(1, 1000) AS c"
)


def cancelled(session):
    ended = threading.Event()

    # The query may not have begun when the first request comes.
    def cancel():
        while not ended.wait(0.1):
            session.cancel()

    other = threading.Thread(target=cancel)
    other.start()
    try:
        session.execute(ENDLESS)
        return "none"
    except psycopg.Error as error:
        return error.sqlstate
    finally:
        ended.set()
        other.join()


def main():
    session = psycopg.connect("", autocommit=True, prepare_threshold=2)
    print("connected", session.info.encoding, session.info.transaction_status.name)

    # Prepared at the server from the third run on.
    for number in range(1, 7):
        row = session.execute("SELECT name, price FROM products WHERE id = %s", (number,)).fetchone()
        print("prepared", *row)
    with session.pipeline(), session.cursor() as cursor:
        cursor.executemany("SELECT name FROM products WHERE id = %s", [(1,), (2,), (3,)], returning=True)
        while True:
            print("prepared in a pipeline", *cursor.fetchone())
            if not cursor.nextset():
                break

    with session.cursor(binary=True) as cursor:
        cursor.execute(
            "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03', 'h\u00e9llo'::text, "
            "'\\x00ff'::bytea, ARRAY[1, 2, 3], 12.50::numeric, '{\"a\": [1]}'::jsonb, "
            "'b3bd8a5c-1f5e-4f4f-9d0b-111111111111'::uuid, name, price FROM products WHERE id = %s",
            (5,),
        )
        print("binary", *(repr(value) for value in cursor.fetchone()))
    with session.transaction(), session.cursor(name="by_pieces", binary=True) as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id, name FROM products ORDER BY id")
        print("binary by a cursor", sum(row[0] for row in cursor))

    try:
        with session.transaction():
            session.execute("INSERT INTO parts (id, name) VALUES (1000, 'inside')")
            print("transaction", *session.execute("SELECT count(*) FROM parts WHERE id = 1000").fetchone())
            with session.transaction(force_rollback=True):
                session.execute("INSERT INTO parts (id, name) VALUES (1001, 'nested')")
            print("transaction", *session.execute("SELECT count(*) FROM parts WHERE id > 999").fetchone())
            raise psycopg.Rollback
    except psycopg.Rollback:
        pass
    print("transaction", *session.execute("SELECT count(*) FROM parts WHERE id = 1000").fetchone())

    with session.cursor() as cursor:
        with cursor.copy("COPY parts (id, name) FROM STDIN") as copy:
            for row in [(1, "one"), (2, "two\t"), (3, None)]:
                copy.write_row(row)
        with cursor.copy("COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for row in copy.rows():
                print("copy", *(repr(value) for value in row))
        cursor.execute("DELETE FROM parts WHERE id IN (1, 2, 3)")

    print("cancel", cancelled(session))

    try:
        session.execute("TRUNCATE parts")
        print("refused none")
    except psycopg.Error as error:
        print("refused", error.sqlstate)
    print("after", *session.execute("SELECT 1").fetchone())

    for binary in [False, True]:
        with session.cursor(binary=binary) as cursor:
            cursor.execute("SELECT * FROM people WHERE id > %s ORDER BY id", (0,))
            print("masked", *(repr(value) for value in cursor.fetchone()))
    session.close()
    print("done")


main()
