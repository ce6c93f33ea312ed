// What JDBC sends to begin on another search path: see README.md.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

final class SearchPath {
    private static final String QUERY = "SELECT title, reader FROM books";

    private static void begin(String name, String value, String options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        properties.setProperty(name, value);
        properties.setProperty("options", options);
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE");
        try (Connection session = DriverManager.getConnection(url, properties);
                Statement statement = session.createStatement();
                ResultSet rows = statement.executeQuery(QUERY)) {
            rows.next();
            System.out.println("jdbc " + rows.getString(1) + " " + rows.getString(2));
            System.out.println("jdbc " + session.getSchema());
        }
        try (Connection session = DriverManager.getConnection(url, properties);
                Statement statement = session.createStatement();
                ResultSet rows = statement.executeQuery("SHOW lock_timeout")) {
            rows.next();
            System.out.println("jdbc " + rows.getString(1));
        }
    }

    /** Pools and frameworks set the schema of a session that they lend. */
    private static void within() throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE");
        String user = System.getenv("PGUSER");
        try (Connection session = DriverManager.getConnection(url, user, System.getenv("PGPASSWORD"))) {
            session.setAutoCommit(false);
            for (String schema : new String[] {"shelf", "public", "shelf"}) {
                session.setSchema(schema);
                try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(QUERY)) {
                    rows.next();
                    System.out.println("jdbc " + session.getSchema() + " " + rows.getString(1) + " " + rows.getString(2));
                }
                if (schema.equals("shelf")) {
                    session.commit();
                } else {
                    session.rollback();
                }
                System.out.println("jdbc " + session.getSchema());
                session.commit();
            }
        }
    }

    public static void main(String[] arguments) throws SQLException {
        begin("currentSchema", "shelf,public", "-c lock_timeout=5s");
        begin("currentSchema", "\"shelf\"", "-c lock_timeout=5s");
        begin("ApplicationName", "shelves", "-c search_path=shelf,\\ public -c lock_timeout=5s");
        within();
    }
}
