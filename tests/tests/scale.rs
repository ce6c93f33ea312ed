//! Two hundred captured cgroups, each in a network namespace of its own: what they cost, and that their flows do not
//! mix though all of them use one address and port.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    cgroups::Cgroup,
    daemon::{Daemon, Settings, Target as Configured},
    issuer::Issuer,
    probe::Target,
    programs::{cpu_seconds, descriptors, end, resident_kib, wait_for},
};

const CGROUPS: usize = 200;
/// A listener, and a socket for questions to the DNS.
const DESCRIPTORS_EACH: usize = 2;
/// A megabyte for twenty.
const KIB_EACH: u64 = 1024 / 20;

/// A server on one address and port of the namespace, and a client that asks it who it is.
const SCRIPT: &str = "ip link set lo up; busybox nc -ll -p 5433 -e /bin/sh -c \"read _; echo $0\" & \
    while read _; do exec 3<>/dev/tcp/127.0.0.1/5433 && echo who >&3 && read -t 10 answer <&3; exec 3>&-; \
    echo \"$answer\"; answer=none; done";

struct Tenant {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    cgroup: Cgroup,
}

impl Tenant {
    fn new(daemon: &Daemon, number: usize) -> Self {
        let cgroup = Cgroup::below(&daemon.cgroup(), &format!("tenant-{number}"));
        let mut command = cgroup.command();
        command.args(["unshare", "--net", "bash", "-c", SCRIPT]).arg(number.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, orders, answers, cgroup }
    }

    /// Connects to the one address, and says who answered.
    fn ask(&mut self) -> String {
        writeln!(self.orders, "go").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        end(&mut self.child, Signal::SIGKILL);
    }
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

#[test]
fn two_hundred_captured_namespaces_cost_a_pair_of_sockets_each_and_no_thread_and_do_not_mix() {
    let (issuer, target) = (Issuer::start(), Target::new());
    let mut settings = Settings::new(vec![Configured::shop("shop", target.address())]);
    "observe".clone_into(&mut settings.mode);
    let daemon = Daemon::start(&settings, &issuer);
    let mut tenants: Vec<Tenant> = (0..CGROUPS).map(|number| Tenant::new(&daemon, number)).collect();
    // Every one of them answers before any is captured: no namespace is still being made.
    for (number, tenant) in tenants.iter_mut().enumerate() {
        wait_for("the server of a namespace", Duration::from_secs(20), || {
            (tenant.ask() == number.to_string()).then_some(())
        });
    }
    let before = (descriptors(daemon.pid()), threads(daemon.pid()), resident_kib(daemon.pid()));
    for (number, tenant) in tenants.iter().enumerate() {
        tenant.cgroup.label(&format!("tenant-{number}"));
    }
    wait_for("all to be captured", Duration::from_mins(1), || {
        (daemon.status()["workloads"].as_array().unwrap().len() == CGROUPS).then_some(())
    });
    let idle = (descriptors(daemon.pid()), threads(daemon.pid()), resident_kib(daemon.pid()));
    assert!(idle.0 <= before.0 + CGROUPS * DESCRIPTORS_EACH + 8, "{before:?} {idle:?}");
    // Some come and go for work that blocks, whatever is captured.
    assert!(idle.1 <= before.1 + 8, "{before:?} {idle:?}");
    assert!(idle.2 <= before.2 + u64::try_from(CGROUPS).unwrap() * KIB_EACH, "{before:?} {idle:?}");
    // What capturing them brought about is over by then.
    std::thread::sleep(Duration::from_secs(3));
    let busy = cpu_seconds(daemon.pid());
    std::thread::sleep(Duration::from_secs(10));
    let busy = cpu_seconds(daemon.pid()) - busy;
    println!(
        "{CGROUPS} idle: {} descriptors, {} threads, {} KiB more than before; {busy:.2} s of a core in 10 s",
        idle.0 - before.0,
        idle.1.saturating_sub(before.1),
        idle.2.saturating_sub(before.2),
    );

    for _ in 0..2 {
        for tenant in &mut tenants {
            writeln!(tenant.orders, "go").unwrap();
        }
        for (number, tenant) in tenants.iter_mut().enumerate() {
            let mut line = String::new();
            tenant.answers.read_line(&mut line).unwrap();
            assert_eq!(line.trim_end(), number.to_string(), "another namespace answered");
        }
    }
    assert_eq!(daemon.counter("flows_total"), 2 * u64::try_from(CGROUPS).unwrap());

    drop(tenants);
    wait_for("everything to be closed again", Duration::from_mins(1), || {
        (descriptors(daemon.pid()) <= before.0 + 8).then_some(())
    });
    wait_for("the last workload to be forgotten", Duration::from_mins(1), || {
        daemon.status()["workloads"].as_array().unwrap().is_empty().then_some(())
    });
}
