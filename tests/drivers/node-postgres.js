// node-postgres: see README.md.
'use strict';

const { Client } = require('pg');

const ENDLESS =
  'SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, ' +
  'generate_series(1, 1000) AS c';

// The query may not have begun when the first request comes.
async function cancelled(session) {
  const query = new (require('pg').Query)(ENDLESS);
  const ended = new Promise((resolve) => {
    query.on('error', (error) => resolve(error.code));
    query.on('end', () => resolve('none'));
  });
  session.query(query);
  const timer = setInterval(() => new Client().cancel(session, query), 200);
  try {
    return await ended;
  } finally {
    clearInterval(timer);
  }
}

// COPY as pg-copy-streams does it: on the driver's own connection.
function copy(session, sql, input) {
  const connection = session.connection;
  return new Promise((resolve, reject) => {
    const lines = [];
    session.query({
      submit: () => connection.query(sql),
      handleRowDescription() {},
      handleDataRow() {},
      handlePortalSuspended() {},
      handleEmptyQuery() {},
      handleCopyInResponse() {
        connection.sendCopyFromChunk(Buffer.from(input));
        connection.endCopyFrom();
      },
      handleCopyData: (message) => lines.push(message.chunk.toString()),
      handleCommandComplete() {},
      handleError: reject,
      handleReadyForQuery: () => resolve(lines),
    });
  });
}

async function main() {
  const session = new Client();
  await session.connect();
  console.log('connected');

  for (const id of [1, 2, 3]) {
    const query = { name: 'product', text: 'SELECT name, price FROM products WHERE id = $1', values: [id] };
    console.log('prepared', ...Object.values((await session.query(query)).rows[0]));
  }

  const binary = await session.query({
    text: "SELECT 7::int4 AS a, 1.5::float8 AS b, true AS c, 'h\u00e9llo'::text AS d, name FROM products WHERE id = 5",
    binary: true,
  });
  console.log('binary', ...Object.values(binary.rows[0]));
  const text = await session.query(
    "SELECT 9000000000::int8 AS a, timestamptz '2026-02-03 04:05+00' AS b, '\\x00ff'::bytea AS c, " +
      "ARRAY[1, 2, 3] AS d, 12.50::numeric AS e, '{\"a\": [1]}'::jsonb AS f",
  );
  console.log('binary', JSON.stringify(text.rows[0]));

  const count = async () => (await session.query('SELECT count(*) FROM parts WHERE id = 1000')).rows[0].count;
  await session.query('BEGIN');
  await session.query('INSERT INTO parts (id, name) VALUES ($1, $2)', [1000, 'inside']);
  console.log('transaction', await count());
  await session.query('ROLLBACK');
  console.log('transaction', await count());

  await copy(session, 'COPY parts (id, name) FROM STDIN', '1\tone\n2\ttwo\n3\tthree\n');
  const lines = await copy(session, 'COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT');
  console.log('copy', JSON.stringify(lines.join('')));
  await session.query('DELETE FROM parts WHERE id = ANY ($1)', [[1, 2, 3]]);

  console.log('cancel', await cancelled(session));

  const refused = await session.query('TRUNCATE parts').then(() => 'none', (error) => error.code);
  console.log('refused', refused);
  console.log('after', (await session.query('SELECT 1 AS one')).rows[0].one);

  const masked = await session.query('SELECT * FROM people WHERE id > $1 ORDER BY id', [0]);
  console.log('masked', JSON.stringify(masked.rows[0]));
  await session.end();
  console.log('done');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
