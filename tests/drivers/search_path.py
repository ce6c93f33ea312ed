"""What Python's drivers send to begin on another search path: see README.md."""

import asyncio
import os

import asyncpg
import django
import psycopg
import sqlalchemy
from django.conf import settings

QUERY = "SELECT title, reader FROM books"
SETTING = "SHOW lock_timeout"
URL = "postgresql+psycopg2://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)


def shown(driver, row, setting):
    print(driver, *row, *setting)


for options in ["-csearch_path=shelf,public -c lock_timeout=5s", '--search-path="shelf" --lock_timeout=5s']:
    with psycopg.connect(options=options) as session:
        shown("psycopg", session.execute(QUERY).fetchone(), session.execute(SETTING).fetchone())


# Within a session, for good and for a transaction.
with psycopg.connect(autocommit=True) as session:
    session.execute("SET search_path TO shelf, public")
    shown("psycopg", session.execute(QUERY).fetchone(), [])
    session.execute("SELECT set_config('search_path', 'public', false)")
    shown("psycopg", session.execute(QUERY).fetchone(), [])
    for how in ["kept", "undone"]:
        with session.transaction(force_rollback=how == "undone"):
            session.execute("SET LOCAL search_path TO shelf")
            # Prepared by the server from the fifth time on.
            for _ in range(7):
                shown("psycopg", session.execute("SELECT upper(reader) || '' FROM shelf.books").fetchone(), [])
                shown("psycopg", session.execute(QUERY).fetchone(), [how])
        shown("psycopg", session.execute(QUERY).fetchone(), [how])


async def with_asyncpg():
    session = await asyncpg.connect(server_settings={"search_path": "shelf", "lock_timeout": "5s"})
    shown("asyncpg", await session.fetchrow(QUERY), await session.fetchrow(SETTING))
    # What a pool sends before it lends a session again.
    await session.reset()
    shown("asyncpg", await session.fetchrow(QUERY), await session.fetchrow(SETTING))
    await session.close()


asyncio.run(with_asyncpg())

options = {"options": "-c search_path=shelf,public -c lock_timeout=5s"}
with sqlalchemy.create_engine(URL, connect_args=options).connect() as session:
    row, setting = (session.execute(sqlalchemy.text(query)).fetchone() for query in (QUERY, SETTING))
    shown("sqlalchemy", row, setting)
    print("sqlalchemy", *sqlalchemy.inspect(session).get_table_names())

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": os.environ["PGHOST"],
            "PORT": os.environ["PGPORT"],
            "NAME": os.environ["PGDATABASE"],
            "USER": os.environ["PGUSER"],
            "PASSWORD": os.environ["PGPASSWORD"],
            "OPTIONS": options,
        }
    },
)
django.setup()

from django.db import connection  # noqa: E402

with connection.cursor() as cursor:
    cursor.execute(QUERY)
    row = cursor.fetchone()
    cursor.execute(SETTING)
    shown("django", row, cursor.fetchone())
