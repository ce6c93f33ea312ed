//! What the guard keeps from who holds privileges, call by call, and what it leaves alone. Whole ways out are the
//! conformance suite's.

use nix::errno::Errno;

use super::{
    agent::Agent,
    bench::{Ground, error},
    guard::is_guarded,
};
use crate::intercept::RefusalReason;

/// Orders that are refused, as the kernel would have answered otherwise: with an error of another kind, since none is
/// complete.
const REROUTING: &[&str] = &[
    // iptables, its counters, arptables, ebtables, IP virtual servers; ip6tables.
    "option 0 64",
    "option 0 65",
    "option 0 96",
    "option 0 128",
    "option 0 1153",
    "option 41 64",
    // SIOCADDRT, SIOCDELRT, SIOCSIFADDR, SIOCSIFNETMASK, SIOCDIFADDR, TUNSETIFF.
    "command 35083",
    "command 35084",
    "command 35094",
    "command 35100",
    "command 35126",
    "command 1074025674",
    // New and deleted routes, rules, queues, filters, actions, chains, next hops.
    "netlink 0 24",
    "netlink 0 25",
    "netlink 0 32",
    "netlink 0 36",
    "netlink 0 44",
    "netlink 0 48",
    "netlink 0 100",
    "netlink 0 104",
    // An address of the loopback device deleted.
    "netlink 0 21",
    // Behind something harmless.
    "netlink 0 22 24",
    // A generic family, whichever it is.
    "netlink 16 30",
];

/// Programs of a kind that changes connections, sees everything, or replaces parts of the kernel; attached to
/// connections, to a device, in place of another; maps and links of others; tokens.
const PROGRAMMING: &[&str] = &[
    "bpf 5 18",
    "bpf 5 2",
    "bpf 5 29",
    "bpf 5 27",
    "bpf 8 0 0 10",
    "bpf 9 0 0 10",
    "bpf 28 0 0 46",
    "bpf 7",
    "bpf 14",
    "bpf 17",
    "bpf 29",
    "bpf 30",
    "bpf 34",
    "bpf 36",
];

/// What goes on as before.
const HARMLESS: &[&str] = &[
    "option 0 2",
    "option 41 66",
    // SIOCGIFFLAGS.
    "command 35091",
    // Links, addresses, routes and rules asked for; a device set up; an address added; who is there.
    "netlink 0 18",
    "netlink 0 22",
    "netlink 0 26",
    "netlink 0 34",
    "netlink 0 16",
    "netlink 0 20",
    "netlink 16 16",
    // A program that keeps devices from a cgroup, attached and detached; what there is; a map of one's own.
    "bpf 5 15",
    "bpf 8 0 0 6",
    "bpf 9 0 0 6",
    "bpf 16",
    "bpf 11",
    "bpf 0",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lead_connections_elsewhere_is_refused_and_everything_else_is_as_it_was() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let mut agent = Agent::start(None);
    let answers = |agent: &mut Agent, orders: &[&'static str]| -> Vec<(&'static str, String)> {
        orders.iter().map(|order| (*order, agent.ask(order))).collect()
    };
    let before: Vec<_> =
        [REROUTING, PROGRAMMING, HARMLESS].map(|orders| answers(&mut agent, orders)).into_iter().collect();
    let refusal = error(Errno::EPERM);
    for (order, answer) in before.iter().flatten() {
        // Some kernels refuse programs of their own accord, and run no guard then.
        assert_ne!(*answer, error(Errno::EAGAIN), "the kernel took no notice of {order}");
        assert!(*answer != refusal || !is_guarded(), "the control of {order}");
    }
    capture.intercept.start_run(agent.pid(), None).await.unwrap();
    for (orders, reason) in [(REROUTING, RefusalReason::Rerouting), (PROGRAMMING, RefusalReason::Programming)]
    {
        for (order, before) in before.iter().flatten().filter(|(order, _)| orders.contains(order)) {
            let answer = agent.ask(order);
            if is_guarded() {
                assert_eq!(answer, refusal, "{order}");
                assert_eq!(capture.refusal().await.reason, reason, "{order}");
            } else {
                assert_eq!(answer, *before, "{order}");
            }
        }
    }
    for (order, before) in before.iter().flatten().filter(|(order, _)| HARMLESS.contains(order)) {
        assert_eq!(agent.ask(order), *before, "{order}");
    }
}
