/* libpq: see README.md. */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENDLESS                                                                                            \
    "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, "             \
    "generate_series(1, 1000) AS c"

static PGconn *session;
static atomic_int running;

static PGresult *expect(PGresult *result, ExecStatusType status) {
    if (PQresultStatus(result) != status) {
        fprintf(stderr, "%s: %s", PQresStatus(PQresultStatus(result)), PQresultErrorMessage(result));
        exit(1);
    }
    return result;
}

static PGresult *rows(const char *sql) { return expect(PQexec(session, sql), PGRES_TUPLES_OK); }

static void command(const char *sql) { PQclear(expect(PQexec(session, sql), PGRES_COMMAND_OK)); }

static void print_row(const char *step, PGresult *result) {
    printf("%s", step);
    for (int row = 0; row < PQntuples(result); row++)
        for (int column = 0; column < PQnfields(result); column++) {
            printf(" ");
            if (PQfformat(result, column) == 0) {
                printf("%s", PQgetisnull(result, row, column) ? "NULL" : PQgetvalue(result, row, column));
                continue;
            }
            const unsigned char *value = (const unsigned char *)PQgetvalue(result, row, column);
            for (int at = 0; at < PQgetlength(result, row, column); at++) printf("%02x", value[at]);
        }
    printf("\n");
    PQclear(result);
}

/* The query may not have begun when the first request comes. */
static void *cancel_until_it_ends(void *unused) {
    char error[256];
    PGcancel *handle = PQgetCancel(session);
    while (atomic_load(&running)) {
        usleep(100000);
        if (!PQcancel(handle, error, sizeof error)) fprintf(stderr, "cancel: %s\n", error);
    }
    PQfreeCancel(handle);
    return unused;
}

int main(void) {
    session = PQconnectdb("");
    if (PQstatus(session) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(session));
        return 1;
    }
    printf("connected %s\n", PQparameterStatus(session, "client_encoding"));

    PQclear(expect(PQprepare(session, "product", "SELECT name, price FROM products WHERE id = $1", 0, NULL),
                   PGRES_COMMAND_OK));
    const char *ids[] = {"1", "2", "3"};
    for (int at = 0; at < 3; at++)
        print_row("prepared", PQexecPrepared(session, "product", 1, &ids[at], NULL, NULL, 0));
    print_row("prepared", expect(PQdescribePrepared(session, "product"), PGRES_COMMAND_OK));

    print_row("binary",
              expect(PQexecParams(session,
                                  "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03', "
                                  "'h\xc3\xa9llo'::text, '\\x00ff'::bytea, ARRAY[1, 2, 3], 12.50::numeric, "
                                  "jsonb '{\"a\": [1]}', inet '10.0.0.1', name FROM products WHERE id = 5",
                                  0, NULL, NULL, NULL, NULL, 1),
                     PGRES_TUPLES_OK));

    command("BEGIN");
    command("INSERT INTO parts (id, name) VALUES (1000, 'inside')");
    print_row("transaction", rows("SELECT count(*) FROM parts WHERE id = 1000"));
    command("ROLLBACK");
    print_row("transaction", rows("SELECT count(*) FROM parts WHERE id = 1000"));

    PQclear(expect(PQexec(session, "COPY parts (id, name) FROM STDIN"), PGRES_COPY_IN));
    const char *lines = "1\tone\n2\ttwo\n3\tthree\n";
    if (PQputCopyData(session, lines, (int)strlen(lines)) != 1 || PQputCopyEnd(session, NULL) != 1) return 1;
    PQclear(expect(PQgetResult(session), PGRES_COMMAND_OK));
    if (PQgetResult(session) != NULL) return 1;
    PQclear(expect(PQexec(session, "COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT"), PGRES_COPY_OUT));
    char *line;
    while (PQgetCopyData(session, &line, 0) > 0) {
        printf("copy %s", line);
        PQfreemem(line);
    }
    PQclear(expect(PQgetResult(session), PGRES_COMMAND_OK));
    if (PQgetResult(session) != NULL) return 1;
    command("DELETE FROM parts WHERE id IN (1, 2, 3)");

    /* Several statements under way before the first answer is read. */
    if (PQenterPipelineMode(session) != 1) return 1;
    for (int at = 0; at < 3; at++) PQsendQueryPrepared(session, "product", 1, &ids[at], NULL, NULL, 0);
    PQpipelineSync(session);
    for (int at = 0; at < 3; at++) {
        print_row("prepared in a pipeline", expect(PQgetResult(session), PGRES_TUPLES_OK));
        if (PQgetResult(session) != NULL) return 1;
    }
    PQclear(expect(PQgetResult(session), PGRES_PIPELINE_SYNC));
    if (PQexitPipelineMode(session) != 1) return 1;

    pthread_t other;
    atomic_store(&running, 1);
    pthread_create(&other, NULL, cancel_until_it_ends, NULL);
    PGresult *ended = PQexec(session, ENDLESS);
    atomic_store(&running, 0);
    pthread_join(other, NULL);
    printf("cancel %s\n", PQresultErrorField(ended, PG_DIAG_SQLSTATE));
    PQclear(ended);

    PGresult *truncated = PQexec(session, "TRUNCATE parts");
    const char *state = PQresultErrorField(truncated, PG_DIAG_SQLSTATE);
    printf("refused %s\n", state == NULL ? "none" : state);
    PQclear(truncated);
    print_row("after", rows("SELECT 1"));

    print_row("masked", rows("SELECT * FROM people ORDER BY id"));
    PGresult *masked = PQexecParams(session, "SELECT * FROM people ORDER BY id", 0, NULL, NULL, NULL, NULL, 1);
    print_row("masked", expect(masked, PGRES_TUPLES_OK));
    PQfinish(session);
    printf("done\n");
    return 0;
}
