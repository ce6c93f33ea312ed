// Reads a row, changes one field and saves it, by the statements that Hibernate makes of it: see README.md.

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Timestamp;

final class WriteBack {
    public static void main(String[] arguments) throws SQLException {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
                + System.getenv("PGDATABASE") + "?user=" + System.getenv("PGUSER") + "&password="
                + System.getenv("PGPASSWORD");
        try (Connection session = DriverManager.getConnection(url)) {
            PreparedStatement read = session.prepareStatement(
                    "select c1_0.id,c1_0.created_at,c1_0.email,c1_0.name,c1_0.notes,c1_0.phone,c1_0.ssn"
                            + " from customers c1_0 where c1_0.id=?");
            read.setInt(1, 7);
            ResultSet row = read.executeQuery();
            row.next();
            Timestamp created = row.getTimestamp(2);
            PreparedStatement all = session.prepareStatement(
                    "update customers set created_at=?,email=?,name=?,notes=?,phone=?,ssn=? where id=?");
            // From the fifth run on, the driver keeps the statement at the server and binds in binary format.
            for (int turn = 0; turn < 7; turn++) {
                all.setTimestamp(1, created);
                all.setString(2, row.getString(3));
                all.setString(3, "changed");
                all.setString(4, row.getString(5));
                all.setString(5, row.getString(6));
                all.setString(6, row.getString(7));
                all.setInt(7, 7);
                try {
                    all.executeUpdate();
                    System.out.println("all saved");
                } catch (SQLException error) {
                    System.out.println("refused " + error.getSQLState() + " " + error.getMessage().replace("\n", " "));
                }
            }
            PreparedStatement changed = session.prepareStatement("update customers set name=? where id=?");
            changed.setString(1, "changed");
            changed.setInt(2, 7);
            changed.executeUpdate();
            System.out.println("changed saved");
        }
    }
}
