//! Bulk transfer by iperf3: direct, through a target that goes direct in the kernel, and through one that is relayed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must say so and stop"
)]

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    daemon::{Daemon, Settings},
    issuer::Issuer,
    postgres::{answers, free_port},
    programs::{self, said, wait_for},
};

const POLICY: &str = r#"
@id("agents-move-bytes")
permit (principal in Group::"agents", action == Action::"connect", resource);
"#;

/// An iperf3 server; ended on drop.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let port = free_port();
        let mut command = programs::bound("iperf3".as_ref());
        command.args(["--server", "--bind", "127.0.0.1", "--port", &port.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("iperf3 to start");
        wait_for("iperf3", Duration::from_secs(10), || {
            answers(SocketAddr::from(([127, 0, 0, 1], port))).then_some(())
        });
        Self { child, port }
    }

    /// Gigabits a second of a client that `wrapper` starts.
    fn rate(&self, wrapper: Option<Command>, seconds: u32) -> f64 {
        let mut command = match wrapper {
            Some(mut wrapper) => {
                wrapper.arg("iperf3");
                wrapper
            }
            None => Command::new("iperf3"),
        };
        command.args(["--client", "127.0.0.1", "--port", &self.port.to_string(), "--json"]);
        command.args(["--time", &seconds.to_string()]);
        let told = said(&mut command, "", Duration::from_secs(u64::from(seconds) + 30));
        let report: Value = serde_json::from_str(told.ok()).expect("a report");
        report["end"]["sum_received"]["bits_per_second"].as_f64().expect("a rate") / 1e9
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        programs::end(&mut self.child, Signal::SIGKILL);
    }
}

/// Measures and prints: medians of so many rounds, each of so many seconds a way.
pub fn print(rounds: usize, seconds: u32) {
    let server = Server::start();
    let relayed = Server::start();
    let mut settings = Settings::new(Vec::new());
    POLICY.clone_into(&mut settings.policy);
    for (name, inspect, port) in [("direct", "none", server.port), ("relayed", "relay", relayed.port)] {
        settings.more_targets.push(format!(
            "{{ name: {name}, protocol: tcp, inspect: {inspect}, hosts: [\"127.0.0.1\"], ports: [{port}] }}"
        ));
    }
    let issuer = Issuer::start();
    let daemon = Daemon::start(&settings, &issuer);
    let run = || Some(daemon.run(Some(&issuer.token("bench"))));
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        rates[0].push(server.rate(None, seconds));
        rates[1].push(server.rate(run(), seconds));
        rates[2].push(relayed.rate(run(), seconds));
    }
    let [plain, direct, relayed] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("bulk transfer (iperf3), Gbit/s       median   ratio");
    println!("  not captured                    {plain:>9.1}");
    println!("  captured, inspect: none         {direct:>9.1} {:>7.2}   (aim: 1)", direct / plain);
    println!("  captured, inspect: relay        {relayed:>9.1} {:>7.2}", relayed / plain);
    println!("  connections that went direct    {:>9}", daemon.counter("direct_total"));
}
