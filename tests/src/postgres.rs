//! A PostgreSQL server of the test's own, with the shop in it.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{issuer::Authority, leftovers, netns::Netns, programs};

/// The role that nodegate logs in as, and its password, which agents never see.
pub const ROLE: &str = "app_agent";
/// A role with all that [`ROLE`] may, which logs in without a password: for what is asked past nodegate.
pub const DIRECT: &str = "app_direct";
/// See [`ROLE`].
pub const PASSWORD: &str = "only the daemon knows this";
/// The database.
pub const DATABASE: &str = "shop";

const SHOP: &str = include_str!("shop.sql");

/// How a server is to be.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// `max_connections`; 100 if not said.
    pub connections: Option<u32>,
    /// A port; any free one if not said.
    pub port: Option<u16>,
    /// The network namespace to serve; the caller's if not said.
    pub netns: Option<&'a Netns>,
    /// More lines of postgresql.conf.
    pub settings: &'a str,
}

/// A running server; gone with its data on drop.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    child: Child,
    authority: Arc<Authority>,
}

impl Postgres {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::with(&Options::default())
    }

    /// Starts one.
    pub fn with(options: &Options<'_>) -> Self {
        let template = template();
        let folder = leftovers::folder(&leftovers::unique_name());
        let data = folder.join("data");
        programs::succeed(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data));
        programs::succeed(Command::new("chown").arg("postgres:").arg(&folder));
        let port = options.port.unwrap_or_else(free_port);
        let authority = Arc::new(Authority::new());
        configure(&data, &folder, port, options, &authority);
        let child = serve(&data, &folder, options.netns);
        let mut server = Self { folder, port, child, authority };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&mut self) {
        let folder = self.folder.clone();
        programs::wait_for("PostgreSQL to start", Duration::from_secs(30), || {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("PostgreSQL ended with {status}:\n{log}");
            }
            log.contains("database system is ready to accept connections").then_some(())
        });
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL as the superuser, past nodegate, and returns the rows: `|` between columns.
    pub fn admin(&self, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", DATABASE, "-h"]);
        psql.arg(&self.folder).args(["-p", &self.port.to_string(), "-c", sql]);
        programs::succeed(&mut psql).trim_end().to_owned()
    }

    /// Runs a script as the superuser, past nodegate, and insists that all of it succeeds.
    pub fn script(&self, sql: &str) {
        let said =
            programs::said(&mut self.psql(&["-q", "-v", "ON_ERROR_STOP=1"]), sql, Duration::from_mins(2));
        said.ok();
    }

    /// Runs a script as the superuser, past nodegate, and returns what psql said of all of it, errors included.
    pub fn try_script(&self, sql: &str) -> String {
        let said = programs::said(&mut self.psql(&["-At"]), sql, Duration::from_mins(2));
        said.out + &said.err
    }

    fn psql(&self, words: &[&str]) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-U", "postgres", "-d", DATABASE, "-h"]).arg(&self.folder);
        psql.args(["-p", &self.port.to_string()]).args(words);
        psql
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).expect("its log")
    }

    /// How many connections have reached it over TCP so far.
    pub fn connections_received(&self) -> usize {
        self.log().matches("connection received: host=127.0.0.1").count()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The certificate of the CA that signed its own.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The CA itself.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.authority)
    }

    /// The directory of its Unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// Stops it at once; for tests of a dead target.
    pub fn stop(&mut self) {
        programs::end(&mut self.child, Signal::SIGQUIT);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port of loopback that nothing listens on, given out once. It lies below the ports that the kernel gives to outgoing
/// connections: one of those could take it before the server does.
pub fn free_port() -> u16 {
    use std::{
        hash::{BuildHasher as _, RandomState},
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };
    const FIRST: u16 = 12_000;
    const COUNT: u64 = 20_000;
    static NEXT: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(()) % COUNT));
    (0..COUNT)
        .map(|_| FIRST + u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % COUNT).expect("a port"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Whether something listens there.
pub fn answers(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok()
}

/// A data directory with the shop in it, made once a machine and copied for each server: `initdb` takes seconds.
fn template() -> PathBuf {
    use std::hash::{Hash as _, Hasher as _};
    let initdb = programs::postgres("initdb");
    let mut hasher = std::hash::DefaultHasher::new();
    (SHOP, ROLES, &initdb).hash(&mut hasher);
    let folder = std::env::temp_dir().join(format!("nodegate-shop-{:016x}", hasher.finish()));
    let lock = fs::File::create(folder.with_extension("lock")).expect("the template's lock");
    lock.lock().expect("the template's lock");
    if folder.join("complete").exists() {
        let owner = fs::metadata(&folder).expect("the template").uid();
        assert_eq!(Some(owner), postgres_user(), "{} belongs to somebody else", folder.display());
        return folder.join("data");
    }
    let _ = fs::remove_dir_all(&folder);
    fs::DirBuilder::new().mode(0o700).create(&folder).expect("a directory for the template");
    programs::succeed(Command::new("chown").arg("postgres:").arg(&folder));
    let data = folder.join("data");
    programs::succeed(
        programs::as_postgres(&initdb)
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data),
    );
    let port = free_port();
    let authority = Arc::new(Authority::new());
    let options = Options { settings: "listen_addresses = ''", ..Options::default() };
    configure(&data, &folder, port, &options, &authority);
    let mut server = Postgres { child: serve(&data, &folder, None), folder: folder.clone(), port, authority };
    server.wait_until_ready();
    let psql = |database: &str, sql: &str| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        psql.arg(&folder).args(["-p", &port.to_string(), "-c", sql]);
        programs::succeed(&mut psql);
    };
    psql("postgres", ROLES);
    psql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"));
    psql(DATABASE, &format!("SET ROLE {ROLE}; {SHOP}"));
    programs::end(&mut server.child, Signal::SIGINT);
    std::mem::forget(server); // Its drop would remove the very directory that this function makes.
    fs::write(folder.join("complete"), "").expect("the template's mark");
    data
}

/// One role for each way of logging in. They own the tables: what is refused to them, PostgreSQL would allow.
const ROLES: &str = "
    SET password_encryption = 'scram-sha-256';
    CREATE ROLE app_agent LOGIN PASSWORD 'only the daemon knows this';
    CREATE ROLE app_clear LOGIN PASSWORD 'only the daemon knows this' IN ROLE app_agent;
    CREATE ROLE app_direct LOGIN IN ROLE app_agent;
    SET password_encryption = 'md5';
    CREATE ROLE app_md5 LOGIN PASSWORD 'only the daemon knows this' IN ROLE app_agent;
";

fn postgres_user() -> Option<u32> {
    Some(nix::unistd::User::from_name("postgres").ok()??.uid.as_raw())
}

fn configure(data: &Path, sockets: &Path, port: u16, options: &Options<'_>, authority: &Authority) {
    let connections = options.connections.unwrap_or(100);
    let settings = format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{sockets}'\n\
         max_connections = {connections}\nshared_buffers = 64MB\nfsync = off\nsynchronous_commit = off\n\
         full_page_writes = off\nautovacuum = off\nlog_connections = on\nlog_disconnections = on\n\
         log_min_messages = log\nlogging_collector = off\nlog_line_prefix = '%m [%p] '\n\
         ssl = on\nssl_cert_file = '{folder}/server.pem'\nssl_key_file = '{folder}/server.key'\n{more}\n",
        sockets = sockets.display(),
        folder = sockets.display(),
        more = options.settings,
    );
    let rules = "local all all trust\n\
         hostssl all app_clear 127.0.0.1/32 password\n\
         host all app_clear 0.0.0.0/0 reject\n\
         host all app_md5 127.0.0.1/32 md5\n\
         host all app_direct 127.0.0.1/32 trust\n\
         host all all 127.0.0.1/32 scram-sha-256\n\
         host all all ::1/128 scram-sha-256\n\
         host replication all 127.0.0.1/32 scram-sha-256\n";
    let (certificate, key) = authority.server_pem();
    fs::write(data.join("postgresql.auto.conf"), settings).expect("its settings");
    fs::write(data.join("pg_hba.conf"), rules).expect("its rules");
    fs::write(sockets.join("ca.pem"), &authority.pem).expect("its CA");
    fs::write(sockets.join("server.pem"), certificate).expect("its certificate");
    fs::write(sockets.join("server.key"), key).expect("its key");
    let key = sockets.join("server.key");
    programs::succeed(Command::new("chmod").arg("600").arg(&key));
    programs::succeed(Command::new("chown").arg("postgres:").arg(&key));
}

fn serve(data: &Path, folder: &Path, netns: Option<&Netns>) -> Child {
    let log = fs::File::create(folder.join("log")).expect("its log");
    let server = programs::as_postgres(&programs::postgres("postgres"));
    let mut command = match netns {
        None => server,
        Some(netns) => {
            let mut inside = netns.command(Path::new(server.get_program()));
            inside.args(server.get_args());
            inside
        }
    };
    command
        .arg("-D")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("PostgreSQL to start")
}
