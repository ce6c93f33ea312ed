// Large objects as JDBC works on them, by function calls of the protocol: see README.md.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

final class LargeObjects {
    public static void main(String[] arguments) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE");
        byte[] content = new byte[400_000];
        for (int at = 0; at < content.length; at++) {
            content[at] = (byte) (at * 7);
        }
        try (Connection session = DriverManager.getConnection(
                url, System.getenv("PGUSER"), System.getenv("PGPASSWORD"))) {
            session.setAutoCommit(false);
            LargeObjectManager manager = session.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = manager.createLO(LargeObjectManager.READWRITE);
            LargeObject large = manager.open(oid, LargeObjectManager.READWRITE);
            large.write(content);
            System.out.println("jdbc wrote " + large.size64());
            large.close();
            session.commit();
            large = manager.open(oid, LargeObjectManager.READ);
            System.out.println("jdbc read " + Arrays.equals(large.read(content.length), content));
            large.seek64(300_000, LargeObject.SEEK_SET);
            System.out.println("jdbc at " + large.tell64() + " " + large.read(1)[0]);
            large.close();
            large = manager.open(oid, LargeObjectManager.READWRITE);
            large.truncate(3);
            large.close();
            session.rollback();
            large = manager.open(oid, LargeObjectManager.READ);
            System.out.println("jdbc rolled back " + large.size64());
            large.close();
            manager.delete(oid);
            session.commit();
            try {
                manager.open(oid, LargeObjectManager.READ);
            } catch (SQLException error) {
                System.out.println("jdbc gone " + error.getSQLState());
            }
            session.rollback();
            try (Statement statement = session.createStatement();
                    ResultSet rows = statement.executeQuery("SELECT count(*) FROM orders")) {
                rows.next();
                System.out.println("jdbc after " + rows.getString(1));
            }
        }
    }
}
