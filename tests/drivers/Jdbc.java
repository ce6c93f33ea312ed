// PostgreSQL's JDBC driver: see README.md.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

final class Jdbc {
    private static final String ENDLESS =
            "SELECT count(*) FROM generate_series(1, 100000) AS a, generate_series(1, 100000) AS b, "
                    + "generate_series(1, 1000) AS c";

    private static String env(String name) {
        return System.getenv(name);
    }

    private static String row(ResultSet rows) throws SQLException {
        if (!rows.next()) {
            return "(none)";
        }
        StringBuilder line = new StringBuilder();
        for (int column = 1; column <= rows.getMetaData().getColumnCount(); column++) {
            Object value = rows.getObject(column);
            String shown = value instanceof byte[] ? Arrays.toString((byte[]) value) : String.valueOf(value);
            line.append(column == 1 ? "" : " ").append(shown);
        }
        return line.toString();
    }

    private static String one(Connection session, String sql) throws SQLException {
        try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            return row(rows);
        }
    }

    // The query may not have begun when the first request comes.
    private static String cancelled(Connection session) throws Exception {
        AtomicBoolean running = new AtomicBoolean(true);
        try (Statement statement = session.createStatement()) {
            Thread other = new Thread(() -> {
                while (running.get()) {
                    try {
                        Thread.sleep(100);
                        statement.cancel();
                    } catch (InterruptedException | SQLException error) {
                        System.err.println(error);
                    }
                }
            });
            other.start();
            try {
                statement.executeQuery(ENDLESS);
                return "none";
            } catch (SQLException error) {
                return error.getSQLState();
            } finally {
                running.set(false);
                other.join();
            }
        }
    }

    public static void main(String[] words) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", env("PGUSER"));
        properties.setProperty("password", env("PGPASSWORD"));
        // Prepared at the server, and answered in binary format, from the second run on.
        properties.setProperty("prepareThreshold", "2");
        String url = "jdbc:postgresql://" + env("PGHOST") + ":" + env("PGPORT") + "/" + env("PGDATABASE");
        try (Connection session = DriverManager.getConnection(url, properties)) {
            System.out.println("connected " + session.getMetaData().getDatabaseProductName());

            String product = "SELECT name, price FROM products WHERE id = ?";
            try (PreparedStatement statement = session.prepareStatement(product)) {
                for (int id = 1; id <= 6; id++) {
                    statement.setInt(1, id);
                    try (ResultSet rows = statement.executeQuery()) {
                        System.out.println("prepared " + row(rows));
                    }
                }
            }
            String types = "SELECT 7::int4, 9000000000::int8, 1.5::float8, true, date '2026-02-03', 'h\u00e9llo'::text, "
                    + "'\\x00ff'::bytea, ARRAY[1, 2, 3], 12.50::numeric, "
                    + "'b3bd8a5c-1f5e-4f4f-9d0b-111111111111'::uuid, name FROM products WHERE id = ?";
            try (PreparedStatement statement = session.prepareStatement(types)) {
                for (int run = 0; run < 4; run++) {
                    statement.setInt(1, 5);
                    try (ResultSet rows = statement.executeQuery()) {
                        System.out.println("binary " + row(rows));
                    }
                }
            }

            session.setAutoCommit(false);
            try (PreparedStatement insert =
                    session.prepareStatement("INSERT INTO parts (id, name) VALUES (?, ?)")) {
                for (int id = 1000; id < 1005; id++) {
                    insert.setInt(1, id);
                    insert.setString(2, "inside");
                    insert.addBatch();
                }
                System.out.println("transaction " + Arrays.toString(insert.executeBatch()));
            }
            System.out.println("transaction " + one(session, "SELECT count(*) FROM parts WHERE id >= 1000"));
            try (Statement statement = session.createStatement()) {
                // A cursor: suspended portals inside the transaction.
                statement.setFetchSize(7);
                long total = 0;
                try (ResultSet rows = statement.executeQuery("SELECT id FROM products")) {
                    while (rows.next()) {
                        total += rows.getInt(1);
                    }
                }
                System.out.println("transaction " + total);
            }
            session.rollback();
            session.setAutoCommit(true);
            System.out.println("transaction " + one(session, "SELECT count(*) FROM parts WHERE id >= 1000"));

            CopyManager copy = session.unwrap(PGConnection.class).getCopyAPI();
            StringReader lines = new StringReader("1\tone\n2\ttwo\n3\tthree\n");
            System.out.println("copy " + copy.copyIn("COPY parts (id, name) FROM STDIN", lines));
            StringWriter out = new StringWriter();
            copy.copyOut("COPY (SELECT id, name FROM parts ORDER BY id) TO STDOUT", out);
            System.out.println("copy " + out.toString().replace("\n", ";"));
            try (Statement statement = session.createStatement()) {
                System.out.println("copy " + statement.executeUpdate("DELETE FROM parts WHERE id IN (1, 2, 3)"));
            }

            System.out.println("cancel " + cancelled(session));

            try (Statement statement = session.createStatement()) {
                statement.execute("TRUNCATE parts");
                System.out.println("refused none");
            } catch (SQLException error) {
                System.out.println("refused " + error.getSQLState());
            }
            System.out.println("after " + one(session, "SELECT 1"));

            try (ResultSet tables = session.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"})) {
                StringBuilder names = new StringBuilder();
                while (tables.next()) {
                    names.append(' ').append(tables.getString("TABLE_NAME"));
                }
                System.out.println("after" + names);
            }
            try (PreparedStatement statement =
                    session.prepareStatement("SELECT * FROM people WHERE id > ? ORDER BY id")) {
                for (int run = 0; run < 4; run++) {
                    statement.setInt(1, 0);
                    try (ResultSet rows = statement.executeQuery()) {
                        System.out.println("masked " + row(rows));
                    }
                }
            }
        }
        System.out.println("done");
    }
}
