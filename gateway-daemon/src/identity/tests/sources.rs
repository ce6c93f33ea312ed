//! Tokens of real processes, in their environment and in their own view of the file system, and what is remembered
//! of a cgroup. Needs root, as the daemon does: some processes run as another user or in namespaces of their own.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use super::super::{
    Identity, IdentityError, SourceSettings,
    source::{self, Caller},
    testing::{ManualClock, NOW, P256, claims, claims_with, flow, issuer_with_file, token},
};
use crate::domain::{ids::CgroupId, principal::Principal, sensitive::Sensitive};

const VARIABLE: &str = "NODEGATE_ID_TOKEN";

/// A process that sleeps until it is dropped.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Sleeper {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap()).asleep()
    }

    /// Waits until it is `sleep` and the kernel has laid out its environment, which comes a little after exec.
    fn asleep(self) -> Self {
        let of = |name: &str| format!("/proc/{}/{name}", self.pid());
        while fs::read_link(of("exe")).unwrap().file_name() != Some("sleep".as_ref())
            || fs::read(of("environ")).unwrap().is_empty()
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        self
    }

    fn with_token(token: &str) -> Self {
        Self::spawn(Command::new("sleep").arg("600").env(VARIABLE, token))
    }

    fn plain() -> Self {
        Self::spawn(Command::new("sleep").arg("600").env_remove(VARIABLE))
    }

    /// Runs `script` as root of its own user and mount namespaces; it must end in `exec …` and have printed a line
    /// when its files are in place. Not a child's child: the pid is that of the script.
    fn in_namespaces(script: &str, arguments: &[&Path]) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        let mut child = command.args(arguments).env_remove(VARIABLE).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "unshare needs root or unprivileged user namespaces");
        Self(child).asleep()
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

struct Room {
    identity: Identity,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Room {
    fn new(sources: Vec<SourceSettings>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clock = ManualClock::new();
        let issuers = vec![issuer_with_file(dir.path())];
        let identity = Identity::with_clock(issuers, sources, Arc::<ManualClock>::clone(&clock)).unwrap();
        Self { identity, clock, _dir: dir }
    }

    async fn principal(&self, cgroup: u64, process: &Sleeper) -> Result<Arc<Principal>, IdentityError> {
        self.identity.principal_for(&flow(cgroup, process.pid())).await
    }
}

fn good_token() -> String {
    token(&P256, "ES256", "p256", &claims())
}

fn token_of(subject: &str) -> String {
    token(&P256, "ES256", "p256", &claims_with("sub", json!(subject)))
}

fn expired_token() -> String {
    token(&P256, "ES256", "p256", &claims_with("exp", json!(NOW - 60)))
}

fn environment() -> SourceSettings {
    SourceSettings::Environment { variable: VARIABLE.into() }
}

fn file(path: impl Into<PathBuf>) -> SourceSettings {
    SourceSettings::File { path: path.into() }
}

/// What the source yields for that process, without verification.
async fn read(source: &SourceSettings, process: &Sleeper) -> Result<Option<String>, IdentityError> {
    let caller = Caller::from(&flow(1, process.pid()));
    let token = source::read(source, caller, &Arc::new(Semaphore::new(1))).await?;
    Ok(token.map(|token| token.expose().clone()))
}

fn unreadable<T: std::fmt::Debug>(outcome: Result<T, IdentityError>) -> String {
    match outcome {
        Err(IdentityError::Unreadable { problem, .. }) => problem,
        other => panic!("not unreadable: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_in_the_environment_identifies_the_cgroup() {
    let room = Room::new(vec![SourceSettings::Enrolled, environment()]);
    let process = Sleeper::with_token(&good_token());
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "repo:shop");
    let other = Sleeper::plain();
    let error = room.principal(2, &other).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no identity token was found (looked at: enrolled tokens, environment variable NODEGATE_ID_TOKEN); start the \
         command with `nodegate run --token-file FILE` or provide the token where one of these sources reads it"
    );
}

#[tokio::test]
async fn the_variable_s_name_and_its_first_value_count() {
    let mut command = Command::new("sleep");
    command.arg("600").env_clear().env("PATH", "/usr/bin:/bin");
    command.env("XNODEGATE_ID_TOKEN", "x").env("NODEGATE_ID_TOKEN_2", "y").env("A", "NODEGATE_ID_TOKEN=z");
    let process = Sleeper::spawn(&mut command);
    assert_eq!(read(&environment(), &process).await, Ok(None));
    let process = Sleeper::with_token("");
    assert_eq!(read(&environment(), &process).await, Ok(None), "an empty variable is none");
    let process = Sleeper::with_token(" a.b.c=\n");
    assert_eq!(read(&environment(), &process).await, Ok(Some(" a.b.c=\n".into())));
}

#[tokio::test]
async fn a_process_that_started_after_the_connection_is_another_one() {
    let room = Room::new(vec![environment()]);
    let process = Sleeper::with_token(&good_token());
    let mut flow = flow(1, process.pid());
    flow.connected_at_boot_ns -= 60_000_000_000;
    let outcome = room.identity.principal_for(&flow).await;
    assert_eq!(outcome, Err(IdentityError::ProcessGone { pid: process.pid(), place: "environment" }));
}

#[tokio::test]
async fn a_process_that_ended_has_no_token() {
    let room = Room::new(vec![environment(), file("/etc/hostname")]);
    let mut process = Sleeper::with_token(&good_token());
    process.0.kill().unwrap();
    // Ended and not yet waited for: a zombie keeps its pid.
    let stat = format!("/proc/{}/stat", process.pid());
    while !fs::read_to_string(&stat).unwrap().contains(") Z") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let gone = Err(IdentityError::ProcessGone { pid: process.pid(), place: "environment" });
    assert_eq!(room.principal(1, &process).await, gone);
    process.0.wait().unwrap();
    assert_eq!(room.principal(2, &process).await, gone);
    let mut nobody = flow(3, 0);
    assert!(matches!(room.identity.principal_for(&nobody).await, Err(IdentityError::ProcessGone { .. })));
    nobody.pid = u32::MAX;
    assert!(matches!(room.identity.principal_for(&nobody).await, Err(IdentityError::ProcessGone { .. })));
}

#[tokio::test]
async fn a_file_is_read_in_the_process_s_own_mount_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(dir.path().join("source"), good_token()).unwrap();
    let script = r#"t=$(cat "$1/source"); mount -t tmpfs none "$1"; printf '%s\n' "$t" > "$1/token"; echo ready; exec sleep 600"#;
    let process = Sleeper::in_namespaces(script, &[dir.path()]);
    assert!(!path.exists(), "the daemon's own view has no such file");
    let room = Room::new(vec![file(&path)]);
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "repo:shop");
    let outsider = Sleeper::plain();
    assert!(matches!(room.principal(2, &outsider).await, Err(IdentityError::NoToken { .. })));
}

#[tokio::test]
async fn links_cannot_lead_out_of_the_process_s_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(outside.path().join("token"), good_token()).unwrap();
    let jail = tempfile::tempdir().unwrap();
    fs::set_permissions(jail.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let inside = |name: &str| jail.path().join(name);
    let target = outside.path().join("token");
    symlink(&target, inside("absolute")).unwrap();
    symlink(format!("../../../../../../..{}", target.display()), inside("relative")).unwrap();
    symlink(outside.path(), inside("directory")).unwrap();
    symlink("real", inside("link")).unwrap();
    symlink("/real", inside("absolute-link")).unwrap();
    symlink("loop", inside("loop")).unwrap();
    fs::write(inside("real"), good_token()).unwrap();
    let script = r#"
        mkdir "$1/usr" "$1/proc"; mount --rbind /usr "$1/usr"; mount --rbind /proc "$1/proc"
        for d in bin lib lib64; do ln -s "usr/$d" "$1/$d"; done
        echo ready; exec chroot "$1" /usr/bin/sleep 600 3<"$1/real""#;
    let process = Sleeper::in_namespaces(script, &[jail.path()]);
    let read = |path: &str| {
        let source = file(path);
        let process = &process;
        async move { read(&source, process).await }
    };
    for path in
        ["/absolute", "/relative", "/directory/token", "/../../../../real/../x", "/missing", "/real/x"]
    {
        assert_eq!(read(path).await, Ok(None), "{path}");
    }
    for path in ["/real", "/link", "/absolute-link", "/../../real"] {
        assert_eq!(read(path).await, Ok(Some(fs::read_to_string(inside("real")).unwrap())), "{path}");
    }
    assert!(unreadable(read("/loop").await).contains("links"));
    for magic in ["/proc/1/root/etc/hostname", &format!("/proc/{}/fd/3", process.pid())] {
        let problem = unreadable(read(magic).await);
        assert!(problem.contains("links") || problem.contains("ermission"), "{magic}: {problem}");
    }
    assert!(unreadable(read("/proc/version").await).contains("/proc"));
}

#[tokio::test]
async fn only_regular_files_of_a_token_s_size_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let process = Sleeper::plain();
    let at = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for path in [at("fifo"), at("socket"), dir.path().to_owned(), "/dev/zero".into(), "/dev/tty".into()] {
        let problem = unreadable(read(&file(&path), &process).await);
        assert_eq!(problem, "it is not a regular file", "{}", path.display());
    }
    fs::write(at("long"), "x".repeat(16 * 1024 + 1)).unwrap();
    assert_eq!(unreadable(read(&file(at("long")), &process).await), "it is longer than any token");
    fs::write(at("longest"), "x".repeat(16 * 1024)).unwrap();
    assert!(read(&file(at("longest")), &process).await.unwrap().is_some());
    fs::write(at("binary"), b"\xff\xfe").unwrap();
    assert!(matches!(read(&file(at("binary")), &process).await, Err(IdentityError::Malformed { .. })));
    fs::write(at("empty"), " \n").unwrap();
    assert_eq!(read(&file(at("empty")), &process).await, Ok(None));
}

#[tokio::test]
async fn a_file_that_the_process_may_not_read_is_not_read_for_it() {
    assert!(nix::unistd::geteuid().is_root(), "this test changes users and needs root, as the daemon does");
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "t").unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534"]).args(arguments).args(["sleep", "600"]);
        Sleeper::spawn(&mut command)
    };
    let (alone, in_group) = (nobody(&["--clear-groups"]), nobody(&["--groups=4242"]));
    let allow = |mode: u32, owner: u32, group: u32| {
        nix::unistd::chown(&path, Some(owner.into()), Some(group.into())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let token = Ok(Some("t".to_owned()));
    allow(0o600, 0, 0);
    assert!(unreadable(read(&file(&path), &alone).await).contains("ermission denied"));
    assert_eq!(read(&file(&path), &Sleeper::plain()).await, token, "root itself may");
    allow(0o640, 0, 4242);
    assert!(unreadable(read(&file(&path), &alone).await).contains("ermission denied"));
    assert_eq!(read(&file(&path), &in_group).await, token);
    allow(0o640, 0, 65534);
    assert_eq!(read(&file(&path), &alone).await, token);
    allow(0o400, 65534, 0);
    assert_eq!(read(&file(&path), &alone).await, token);
    allow(0o604, 0, 0);
    assert_eq!(read(&file(&path), &alone).await, token);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(unreadable(read(&file(&path), &alone).await).contains("ermission denied"), "nor a directory");
    assert!(nix::unistd::geteuid().is_root(), "the daemon itself stays what it was");
    assert_eq!(nix::unistd::setfsuid(nix::unistd::Uid::from_raw(u32::MAX)).as_raw(), 0);
}

#[tokio::test]
async fn a_read_that_never_comes_back_holds_up_no_second_thread() {
    let process = Sleeper::with_token("t");
    let (caller, busy) = (Caller::from(&flow(1, process.pid())), Arc::new(Semaphore::new(1)));
    let held = Arc::clone(&busy).try_acquire_owned().unwrap();
    let outcome = source::read(&environment(), caller, &busy).await;
    assert!(unreadable(outcome).contains("has not come back"));
    drop(held);
    for _ in 0..50 {
        assert!(source::read(&environment(), caller, &busy).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn sources_are_tried_in_order_and_the_first_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let room = Room::new(vec![SourceSettings::Enrolled, file(&path), environment()]);
    let process = Sleeper::with_token(&token_of("env"));
    fs::write(&path, token_of("file")).unwrap();
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "file");
    fs::write(&path, expired_token()).unwrap();
    assert_eq!(room.principal(2, &process).await.unwrap().subject, "env");
    let bad = Sleeper::with_token("not.a.token");
    assert!(matches!(room.principal(3, &bad).await, Err(IdentityError::Expired { .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(room.principal(4, &bad).await, Err(IdentityError::Malformed { .. })));
}

#[tokio::test]
async fn a_cgroup_is_known_until_its_token_expires_and_not_a_moment_longer() {
    let room = Room::new(vec![environment()]);
    let mut process = Sleeper::with_token(&good_token());
    let principal = room.principal(1, &process).await.unwrap();
    let flow = flow(1, process.pid());
    process.0.kill().unwrap();
    process.0.wait().unwrap();
    room.clock.advance(Duration::from_millis(599_999));
    assert!(room.identity.is_current(&principal));
    assert_eq!(room.identity.principal_for(&flow).await.unwrap(), principal);
    room.clock.advance(Duration::from_millis(1));
    assert!(!room.identity.is_current(&principal));
    assert!(matches!(room.identity.renew(&flow).await, Err(IdentityError::ProcessGone { .. })));
}

#[tokio::test]
async fn a_renewed_token_is_found_when_the_old_one_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, good_token()).unwrap();
    let room = Room::new(vec![file(&path)]);
    let process = Sleeper::plain();
    let flow = flow(1, process.pid());
    let old = room.identity.principal_for(&flow).await.unwrap();
    room.clock.advance(Duration::from_mins(10));
    // Within the leeway the old token still does, for a moment at a time.
    assert_eq!(room.identity.renew(&flow).await.unwrap(), old);
    fs::write(&path, token(&P256, "ES256", "p256", &claims_with("exp", json!(NOW + 9000)))).unwrap();
    room.clock.advance(Duration::from_secs(1));
    let new = room.identity.renew(&flow).await.unwrap();
    assert!(room.identity.is_current(&new));
    fs::write(&path, good_token()).unwrap();
    room.clock.advance(Duration::from_mins(140));
    let error = room.identity.renew(&flow).await.unwrap_err();
    assert_eq!(error.to_string(), "the identity token expired at 2027-01-15T08:10:00Z");
}

#[tokio::test]
async fn a_refusal_is_remembered_for_a_second_and_for_that_process_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let room = Room::new(vec![file(&path)]);
    let (one, two) = (Sleeper::plain(), Sleeper::plain());
    assert!(matches!(room.principal(1, &one).await, Err(IdentityError::NoToken { .. })));
    fs::write(&path, good_token()).unwrap();
    room.clock.advance(Duration::from_millis(999));
    assert!(matches!(room.principal(1, &one).await, Err(IdentityError::NoToken { .. })));
    room.clock.advance(Duration::from_millis(1));
    assert!(room.principal(1, &one).await.is_ok());
    fs::remove_file(&path).unwrap();
    assert!(matches!(room.principal(2, &one).await, Err(IdentityError::NoToken { .. })));
    fs::write(&path, good_token()).unwrap();
    assert!(room.principal(2, &two).await.is_ok());
    assert!(room.principal(2, &one).await.is_ok(), "the cgroup is known now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_connections_reads_the_token_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, good_token()).unwrap();
    let room = Room::new(vec![file(&path)]);
    let process = Sleeper::plain();
    let storm = |cgroup: u64| {
        let mut storm = JoinSet::new();
        for _ in 0..2000 {
            let (identity, flow) = (room.identity.clone(), flow(cgroup, process.pid()));
            storm.spawn(async move { identity.principal_for(&flow).await });
        }
        storm.join_all()
    };
    let answers = storm(1).await;
    let first = answers[0].clone().unwrap();
    for answer in answers {
        assert!(Arc::ptr_eq(&answer.unwrap(), &first), "one search answered all");
    }
    fs::remove_file(&path).unwrap();
    assert!(storm(2).await.iter().all(|answer| matches!(answer, Err(IdentityError::NoToken { .. }))));
}

#[tokio::test]
async fn an_enrolled_token_is_bound_to_its_cgroup_and_replaces_the_one_before() {
    let room = Room::new(vec![SourceSettings::Enrolled, environment()]);
    let process = Sleeper::with_token(&token_of("env"));
    let enrol = |cgroup: u64, token: String| room.identity.enrol(CgroupId(cgroup), Sensitive::new(token));
    assert_eq!(enrol(1, token_of("one")).await.unwrap().subject, "one");
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "one");
    assert_eq!(room.principal(2, &process).await.unwrap().subject, "env", "another cgroup's is not used");
    enrol(1, token_of("two")).await.unwrap();
    enrol(2, token_of("two")).await.unwrap();
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "two");
    assert_eq!(room.principal(2, &process).await.unwrap().subject, "two");
    assert!(matches!(enrol(1, expired_token()).await, Err(IdentityError::Expired { .. })));
    assert_eq!(
        room.principal(1, &process).await.unwrap().subject,
        "two",
        "a refused enrolment changes nothing"
    );
    room.identity.forget(CgroupId(1));
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "env");
}

#[tokio::test]
async fn an_expired_enrolment_is_named_as_the_reason() {
    let room = Room::new(vec![SourceSettings::Enrolled, environment()]);
    let process = Sleeper::plain();
    room.identity.enrol(CgroupId(1), Sensitive::new(good_token())).await.unwrap();
    room.clock.advance(Duration::from_secs(629));
    assert!(room.principal(1, &process).await.is_ok(), "within the leeway");
    room.clock.advance(Duration::from_secs(1));
    assert!(matches!(room.principal(1, &process).await, Err(IdentityError::Expired { .. })));
    let fresh = token(&P256, "ES256", "p256", &claims_with("exp", json!(NOW + 9000)));
    room.identity.enrol(CgroupId(1), Sensitive::new(fresh)).await.unwrap();
    assert!(room.principal(1, &process).await.is_ok(), "the refusal before is forgotten");
}

#[tokio::test]
async fn an_enrolment_does_not_jump_the_order_of_sources() {
    let room = Room::new(vec![environment(), SourceSettings::Enrolled]);
    let (process, without) = (Sleeper::with_token(&token_of("env")), Sleeper::plain());
    room.identity.enrol(CgroupId(1), Sensitive::new(token_of("enrolled"))).await.unwrap();
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "env");
    room.identity.enrol(CgroupId(1), Sensitive::new(token_of("enrolled"))).await.unwrap();
    assert_eq!(room.principal(1, &process).await.unwrap().subject, "env");
    room.identity.enrol(CgroupId(2), Sensitive::new(token_of("enrolled"))).await.unwrap();
    assert_eq!(room.principal(2, &without).await.unwrap().subject, "enrolled");
    let disabled = Room::new(vec![environment()]);
    let outcome = disabled.identity.enrol(CgroupId(1), Sensitive::new(good_token())).await;
    assert_eq!(outcome, Err(IdentityError::EnrolmentDisabled));
}

#[tokio::test]
async fn cgroups_that_are_never_forgotten_leave_nothing_behind() {
    let room = Room::new(vec![SourceSettings::Enrolled]);
    let process = Sleeper::plain();
    room.identity.enrol(CgroupId(0), Sensitive::new(good_token())).await.unwrap();
    for cgroup in 1..5000 {
        assert!(room.principal(cgroup, &process).await.is_err());
        room.clock.advance(Duration::from_millis(20));
    }
    assert!(room.identity.known_cgroups() < 2100, "{}", room.identity.known_cgroups());
    assert!(room.principal(0, &process).await.is_ok(), "an identity is not swept away");
}

#[tokio::test]
async fn no_source_is_no_identity() {
    let room = Room::new(vec![]);
    let process = Sleeper::with_token(&good_token());
    let error = room.principal(1, &process).await.unwrap_err();
    assert!(error.to_string().contains("no source is configured"), "{error}");
}
