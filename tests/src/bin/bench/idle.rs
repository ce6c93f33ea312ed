//! What two hundred captured cgroups cost that do nothing.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;
use nodegate_tests::{
    daemon::{Daemon, Settings},
    issuer::Issuer,
    postgres::free_port,
    programs::{self, cpu_seconds, resident_kib, wait_for},
};

const CGROUPS: usize = 200;
/// So many are started together.
const AT_ONCE: usize = 20;
/// What capturing them brought about is over by then.
const SETTLING: Duration = Duration::from_secs(10);

const POLICY: &str = r#"
@id("agents-connect")
permit (principal in Group::"agents", action == Action::"connect", resource);
"#;

/// A `nodegate run` that sleeps.
struct Sleeper(Child);

impl Sleeper {
    fn start(mut run: Command) -> Self {
        run.args(["sleep", "infinity"]).stdin(Stdio::null()).stdout(Stdio::null());
        Self(run.spawn().expect("nodegate run to start"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        programs::end(&mut self.0, Signal::SIGTERM);
    }
}

/// Measures so many seconds of nothing, and prints what they cost: without and with a target that goes direct, which the
/// kernel has to be told of again and again, for each cgroup with an identity.
pub fn print(seconds: u32) {
    println!("\n{CGROUPS} captured cgroups, idle {seconds} s     CPU   memory");
    measure("relayed targets", "relay", seconds);
    measure("inspect: none", "none", seconds);
    println!("  (aim: CPU under 0.1 % of a core, a mebibyte for 20 cgroups)");
}

fn measure(name: &str, inspect: &str, seconds: u32) {
    let issuer = Issuer::start();
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    settings.more_targets.push(format!(
        "{{ name: cache, protocol: tcp, inspect: {inspect}, hosts: [\"{}\"], ports: [{}] }}",
        nowhere.ip(),
        nowhere.port()
    ));
    let daemon = Daemon::start(&settings, &issuer);
    let token = issuer.token("bench");
    // What the first one brings along is the daemon's, not that of any one cgroup.
    let mut sleepers = vec![Sleeper::start(daemon.run(Some(&token)))];
    await_captured(&daemon, 1);
    let before = resident_kib(daemon.pid());
    // The daemon serves a user only so many commands at once.
    while sleepers.len() <= CGROUPS {
        sleepers.extend((0..AT_ONCE).map(|_| Sleeper::start(daemon.run(Some(&token)))));
        await_captured(&daemon, sleepers.len());
    }
    thread::sleep(SETTLING);
    let memory = resident_kib(daemon.pid()).saturating_sub(before) as f64 / 1024.0;
    let used = cpu_seconds(daemon.pid());
    thread::sleep(Duration::from_secs(u64::from(seconds)));
    let share = (cpu_seconds(daemon.pid()) - used) / f64::from(seconds) * 100.0;
    println!("  {name:<28} {share:>6.3} % {memory:>5.1} MiB");
    drop(sleepers);
}

fn await_captured(daemon: &Daemon, count: usize) {
    wait_for("the cgroups to be captured", Duration::from_mins(1), || {
        (daemon.status()["workloads"].as_array()?.len() == count).then_some(())
    });
}
