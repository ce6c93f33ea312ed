//! A `nodegate daemon` of the test's own: its configuration, socket, pins, cgroups and audit log.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    agent::Agent,
    issuer::{AUDIENCE, Issuer},
    leftovers,
    programs::{self, Said},
};

/// What the daemon prints when agents can be captured.
const READY: &str = "nodegate is ready";

/// A target of the configuration.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// The role.
    pub role: String,
    /// The content of `credential.password`.
    pub password: String,
    /// `tls.client`.
    pub client_tls: String,
    /// The content of `tls.upstream` and what belongs to it: `disable`, or `verify-full, ca: /a/file`.
    pub tls: String,
    /// Names that it is known by; without any, its address.
    pub names: Vec<String>,
    /// Column tags.
    pub tags: Vec<(String, Vec<String>)>,
    /// More lines of its own, each with its indent of four.
    pub more: String,
}

impl Target {
    /// A shop at that address: contact data of its customers is personal, the number above all.
    pub fn shop(name: &str, address: SocketAddr) -> Self {
        let tag = |column: &str, tags: &[&str]| {
            (format!("public.customers.{column}"), tags.iter().map(|tag| (*tag).to_owned()).collect())
        };
        Self {
            name: name.to_owned(),
            address,
            names: Vec::new(),
            role: super::postgres::ROLE.to_owned(),
            password: "file: password".to_owned(),
            client_tls: "plaintext".to_owned(),
            tls: "disable".to_owned(),
            more: String::new(),
            tags: vec![tag("email", &["pii"]), tag("phone", &["pii"]), tag("ssn", &["pii", "secret"])],
        }
    }
}

/// The policies of most tests: agents work with rows and read the schema; nobody drops or truncates; contact data
/// is masked.
pub const POLICY: &str = r#"
@id("agents-work-with-rows")
permit (
    principal in Group::"agents",
    action in [
        Action::"connect", Action::"sql:rows", Action::"sql:read", Action::"sql:copy", Action::"sql:set",
        Action::"sql:transaction", Action::"sql:explain", Action::"sql:other", Action::"sql:create"
    ],
    resource
);

@id("no-drop")
@message("Ask the owner of the table.")
forbid (principal, action in [Action::"sql:drop", Action::"sql:truncate"], resource);

@id("no-change-of-everything")
@message("Add a WHERE clause that selects rows.")
forbid (principal, action in [Action::"sql:delete", Action::"sql:update"], resource) unless { context.has_where };

@id("mask-personal-data")
@mask("partial")
forbid (principal, action == Action::"sql:read", resource is Column)
when { resource.tags.contains("pii") && !resource.tags.contains("secret") };

@id("mask-secrets")
@mask("redact")
forbid (principal, action == Action::"sql:read", resource is Column) when { resource.tags.contains("secret") };
"#;

/// How a daemon is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its targets.
    pub targets: Vec<Target>,
    /// Its policies.
    pub policy: String,
    /// Its token sources, as YAML flow mappings.
    pub sources: Vec<String>,
    /// Whether keys come from discovery over HTTPS, or from a JWKS file.
    pub discovery: Discovery,
    /// More lines at the top level of nodegate.yaml.
    pub more: String,
    /// What is done with what is refused.
    pub mode: String,
    /// More keys of `capture`, each with a comma before it.
    pub capture: String,
    /// More targets, as YAML flow mappings.
    pub more_targets: Vec<String>,
    /// What starts the daemon in its place, and executes it in the end: the words before its own.
    pub wrapper: Vec<String>,
    /// Where it tells metrics, health and readiness.
    pub listen: Option<SocketAddr>,
}

/// Where the issuer's keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Over HTTPS.
    Https,
    /// From a file.
    JwksFile,
}

impl Settings {
    /// The usual ones for these targets.
    pub fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            policy: POLICY.to_owned(),
            sources: vec!["{ kind: enrolled }".to_owned()],
            discovery: Discovery::Https,
            more: String::new(),
            mode: "enforce".to_owned(),
            capture: String::new(),
            more_targets: Vec::new(),
            wrapper: Vec::new(),
            listen: None,
        }
    }
}

/// A daemon that was taken over from; gone on drop.
#[derive(Debug)]
pub struct Predecessor(Child);

impl Predecessor {
    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        programs::end(&mut self.0, Signal::SIGKILL);
    }
}

/// A running daemon; gone on drop with everything that it made.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    folder: PathBuf,
    wrapper: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts one and waits until it is ready.
    pub fn start(settings: &Settings, issuer: &Issuer) -> Self {
        let mut daemon = Self::prepare(settings, issuer);
        daemon.restart();
        daemon
    }

    /// Writes everything that a daemon needs, without starting it.
    pub fn prepare(settings: &Settings, issuer: &Issuer) -> Self {
        let name = leftovers::unique_name();
        let folder = leftovers::folder(&name);
        fs::create_dir(folder.join("policies")).expect("a directory for policies");
        let wrapper = settings.wrapper.clone();
        let daemon = Self { name, folder, wrapper, child: None };
        daemon.set_policy(&settings.policy);
        daemon.set_password(super::postgres::PASSWORD);
        issuer.write_ca(&daemon.folder);
        fs::write(daemon.folder.join("jwks.json"), issuer.jwks().to_string()).expect("the keys");
        fs::write(daemon.config(), daemon.configuration(settings, issuer)).expect("the configuration");
        daemon
    }

    fn configuration(&self, settings: &Settings, issuer: &Issuer) -> String {
        let keys = match settings.discovery {
            Discovery::Https => "ca: issuer-ca.pem",
            Discovery::JwksFile => "jwks_file: jwks.json",
        };
        let mut text = format!(
            "mode: {mode}\n\
             identity:\n  issuers:\n    - {{ name: tests, issuer: \"{url}\", audience: {AUDIENCE}, \
             groups_claim: groups, {keys} }}\n  leeway: 1s\n  sources:\n{sources}\
             policy: {{ dir: policies }}\n\
             audit: {{ dir: state, retention_days: 7, on_failure: deny }}\n\
             admin: {{ socket: nodegate.sock{listen} }}\n\
             capture: {{ pins: /sys/fs/bpf/{name}, cgroup_parent: {name}, root: {name}, \
             accept: [af-packet, privileged-processes, received-sockets, socket-families, unix-aliases, unix-connect]\
             {capture} }}\n",
            url = issuer.url(),
            sources =
                settings.sources.iter().fold(String::new(), |all, source| all + "    - " + source + "\n"),
            name = self.name,
            mode = settings.mode,
            capture = settings.capture,
            listen = settings.listen.map_or_else(String::new, |address| format!(", listen: \"{address}\"")),
        );
        text.push_str(&settings.more);
        text.push_str("targets:\n");
        for target in &settings.targets {
            let tags = target.tags.iter().map(|(column, tags)| format!("{column:?}: [{}]", tags.join(", ")));
            let _ = write!(
                text,
                "  - name: {name}\n    protocol: postgres\n    hosts: [{hosts}]\n    ports: [{port}]\n    \
                 tls: {{ client: {client}, upstream: {tls} }}\n    \
                 credential: {{ username: {role}, password: {{ {password} }} }}\n    tags: {{ {tags} }}\n{more}",
                more = target.more,
                name = target.name,
                hosts = if target.names.is_empty() {
                    format!("\"{}\"", target.address.ip())
                } else {
                    target.names.join(", ")
                },
                port = target.address.port(),
                password = target.password,
                client = target.client_tls,
                tls = target.tls,
                role = target.role,
                tags = tags.collect::<Vec<_>>().join(", "),
            );
        }
        for target in &settings.more_targets {
            let _ = writeln!(text, "  - {target}");
        }
        text
    }

    /// Starts the daemon (again) and waits until it is ready.
    pub fn restart(&mut self) {
        self.launch_as(&[]);
        self.await_ready();
    }

    fn await_ready(&mut self) {
        programs::wait_for("the daemon to be ready", Duration::from_secs(30), || {
            let log = self.log_since_launch();
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok()).flatten() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            log.contains(READY).then_some(())
        });
    }

    fn launch_as(&mut self, words: &[&str]) {
        assert!(self.child.is_none(), "the daemon is running");
        let mut log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("its log");
        writeln!(log, "--- launched").expect("its log");
        let program = programs::nodegate();
        let mut words_before = self.wrapper.iter().map(PathBuf::from).chain([program]);
        let mut command = programs::bound(&words_before.next().expect("a program"));
        command.args(words_before).arg("daemon").arg("--config").arg(self.config()).args(words);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
        command.env("RUST_BACKTRACE", "1");
        self.child = Some(command.spawn().expect("the daemon to start"));
    }

    /// Starts another one that takes over, and waits until it is ready. Returns the one before, which looks after its
    /// sessions.
    pub fn succeed(&mut self) -> Predecessor {
        let before = Predecessor(self.child.take().expect("a running daemon"));
        self.launch_as(&["--take-over"]);
        self.await_ready();
        before
    }

    /// Starts another one that cannot take over, and waits for its end.
    pub fn fail_to_succeed(&mut self) {
        let before = self.child.take().expect("a running daemon");
        self.launch_as(&["--take-over"]);
        let mut heir = self.child.replace(before).expect("the heir");
        let status = programs::wait_for("the heir to give up", Duration::from_secs(30), || {
            heir.try_wait().expect("its status")
        });
        assert!(!status.success(), "{}", self.log());
    }

    /// Has it launched through another program from now on, which becomes it.
    pub fn launch_through(&mut self, words: &[&str]) {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        programs::end(&mut self.child.take().expect("a running daemon"), Signal::SIGKILL);
    }

    /// Ends it as a service manager does.
    pub fn terminate(&mut self) {
        programs::end(&mut self.child.take().expect("a running daemon"), Signal::SIGTERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("to signal the daemon");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Everything that it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn log_since_launch(&self) -> String {
        self.log().rsplit("--- launched").next().unwrap_or_default().to_owned()
    }

    /// Its directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("nodegate.yaml")
    }

    /// Its admin socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("nodegate.sock")
    }

    /// The directory of its audit log.
    pub fn audit(&self) -> PathBuf {
        self.folder.join("state").join("audit")
    }

    /// The cgroup below which it makes those of `nodegate run`.
    pub fn cgroup(&self) -> PathBuf {
        leftovers::cgroup_mount().join(&self.name)
    }

    /// Its own name, which is its cgroup's below the mount.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The label under which a cgroup is captured, `None` if it has none; nothing if it is not captured.
    pub fn captured(&self, shown: &str) -> Option<Option<String>> {
        let status = self.status();
        let workloads = status["workloads"].as_array().expect("workloads");
        let found = workloads.iter().find(|workload| workload["path"] == shown)?;
        Some(found["label"].as_str().map(str::to_owned))
    }

    /// Waits until a cgroup is captured under that label.
    pub fn wait_for_label(&self, shown: &str, label: Option<&str>) {
        programs::wait_for("the label to be followed", Duration::from_secs(10), || {
            (self.captured(shown)?.as_deref() == label).then_some(())
        });
    }

    /// Waits until a cgroup is not captured any more.
    pub fn wait_for_release(&self, shown: &str) {
        programs::wait_for("the cgroup to be released", Duration::from_secs(10), || {
            self.captured(shown).is_none().then_some(())
        });
    }

    /// Where it pins its kernel side.
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.name)
    }

    /// Replaces its policies; the daemon is to notice by itself.
    pub fn set_policy(&self, policy: &str) {
        replace(&self.folder.join("policies").join("tests.cedar"), policy);
    }

    /// Changes a text of its configuration; the daemon is to notice by itself.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration");
        assert!(text.contains(from), "{text}");
        replace(&self.config(), &text.replace(from, to));
    }

    /// Replaces its credential.
    pub fn set_password(&self, password: &str) {
        replace(&self.folder.join("password"), password);
    }

    /// A file with a token that only root may read.
    pub fn token_file(&self, token: &str) -> PathBuf {
        let path = self.folder.join(format!("{}.token", leftovers::unique_name()));
        replace(&path, token);
        path
    }

    /// `nodegate` with the words of a sub-command that talks to this daemon.
    pub fn nodegate(&self, words: &[&str]) -> Command {
        let mut command = Command::new(programs::nodegate());
        command.args(words).arg("--socket").arg(self.socket());
        command
    }

    /// `nodegate run … --`, to which the agent's command is added.
    pub fn run(&self, token: Option<&str>) -> Command {
        let mut command = self.nodegate(&["run"]);
        if let Some(token) = token {
            command.arg("--token-file").arg(self.token_file(token));
        }
        command.arg("--");
        command
    }

    /// A captured helper that lends its sockets.
    pub fn agent(&self, token: &str) -> Agent {
        Agent::start(self.run(Some(token))).expect("a captured agent")
    }

    /// `nodegate status --json`, its one object.
    pub fn status(&self) -> Value {
        let said = programs::said(&mut self.nodegate(&["status", "--json"]), "", Duration::from_secs(10));
        serde_json::from_str(said.ok()).expect("status is JSON")
    }

    /// One of the daemon's counters; 0 if it has none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        let counters = &status["counters"];
        assert!(counters.is_object(), "{status}");
        counters[name].as_u64().unwrap_or(0)
    }

    /// `nodegate audit …` on this daemon's log.
    pub fn audit_command(&self, words: &[&str]) -> Said {
        let mut command = Command::new(programs::nodegate());
        command.arg("audit").args(words).arg("--dir").arg(self.audit());
        programs::said(&mut command, "", Duration::from_mins(2))
    }

    /// `nodegate sessions …` on this daemon's recordings.
    pub fn sessions_command(&self, words: &[&str]) -> Said {
        let mut command = Command::new(programs::nodegate());
        command.arg("sessions").args(words).arg("--dir").arg(self.folder.join("state").join("recordings"));
        programs::said(&mut command, "", Duration::from_mins(2))
    }

    /// The recordings that these words of `sessions list` find, the newest first.
    pub fn sessions_list(&self, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = ["list", "--json", "--limit", "0"].iter().chain(words).copied().collect();
        let said = self.sessions_command(&words);
        said.ok().lines().map(|line| serde_json::from_str(line).expect("a recording is JSON")).collect()
    }

    /// The lines of one recording.
    pub fn recording(&self, session: &str) -> Vec<Value> {
        let said = self.sessions_command(&["export", session, "--format", "jsonl"]);
        said.ok().lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// Waits until so many sessions have ended, and returns the lines of each, the newest first.
    pub fn ended_recordings(&self, count: usize) -> Vec<Vec<Value>> {
        let ended = programs::wait_for("sessions to end", Duration::from_secs(20), || {
            let mut listed = self.sessions_list(&[]);
            listed.retain(|session| session["end"].is_string());
            (listed.len() >= count).then_some(listed)
        });
        let ids = ended.iter().map(|session| session["session"].as_str().expect("an id"));
        ids.map(|id| self.recording(id)).collect()
    }

    /// Every audit record that these words of `audit search` find.
    pub fn audit_search(&self, words: &[&str]) -> Vec<Value> {
        let words: Vec<&str> = ["search", "--json"].iter().chain(words).copied().collect();
        let said = self.audit_command(&words);
        said.ok().lines().map(|line| serde_json::from_str(line).expect("a record is JSON")).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            programs::end(&mut child, Signal::SIGKILL);
        }
        leftovers::remove_cgroup(&self.cgroup());
        leftovers::remove_pins(&self.pins());
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Replaces a file in one step, as careful tools do.
fn replace(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, content).expect("a fresh file");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).expect("its mode");
    fs::rename(&fresh, path).expect("to replace the file");
}
