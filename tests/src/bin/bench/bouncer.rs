//! The peer: a pgbouncer in front of the same server, trusting its clients as nodegate does.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    leftovers,
    postgres::{self, Postgres},
    programs::{self, succeed, wait_for},
};

/// One that runs; gone on drop.
pub struct Bouncer {
    child: Child,
    port: u16,
    folder: PathBuf,
    /// As it says itself.
    pub version: String,
}

impl Bouncer {
    /// Starts one on a free port.
    pub fn start(server: &Postgres) -> Self {
        let folder = leftovers::folder(&leftovers::unique_name());
        let port = postgres::free_port();
        let settings = format!(
            "[databases]\n{database} = host=127.0.0.1 port={server_port} user={role} password='{password}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = session\ndefault_pool_size = 128\nmax_client_conn = 200\nlogfile = {log}\n\
             ignore_startup_parameters = extra_float_digits\n",
            database = postgres::DATABASE,
            server_port = server.port(),
            role = postgres::ROLE,
            password = postgres::PASSWORD,
            log = folder.join("log").display(),
        );
        fs::write(folder.join("pgbouncer.ini"), settings).expect("its settings");
        succeed(Command::new("chown").arg("-R").arg("postgres:").arg(&folder));
        let program = Path::new("/usr/sbin/pgbouncer");
        let version = succeed(Command::new(program).arg("--version"));
        let version = version.lines().next().unwrap_or_default().trim_start_matches("PgBouncer ").to_owned();
        let child = programs::as_postgres(program)
            .arg("-q")
            .arg(folder.join("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer to start");
        wait_for("pgbouncer", Duration::from_secs(10), || {
            postgres::answers(SocketAddr::from(([127, 0, 0, 1], port))).then_some(())
        });
        Self { child, port, folder, version }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGKILL);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
