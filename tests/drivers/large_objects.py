"""Large objects as Python's drivers work on them: see README.md. psycopg2 has a class over libpq's calls; psycopg has SQL."""

import psycopg
import psycopg2

# More than one piece of what libpq reads and writes at once.
CONTENT = bytes(range(256)) * 1500

session = psycopg2.connect("")
large = session.lobject(0, "wb")
print("psycopg2 wrote", large.write(CONTENT), large.tell())
large.close()
oid = large.oid
session.commit()
large = session.lobject(oid, "rb")
print("psycopg2 read", large.read() == CONTENT)
print("psycopg2 at", large.seek(256 * 1000 + 7), large.read(3), large.tell())
large.close()
large = session.lobject(oid, "rwb")
large.truncate(5)
large.seek(0, 2)
large.write(b"end")
large.close()
session.rollback()
print("psycopg2 rolled back", len(session.lobject(oid, "rb").read()))
session.rollback()
large = session.lobject(oid, "rwb")
large.truncate(5)
large.close()
session.commit()
print("psycopg2 cut", bytes(session.lobject(oid, "rb").read()))
large = session.lobject(oid, "n")
large.unlink()
session.commit()
try:
    session.lobject(oid, "rb")
except psycopg2.Error as error:
    print("psycopg2 gone", error.pgcode or "does not exist" in str(error))
session.rollback()
cursor = session.cursor()
cursor.execute("SELECT count(*) FROM orders")
print("psycopg2 after", cursor.fetchone())
session.close()

with psycopg.connect() as session:
    oid = session.execute("SELECT lo_from_bytea(0, %s)", [CONTENT]).fetchone()[0]
    session.execute("SELECT lo_put(%s, 2, %s)", [oid, b"psycopg"])
    handle = session.execute("SELECT lo_open(%s, x'60000'::integer)", [oid]).fetchone()[0]
    print("psycopg read", session.execute("SELECT loread(%s, 12)", [handle], binary=True).fetchone()[0])
    print("psycopg whole", len(session.execute("SELECT lo_get(%s)", [oid], binary=True).fetchone()[0]))
    print("psycopg gone", session.execute("SELECT lo_unlink(%s)", [oid]).fetchone()[0])
