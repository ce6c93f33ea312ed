//! What takes more than one attempt: a capture that begins late, the daemon's own port, and tables of the kernel side
//! that are full.

use std::{fs, thread, time::Duration};

use nodegate_tests::programs::wait_for;
use serde_json::Value;

use crate::{
    Way,
    attempt::Said,
    ground::{Cgroup, Ground, Place, heard},
    outage::{Outage, nothing_arrives},
    table::Table,
};

/// The heading of the table's part.
pub const HEADING: &str = "captured late, the daemon's own port, full tables";

/// What is tried, in this order.
pub const NAMES: [&str; 6] = [
    "captured_late",
    "captured_late_udp",
    "captured_late_raw",
    "captured_late_packet",
    "listener_port",
    "tables_full",
];

/// Tables that captured processes have a part in filling.
const TABLES: [&str; 4] = ["FLOWS", "DNS_NUMBERS", "DNS_WAYS", "DNS_SENDERS"];

/// Tries those that are asked for.
pub fn all(ground: &Ground, wanted: &[&str]) -> Vec<Outage> {
    let mut outages = Vec::new();
    for name in NAMES {
        if !wanted.contains(&name) {
            continue;
        }
        let (title, result) = match name {
            "captured_late" => (
                "a TCP connection that is open when its cgroup is captured (capture add)",
                captured_late(ground, "opened_before"),
            ),
            "captured_late_udp" => (
                "a UDP socket that is connected when its cgroup is captured (capture add)",
                captured_late(ground, "udp_connected_before"),
            ),
            "captured_late_raw" => (
                "a raw socket that is there when its cgroup is captured (capture add)",
                captured_late(ground, "raw_made_before"),
            ),
            "captured_late_packet" => (
                "a packet socket that is there when its cgroup is captured (capture add)",
                captured_late(ground, "packet_before"),
            ),
            "listener_port" => ("connect() straight to the daemon's listener", listener_port(ground)),
            _ => ("the kernel side's tables, filled to the last entry", tables_full(ground)),
        };
        outages.push(Outage { name, title, result });
    }
    outages
}

/// A way that opens its socket, and uses it when its cgroup has been captured meanwhile. The control does the same
/// without being captured.
fn captured_late(ground: &Ground, way: &str) -> Result<String, String> {
    let mut ends = Vec::new();
    for place in Place::ALL {
        let (said, arrived) = held(ground, way, place, |_| {});
        if said != Said::Sent || arrived.is_empty() {
            return Err(format!("{place:?}: the control does not work: {said:?}"));
        }
        let (said, arrived) = held(ground, way, place, |cgroup| cgroup.capture(&ground.daemon, "late"));
        if let Some(arrival) = arrived.first() {
            return Err(format!("{place:?}: {arrival}"));
        }
        ends.push(match said {
            Said::Refused(errno, _) => format!("ended {errno:?}"),
            Said::Sent => "sent to nobody".to_owned(),
            Said::Killed => "killed".to_owned(),
            said => return Err(format!("{place:?}: {said:?}")),
        });
    }
    ends.dedup();
    Ok(ends.join(", "))
}

/// A way in a cgroup of its own that waits, its socket open, while something is done to that cgroup.
fn held(ground: &Ground, way: &str, place: Place, meanwhile: impl FnOnce(&Cgroup)) -> (Said, Vec<String>) {
    let (cgroup, token) = (Cgroup::free(), ground.token());
    let go = ground.folder().join(&token);
    let ready = ground.folder().join(format!("{token}.ready"));
    let mut command = ground.command(&Way::plain(way), place, None, "", &token);
    let child =
        command.env("NG_HOLD", &go).env("NG_START", cgroup.procs()).spawn().expect("the way to start");
    wait_for("the way to open its socket", Duration::from_secs(10), || ready.exists().then_some(()));
    meanwhile(&cgroup);
    fs::write(&go, "").expect("to let it go on");
    let said = heard(child);
    thread::sleep(Duration::from_millis(50));
    (said, ground.arrived(&token))
}

/// A captured process that dials the listener is judged for what it dialled; one outside is nobody to the daemon.
fn listener_port(ground: &Ground) -> Result<String, String> {
    let port = ground.listener_port();
    let way = Way::plain("tcp_loopback");
    let mut ends = Vec::new();
    for cgroup in [Some(ground.cgroup()), None] {
        let token = ground.token();
        let mut command = ground.command(&way, Place::Pod, cgroup, "", &token);
        let child = command.env("NG_PORT", port.to_string()).spawn().expect("the way to start");
        let said = heard(child);
        let record = record_of(ground, &token);
        let outcome = record.as_ref().and_then(|record| record["event"]["outcome"].as_str());
        match (cgroup.is_some(), outcome) {
            (true, Some("denied")) => ends.push("captured: judged and refused"),
            (false, None) => ends.push("outside: turned away as nobody's"),
            (captured, outcome) => {
                return Err(format!("captured {captured}: {outcome:?}, the way says {said:?}"));
            }
        }
    }
    Ok(ends.join("; "))
}

/// What the daemon has recorded of the connection with this token.
fn record_of(ground: &Ground, token: &str) -> Option<Value> {
    let records = ground.daemon.audit_search(&["--kind", "connect", "--limit", "0"]);
    let is_its =
        |record: &Value| record["event"]["process"].as_str().is_some_and(|process| process.contains(token));
    records.into_iter().find(is_its)
}

fn tables_full(ground: &Ground) -> Result<String, String> {
    let pins = ground.daemon.pins();
    let layout = fs::read_dir(&pins).expect("the pins").filter_map(Result::ok).map(|entry| entry.path());
    let layout = layout.filter(|path| path.join("FLOWS").exists()).max().expect("the maps");
    let tables: Vec<Table> = TABLES.iter().map(|name| Table::open(&layout.join(name))).collect();
    let to_the_brim = || tables.iter().map(Table::fill).collect::<Vec<u64>>();
    to_the_brim();
    let full = nothing_arrives(ground);
    // Honest entries of before end meanwhile, and leave room for a few again: a connection that finds some is known
    // like any other. Filled once more, the table has none for one of these.
    let (mut known, mut filled) = (None, Vec::new());
    for _ in 0..5 {
        filled = to_the_brim();
        let attempt = ground.attempt(&Way::plain("tcp_v4"), Place::Host, Some(ground.cgroup()), "");
        known = record_of(ground, &attempt.token);
        if known.is_none() {
            break;
        }
    }
    for (table, filled) in tables.iter().zip(filled) {
        table.clear(filled);
    }
    let ends = full?;
    if let Some(record) = known {
        return Err(format!("a connection for which there is no room was taken for somebody's: {record}"));
    }
    let again = ground.attempt(&Way::plain("tcp_v4"), Place::Host, Some(ground.cgroup()), "");
    match record_of(ground, &again.token) {
        Some(_) => Ok(ends),
        None => Err(format!("afterwards nothing is captured: {}", again.verdict())),
    }
}
