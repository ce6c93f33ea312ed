//! The rights that the DaemonSet gives the daemon: these are enough, and none of them can be left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    time::Duration,
};

use nodegate_tests::{
    daemon::{Daemon, Settings},
    issuer::Issuer,
    leftovers,
    netns::Netns,
    programs::{self, said},
};

const POLICY: &str = r#"
@id("agents-connect")
permit (principal in Group::"agents", action == Action::"connect", resource);
"#;

/// A user that is not root, as agents mostly are.
const AGENT: u32 = 65_534;

/// The capabilities in the chart's DaemonSet.
fn of_the_chart() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let chart = fs::read_to_string(root.join("deploy/helm/nodegate/templates/daemonset.yaml")).unwrap();
    let line = chart.lines().find_map(|line| line.trim().strip_prefix("add: [")).expect("the capabilities");
    line.trim_end_matches(']').split(", ").map(str::to_lowercase).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// What starts a program with these capabilities and no others.
fn with_capabilities(capabilities: &[String]) -> Vec<String> {
    let bounding = format!("--bounding-set=-all,+{}", capabilities.join(",+"));
    words(&["setpriv", &bounding, "--inh-caps=-all", "--no-new-privs", "--"])
}

/// Those of the chart without one.
fn without(left_out: &str) -> Vec<String> {
    let fewer: Vec<String> = of_the_chart().into_iter().filter(|name| name != left_out).collect();
    assert_eq!(fewer.len() + 1, of_the_chart().len(), "{left_out} is none of them");
    fewer
}

/// Whether a daemon with these capabilities captures, identifies and admits an agent of another user in a network
/// namespace of its own, whose token only that user may read.
fn works(capabilities: &[String]) -> bool {
    let folder = leftovers::folder(&leftovers::unique_name());
    let netns = Netns::new();
    let issuer = Issuer::start();
    let token = folder.join("token");
    fs::write(&token, issuer.token("agent-1")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&token, Some(AGENT), Some(AGENT)).unwrap();
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    settings.sources = vec![format!("{{ kind: file, path: \"{}\" }}", token.display())];
    settings.more_targets.push("{ name: any, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [7] }".to_owned());
    settings.wrapper = with_capabilities(capabilities);
    let worked = catch_unwind(AssertUnwindSafe(|| {
        let mut daemon = Daemon::prepare(&settings, &issuer);
        // Where pods are, their cgroups are: making one below the root, which nobody may write, is not asked for.
        let name = daemon.folder().file_name().unwrap();
        fs::create_dir_all(leftovers::cgroup_mount().join(name)).unwrap();
        daemon.restart();
        let mut run = daemon.run(None);
        run.arg("nsenter").arg(format!("--net=/run/netns/{}", netns.name()));
        run.args(["setpriv", &format!("--reuid={AGENT}"), &format!("--regid={AGENT}"), "--clear-groups"]);
        // The first connection in a namespace may be refused while the daemon begins to listen there.
        let once = "(exec 3<>/dev/tcp/127.0.0.1/7 && echo hello >&3 && head -c 1 <&3)";
        run.args(["bash", "-c", &format!("for try in 1 2 3 4 5 6 7 8; do {once}; sleep 0.1; done")]);
        let seen = said(&mut run, "", Duration::from_secs(20));
        let admitted = daemon.audit_search(&["--kind", "connect", "--outcome", "allowed", "--target", "any"]);
        assert!(!admitted.is_empty(), "{seen:?} {:?}", daemon.audit_search(&[]));
    }));
    fs::remove_dir_all(&folder).unwrap();
    worked.is_ok()
}

#[test]
fn the_capabilities_of_the_daemonset_are_enough_and_none_can_be_left_out() {
    let all = of_the_chart();
    assert!(works(&all), "{all:?} are not enough");
    for left_out in &all {
        assert!(!works(&without(left_out)), "{left_out} is not needed");
    }
}

#[test]
fn a_daemon_that_lacks_a_vital_capability_names_it_and_does_not_start() {
    let mut settings = Settings::new(Vec::new());
    settings.more_targets.push("{ name: any, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [7] }".to_owned());
    let daemon = Daemon::prepare(&settings, &Issuer::start());
    let run = |capabilities: &[String], words: &[&str]| {
        let wrapper = with_capabilities(capabilities);
        let mut command = Command::new(&wrapper[0]);
        said(command.args(&wrapper[1..]).arg(programs::nodegate()).args(words), "", Duration::from_secs(20))
    };
    for name in ["NET_ADMIN", "SYS_ADMIN"] {
        let fewer = without(&name.to_lowercase());
        let refused = run(&fewer, &["daemon", "--config", daemon.config().to_str().unwrap()]);
        assert_eq!(refused.status, 1, "{refused:?}");
        let expected = format!("this process has no CAP_{name}, without which nothing is captured");
        assert!(refused.err.contains(&expected), "{}", refused.err);
        let doctor = run(&fewer, &["doctor"]);
        assert_eq!(doctor.status, 1);
        assert!(doctor.out.contains(&format!("without CAP_{name}")), "{}", doctor.out);
    }
    // One of the things that it is for, by itself.
    let doctor = run(&without("net_admin"), &["doctor"]);
    assert!(doctor.out.contains("not allowed: CAP_NET_ADMIN is missing"), "{}", doctor.out);
}

#[test]
fn a_daemon_in_a_cgroup_namespace_of_its_own_knows_who_is_where() {
    let own = leftovers::cgroup_mount().join(leftovers::unique_name());
    fs::create_dir(&own).unwrap();
    let issuer = Issuer::start();
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    settings.more_targets.push("{ name: any, protocol: tcp, hosts: [\"127.0.0.1\"], ports: [7] }".to_owned());
    let script = format!("echo $$ > {}/cgroup.procs && exec unshare --cgroup \"$@\"", own.display());
    settings.wrapper = words(&["sh", "-c", &script, "sh"]);
    let daemon = Daemon::start(&settings, &issuer);
    // It finds the cgroup of its callers, of a process that is named to it, and its own.
    let mut run = daemon.run(Some(&issuer.token("agent-1")));
    let mut whoami = vec![nodegate_tests::programs::nodegate().display().to_string()];
    whoami.extend(words(&["identity", "show", "--socket", &daemon.socket().display().to_string()]));
    let seen = said(run.args(&whoami), "", Duration::from_secs(20));
    assert!(seen.ok().contains("agent-1"), "{seen:?}");
    let mut add = daemon.nodegate(&["capture", "add", "--pid", &daemon.pid().to_string()]);
    let refused = said(&mut add, "", Duration::from_secs(20));
    assert!(refused.err.contains("daemon itself"), "{refused:?}");
    drop(daemon);
    leftovers::remove_cgroup(&own);
}
