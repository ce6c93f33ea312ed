// lib/pq: see README.md.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"time"

	"github.com/lib/pq"
)

const endless = `SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b,
	generate_series(1, 1000) AS c`

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func state(err error) string {
	if err == nil {
		return "none"
	}
	if known, ok := err.(*pq.Error); ok {
		return string(known.Code)
	}
	return err.Error()
}

func show(step string, rows *sql.Rows, err error) {
	check(err)
	defer rows.Close()
	columns, err := rows.Columns()
	check(err)
	for rows.Next() {
		values := make([]interface{}, len(columns))
		places := make([]interface{}, len(columns))
		for at := range values {
			places[at] = &values[at]
		}
		check(rows.Scan(places...))
		fmt.Print(step)
		for _, value := range values {
			if bytes, ok := value.([]byte); ok {
				value = fmt.Sprintf("%q", bytes)
			}
			fmt.Printf(" %v", value)
		}
		fmt.Println()
	}
	check(rows.Err())
}

func run(options string) {
	pool, err := sql.Open("postgres", options)
	check(err)
	defer pool.Close()
	all := context.Background()
	session, err := pool.Conn(all)
	check(err)
	defer session.Close()
	check(session.PingContext(all))
	fmt.Println("connected", options)

	product, err := session.PrepareContext(all, "SELECT name, price FROM products WHERE id = $1")
	check(err)
	for id := 1; id <= 3; id++ {
		rows, err := product.Query(id)
		show("prepared", rows, err)
	}
	check(product.Close())

	rows, err := session.QueryContext(all, `SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03',
		'héllo'::text, '\x00ff'::bytea, ARRAY[1, 2, 3], 12.50::numeric, name FROM products WHERE id = $1`, 5)
	show("binary", rows, err)

	transaction, err := session.BeginTx(all, &sql.TxOptions{Isolation: sql.LevelSerializable})
	check(err)
	_, err = transaction.Exec("INSERT INTO parts (id, name) VALUES ($1, $2)", 1000, "inside")
	check(err)
	rows, err = transaction.Query("SELECT count(*) FROM parts WHERE id = 1000")
	show("transaction", rows, err)
	check(transaction.Rollback())
	rows, err = session.QueryContext(all, "SELECT count(*) FROM parts WHERE id = 1000")
	show("transaction", rows, err)

	transaction, err = session.BeginTx(all, nil)
	check(err)
	copying, err := transaction.Prepare(pq.CopyIn("parts", "id", "name"))
	check(err)
	for id, name := range []string{"one", "two\t", "three"} {
		_, err = copying.Exec(id+1, name)
		check(err)
	}
	_, err = copying.Exec()
	check(err)
	check(copying.Close())
	check(transaction.Commit())
	rows, err = session.QueryContext(all, "SELECT id, name FROM parts ORDER BY id")
	show("copy", rows, err)
	_, err = session.ExecContext(all, "DELETE FROM parts WHERE id = ANY ($1)", pq.Array([]int{1, 2, 3}))
	check(err)

	// The driver cancels what its context gives up; the session is not used any further.
	limited, stop := context.WithTimeout(all, time.Second)
	_, err = pool.ExecContext(limited, endless)
	stop()
	fmt.Println("cancel", state(err))

	_, err = session.ExecContext(all, "TRUNCATE parts")
	fmt.Println("refused", state(err))
	rows, err = session.QueryContext(all, "SELECT 1")
	show("after", rows, err)

	rows, err = session.QueryContext(all, "SELECT * FROM people WHERE id > $1 ORDER BY id", 0)
	show("masked", rows, err)
}

func main() {
	run("sslmode=disable")
	run("sslmode=disable binary_parameters=yes")
	fmt.Println("done")
}
