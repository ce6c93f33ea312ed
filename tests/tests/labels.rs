//! Labelled cgroups: captured while the label is there, whoever made them and whenever, and not to be shaken off from
//! inside. The target counts who reaches it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    cgroups::{Cgroup, remove_label, set_label},
    daemon::{Daemon, Settings, Target as Configured},
    issuer::Issuer,
    leftovers,
    probe::{Probe, Target},
    programs::{said, wait_for},
};

struct Ground {
    daemon: Daemon,
    target: Target,
    issuer: Issuer,
}

impl Ground {
    fn new() -> Self {
        let mut ground = Self::prepared();
        ground.daemon.restart();
        ground
    }

    fn prepared() -> Self {
        let (issuer, target) = (Issuer::start(), Target::new());
        let settings = Settings::new(vec![Configured::shop("shop", target.address())]);
        Self { daemon: Daemon::prepare(&settings, &issuer), target, issuer }
    }

    /// A cgroup that this daemon looks at.
    fn cgroup(&self, name: &str) -> Cgroup {
        Cgroup::below(&self.daemon.cgroup(), name)
    }

    fn run(&self, words: &[&str]) -> String {
        said(&mut self.daemon.nodegate(words), "", Duration::from_secs(10)).ok().to_owned()
    }

    fn notes(&self, what: &str) {
        wait_for("the event to be recorded", Duration::from_secs(5), || {
            let events = self.daemon.audit_search(&["--kind", "capture"]);
            events.iter().any(|event| event.to_string().contains(what)).then_some(())
        });
    }
}

#[test]
fn a_label_captures_what_runs_already_and_its_removal_lets_it_go() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("agents.slice/agent.service");
    let mut agent = Probe::user(cgroup.command());
    assert!(agent.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), 1, "it is free before");

    cgroup.label("ci/agent");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("ci/agent"));
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 1, "captured");
    assert_eq!(ground.daemon.counter("flows_total"), 1);
    ground.notes("captured /");

    cgroup.unlabel();
    ground.daemon.wait_for_release(&cgroup.shown());
    assert!(agent.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), 2, "free again");
    ground.notes("released");
}

#[test]
fn children_inherit_however_deep_and_whenever_they_are_made() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("outer");
    cgroup.label("outer");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("outer"));
    let below = ground.cgroup("outer/middle/inner");
    let mut agent = Probe::root(below.command());
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
    assert_eq!(ground.daemon.counter("flows_total"), 2, "its first look and this one");
}

#[test]
fn labels_that_were_there_before_the_daemon_count_when_it_is_ready() {
    let mut ground = Ground::prepared();
    let cgroup = ground.cgroup("deep/down/here");
    cgroup.label("early");
    let mut agent = Probe::user(cgroup.command());
    ground.daemon.restart();
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
    assert_eq!(ground.daemon.captured(&cgroup.shown()), Some(Some("early".to_owned())));
}

#[test]
fn what_is_made_and_labelled_in_one_breath_is_not_missed() {
    let ground = Ground::new();
    let cgroups: Vec<Cgroup> = (0..100)
        .map(|number| {
            let cgroup = ground.cgroup(&format!("burst-{number}/a/b"));
            cgroup.label(&format!("burst-{number}"));
            cgroup
        })
        .collect();
    wait_for("all labels to be followed", Duration::from_secs(20), || {
        let status = ground.daemon.status();
        (status["workloads"].as_array().unwrap().len() == cgroups.len()).then_some(())
    });
    for (number, cgroup) in cgroups.iter().enumerate() {
        assert_eq!(ground.daemon.captured(&cgroup.shown()), Some(Some(format!("burst-{number}"))));
    }
}

#[test]
fn more_changes_than_the_kernel_remembers_hide_no_label() {
    let ground = Ground::new();
    let (before, noise) = (ground.cgroup("before"), ground.cgroup("noise"));
    before.label("before");
    ground.daemon.wait_for_label(&before.shown(), Some("before"));
    ground.daemon.signal(Signal::SIGSTOP);
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let child = noise.path().join("child");
    for _ in 0..limit {
        fs::create_dir(&child).unwrap();
        fs::remove_dir(&child).unwrap();
    }
    let late = ground.cgroup("late");
    late.label("late");
    before.unlabel();
    ground.daemon.signal(Signal::SIGCONT);
    ground.daemon.wait_for_label(&late.shown(), Some("late"));
    ground.daemon.wait_for_release(&before.shown());
    assert!(ground.daemon.log().contains("all are looked at again"), "{}", ground.daemon.log());
}

#[test]
fn another_label_is_another_workload_without_the_identity_of_the_one_before() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("worker");
    let _agent = Probe::user(cgroup.command());
    cgroup.label("first");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("first"));
    let id = ground.daemon.status()["workloads"][0]["cgroup"].to_string();
    let token = ground.daemon.token_file(&ground.issuer.token("agent-1"));
    ground.run(&["identity", "enrol", "--cgroup", &id, "--token-file", token.to_str().unwrap()]);
    assert!(ground.daemon.status()["workloads"][0]["identity"].is_object());

    cgroup.label("second");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("second"));
    wait_for("the identity to be dropped", Duration::from_secs(5), || {
        ground.daemon.status()["workloads"][0]["identity"].is_null().then_some(())
    });
    ground.notes("first is now second");
}

#[test]
fn a_label_that_nobody_could_read_captures_without_a_name() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("odd");
    cgroup.label("two words and \u{1b}[31m");
    ground.daemon.wait_for_label(&cgroup.shown(), None);
}

#[test]
fn a_root_agent_that_can_reach_its_label_cannot_take_it_off() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("root-agent");
    let mut agent = Probe::root(cgroup.command());
    cgroup.label("root-agent");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("root-agent"));
    // As the agent could do it: it is root and sees the tree.
    remove_label(cgroup.path()).unwrap();
    ground.notes("stays captured");
    set_label(cgroup.path(), "somebody-else").unwrap();
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
    assert_eq!(ground.daemon.captured(&cgroup.shown()), Some(Some("root-agent".to_owned())));

    remove_label(cgroup.path()).unwrap();
    drop(agent);
    fs::write(cgroup.path().join("cgroup.kill"), "1").unwrap();
    ground.daemon.wait_for_release(&cgroup.shown());
}

#[test]
fn an_agent_that_owns_its_directory_cannot_take_its_label_off() {
    let mut ground = Ground::new();
    let cgroup = ground.cgroup("delegated");
    let mut agent = Probe::user(cgroup.command());
    cgroup.label("delegated");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("delegated"));
    chown(cgroup.path(), Some(65534), Some(65534)).unwrap();
    remove_label(cgroup.path()).unwrap();
    ground.notes("stays captured");
    // Nor does a restart of the daemon free it.
    ground.daemon.kill();
    ground.daemon.restart();
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
    assert_eq!(ground.daemon.captured(&cgroup.shown()), Some(Some("delegated".to_owned())));
    let id = ground.daemon.status()["workloads"][0]["cgroup"].to_string();
    ground.run(&["capture", "remove", &id]);
    assert!(agent.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), 1, "root's command lets it go");
}

#[test]
fn an_agent_cannot_name_a_part_of_itself_otherwise() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("agent");
    let _agent = Probe::root(cgroup.command());
    cgroup.label("agent");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("agent"));
    let below = ground.cgroup("agent/trusted");
    set_label(below.path(), "trusted").unwrap();
    ground.notes("workload's own doing");
    assert_eq!(ground.daemon.captured(&below.shown()), None);
}

#[test]
fn a_label_inside_a_captured_cgroup_counts_where_only_root_can_have_set_it() {
    let ground = Ground::new();
    let (outer, inner) = (ground.cgroup("agents"), ground.cgroup("agents/one"));
    let mut agent = Probe::user(inner.command());
    outer.label("agents");
    ground.daemon.wait_for_label(&outer.shown(), Some("agents"));
    inner.label("agents/one");
    ground.daemon.wait_for_label(&inner.shown(), Some("agents/one"));
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
    inner.unlabel();
    ground.daemon.wait_for_release(&inner.shown());
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0, "the one around it still holds it");
}

#[test]
fn a_cgroup_that_is_removed_and_made_again_is_a_new_one() {
    let ground = Ground::new();
    let cgroup = ground.cgroup("again");
    cgroup.label("again");
    ground.daemon.wait_for_label(&cgroup.shown(), Some("again"));
    fs::remove_dir(cgroup.path()).unwrap();
    fs::create_dir(cgroup.path()).unwrap();
    ground.daemon.wait_for_release(&cgroup.shown());
    let mut agent = Probe::user(cgroup.command());
    assert!(agent.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), 1);
    ground.notes("is gone");
}

#[test]
fn a_captured_unit_is_found_by_the_name_that_systemd_knows() {
    let ground = Ground::new();
    let around = ground.cgroup("units");
    let folder = leftovers::folder(&leftovers::unique_name());
    let systemd = Systemd::start(&around, &folder);
    let unit = format!("{}/app.slice/agent.service", around.shown());
    let mut add = ground.daemon.nodegate(&["capture", "add", "--unit", "agent", "--label", "unit"]);
    add.env("PATH", systemd.path());
    let said = said(&mut add, "", Duration::from_secs(10));
    assert!(said.ok().contains(&unit), "{said:?}");
    assert_eq!(ground.daemon.captured(&unit), Some(Some("unit".to_owned())));

    let mut add = ground.daemon.nodegate(&["capture", "add", "--unit", "nobody.service"]);
    let refused =
        nodegate_tests::programs::said(add.env("PATH", systemd.path()), "", Duration::from_secs(10));
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("nobody.service"), "{refused:?}");
    drop(systemd);
    let _ = fs::remove_dir_all(folder);
}

/// A real service manager with one service, without a machine that was booted by it: a user's instance, in a mount
/// namespace of its own, in a cgroup of the test's own. `systemctl` on its path asks that one.
struct Systemd {
    path: String,
    child: std::process::Child,
    around: PathBuf,
    /// On a hybrid system it needs a place in its own old hierarchy as well.
    old: PathBuf,
}

impl Systemd {
    fn start(around: &Cgroup, folder: &Path) -> Self {
        let units = folder.join("config/systemd/user");
        fs::create_dir_all(&units).unwrap();
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::create_dir_all(folder.join("run")).unwrap();
        fs::write(units.join("agent.service"), "[Service]\nExecStart=/bin/sleep 600\n").unwrap();
        fs::write(units.join("only.target"), "[Unit]\nWants=agent.service\n").unwrap();
        let systemctl = folder.join("bin/systemctl");
        let here = folder.display();
        fs::write(
            &systemctl,
            format!("#!/bin/sh\nXDG_RUNTIME_DIR={here}/run exec /usr/bin/systemctl --user \"$@\"\n"),
        )
        .unwrap();
        fs::set_permissions(&systemctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let old = Path::new("/sys/fs/cgroup/systemd").join(folder.file_name().unwrap());
        let script = format!(
            "if [ -d /sys/fs/cgroup/systemd ]; then mkdir {old} && echo $$ > {old}/cgroup.procs || exit 1; fi; mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && \
             export XDG_RUNTIME_DIR={here}/run XDG_CONFIG_HOME={here}/config HOME={here} && \
             exec /lib/systemd/systemd --user --unit=only.target",
            old = old.display(),
        );
        let mut command = around.command();
        command.args(["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--mount", "sh", "-c", &script]);
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .env("SYSTEMD_LOG_TARGET", "console")
            .spawn()
            .unwrap();
        let path = format!("{here}/bin:{}", std::env::var("PATH").unwrap());
        let systemd = Self { path, child, around: around.path().to_path_buf(), old };
        wait_for("the service to run", Duration::from_secs(20), || {
            let mut active = Command::new(&systemctl);
            active.args(["is-active", "agent.service"]).stderr(Stdio::null());
            (active.output().unwrap().stdout == b"active\n").then_some(())
        });
        systemd
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        nodegate_tests::programs::end(&mut self.child, Signal::SIGKILL);
        let _ = fs::write(self.around.join("cgroup.kill"), "1");
        remove_when_empty(&self.old);
    }
}

fn remove_when_empty(directory: &Path) {
    let below = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_when_empty(&entry.path()));
    for _ in 0..100 {
        if !directory.exists() || fs::remove_dir(directory).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
