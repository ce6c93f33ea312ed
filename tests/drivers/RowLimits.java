// JDBC under a limit on rows, from several threads: see README.md. Each worker owns thirty rows of `parts`, ten of which it
// may change at once.

import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

final class RowLimits {
    private static final int WORKERS = 8;
    private static final int TURNS = 15;

    private static final String OWN = "DELETE FROM parts WHERE (id - 1) / 30 * 30 + 1 = ";

    private interface Work {
        void run() throws SQLException;
    }

    private static int refused(Work work) throws SQLException {
        try {
            work.run();
            return 0;
        } catch (SQLException error) {
            SQLException cause = error instanceof BatchUpdateException ? error.getNextException() : error;
            if (!"42501".equals(cause.getSQLState()) || !cause.getMessage().contains("few-rows")) {
                throw error;
            }
            return 1;
        }
    }

    private static int work(String url, int worker) throws SQLException {
        int first = worker * 30 + 1;
        int seen = 0;
        try (Connection session = DriverManager.getConnection(url)) {
            PreparedStatement few =
                    session.prepareStatement("UPDATE parts SET name = ? WHERE id BETWEEN ? AND ? + 9");
            PreparedStatement many = session.prepareStatement("UPDATE parts SET name = 'gone' WHERE id BETWEEN ? AND ? + 20");
            PreparedStatement names =
                    session.prepareStatement("SELECT min(name), max(name) FROM parts WHERE id BETWEEN ? AND ? + 9");
            PreparedStatement returning =
                    session.prepareStatement(OWN + "?", Statement.RETURN_GENERATED_KEYS);
            Statement plain = session.createStatement();
            for (int turn = 0; turn < TURNS; turn++) {
                String own = "jdbc " + worker + " " + turn;
                few.setString(1, own);
                few.setInt(2, first);
                few.setInt(3, first);
                if (few.executeUpdate() != 10) {
                    throw new SQLException("not ten rows");
                }
                many.setInt(1, first);
                many.setInt(2, first);
                seen += refused(many::executeUpdate);
                returning.setInt(1, first);
                seen += refused(returning::executeUpdate);
                seen += refused(() -> 
                        plain.execute("UPDATE tools SET name = 'gone' WHERE id = " + first + "; " + OWN + first));
                // A batch is one implicit transaction: what is within the limit is undone with what is not.
                seen += refused(() -> {
                    for (int to : new int[] {first - 15, first}) {
                        many.setInt(1, first);
                        many.setInt(2, to);
                        many.addBatch();
                    }
                    many.executeBatch();
                });
                session.setAutoCommit(false);
                plain.executeUpdate("UPDATE tools SET name = '" + own + "' WHERE id = " + first);
                Savepoint before = session.setSavepoint();
                seen += refused(() -> plain.executeUpdate(OWN + first));
                session.rollback(before);
                session.commit();
                session.setAutoCommit(true);
                names.setInt(1, first);
                names.setInt(2, first);
                try (ResultSet rows = names.executeQuery()) {
                    rows.next();
                    if (!rows.getString(1).equals(own) || !rows.getString(2).equals(own)) {
                        throw new SQLException(rows.getString(1) + " in place of " + own);
                    }
                }
            }
        }
        return seen;
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE") + "?user=somebody&password=wrong&prepareThreshold=3";
        ExecutorService threads = Executors.newFixedThreadPool(WORKERS);
        List<Future<Integer>> all = new ArrayList<>();
        for (int worker = 0; worker < WORKERS; worker++) {
            int own = worker;
            all.add(threads.submit(() -> work(url, own)));
        }
        threads.shutdown();
        StringBuilder line = new StringBuilder("jdbc refused");
        for (Future<Integer> one : all) {
            line.append(' ').append(one.get());
        }
        System.out.println(line);
    }
}
