//! The usual stage: one shop, one issuer, one daemon between the shop and a captured psql.

use std::{net::TcpStream, process::Command, time::Duration};

use super::{
    agent::Agent,
    daemon::{Daemon, Settings, Target},
    issuer::Issuer,
    postgres::{self, Postgres},
    programs::{self, Said},
    wire::Client,
};

/// How long a psql may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Server, issuer and daemon, taken down in the opposite order.
#[derive(Debug)]
pub struct Stage {
    /// The daemon.
    pub daemon: Daemon,
    /// The issuer of its agents.
    pub issuer: Issuer,
    /// The server that it guards.
    pub postgres: Postgres,
}

impl Stage {
    /// The usual one.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// The usual one with other settings for the daemon.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::around(Postgres::start(), change)
    }

    /// A stage around this server.
    pub fn around(postgres: Postgres, change: impl FnOnce(&mut Settings)) -> Self {
        let issuer = Issuer::start();
        let mut settings = Settings::new(vec![Target::shop("shop", postgres.address())]);
        change(&mut settings);
        let daemon = Daemon::start(&settings, &issuer);
        Self { daemon, issuer, postgres }
    }

    /// A captured psql of a good agent that runs `sql`; its rows come unaligned, `|` between columns.
    pub fn psql(&self, sql: &str) -> Said {
        self.psql_as(&self.issuer.token("agent-1"), sql)
    }

    /// The same with another token.
    pub fn psql_as(&self, token: &str, sql: &str) -> Said {
        let mut command = self.daemon.run(Some(token));
        command.args(psql_words(&self.postgres, &["-At", "-c", sql])).env("PGPASSWORD", "wrong");
        programs::said(&mut command, "", PATIENCE)
    }

    /// A captured psql that reads its commands from standard input, as a script would feed it.
    pub fn psql_script(&self, words: &[&str], script: &str) -> Said {
        let mut command = self.daemon.run(Some(&self.issuer.token("agent-1")));
        command.args(psql_words(&self.postgres, words)).env("PGPASSWORD", "wrong");
        programs::said(&mut command, script, PATIENCE)
    }

    /// The same psql outside of every cgroup that is captured, with this password.
    pub fn direct(&self, password: &str, words: &[&str], script: &str) -> Said {
        let all = psql_words(&self.postgres, words);
        let mut command = Command::new(&all[0]);
        command.args(&all[1..]).env("PGPASSWORD", password);
        programs::said(&mut command, script, PATIENCE)
    }

    /// A good agent that lends its sockets.
    pub fn agent(&self) -> Agent {
        self.daemon.agent(&self.issuer.token("agent-1"))
    }

    /// A session of that agent, spoken by hand.
    pub fn client(&self, agent: &mut Agent) -> Client {
        let stream = agent.connect(self.postgres.address()).expect("a captured connection");
        Client::start(stream).expect("a session")
    }

    /// A session of the same role past nodegate, spoken by hand.
    pub fn direct_client(&self) -> Client {
        let stream = TcpStream::connect(self.postgres.address()).expect("a connection");
        let user = [("user", postgres::DIRECT), ("database", postgres::DATABASE)];
        let mut client = Client::start_as(stream, &user).expect("a session");
        assert!(client.query(&format!("SET ROLE {}", postgres::ROLE)).errors.is_empty());
        client
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

/// The words of a psql that connects to this server by its address, as an agent would.
pub fn psql_words(server: &Postgres, more: &[&str]) -> Vec<String> {
    let place = format!(
        "host=127.0.0.1 port={} dbname={} user={}",
        server.port(),
        postgres::DATABASE,
        postgres::ROLE
    );
    let mut words = vec!["psql".to_owned(), "-X".to_owned(), place];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}
