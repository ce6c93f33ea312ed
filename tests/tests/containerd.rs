//! Pods whose containers a real containerd starts, from an image, by its shim and runc, in the cgroups that a kubelet
//! makes: captured before they exist, and known for the pod's whichever container they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use nodegate_tests::{
    containerd::{Container, Containerd, shims},
    daemon::Settings,
    kubernetes::{ApiServer, Pod},
    leftovers,
    netns::Netns,
    node::{Form, NODE, Node, eager},
    probe::Target,
    programs::{said, wait_for},
};
use serde_json::json;

/// Where a pod finds its token, and nobody else.
const SECRETS: &str = "/var/run/secrets/nodegate";
const PAUSE: [&str; 3] = ["/bin/busybox", "sleep", "600"];

/// Both of the kubelet's drivers, each with what containerd calls a container's cgroup under it.
fn forms(id: &str) -> [(Form, String); 2] {
    [(Form::Burstable, id.to_owned()), (Form::Systemd, format!("cri-containerd-{id}.scope"))]
}

/// As long as containerd's for pods.
fn id(digit: char) -> String {
    let own = leftovers::unique_name().replace(|c: char| !c.is_ascii_hexdigit(), "");
    format!("{own:0>16}{}", digit.to_string().repeat(48))
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// A node whose target only passes bytes on, to pods that show a token.
fn node() -> Node {
    let target = Target::new();
    let mut settings = Settings::new(Vec::new());
    settings.sources = vec![format!("{{ kind: file, path: {SECRETS}/token }}")];
    settings.more_targets = vec![format!(
        "{{ name: echo, protocol: tcp, hosts: [\"{}\"], ports: [{}], upstream_from: node }}",
        target.address().ip(),
        target.address().port()
    )];
    let mut node = Node::with(ApiServer::start(), "hold", target, settings);
    node.daemon.restart();
    node
}

/// A directory with a token in it that the pod's containers are given.
fn secret(node: &Node) -> PathBuf {
    let folder = node.daemon.folder().join(leftovers::unique_name());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("token"), node.issuer.token("agent-1")).unwrap();
    folder
}

#[test]
fn a_pod_is_armed_before_its_containers_exist_and_each_is_captured_from_its_first_instruction() {
    for number in 0..2 {
        let (node, containerd, netns) = (node(), Containerd::start(), Netns::new());
        let (form, sandbox) = forms(&id('a'))[number].clone();
        let (_, agent) = forms(&id('b'))[number].clone();
        let pod = Pod::captured("runner", NODE);
        let place = node.place(&pod, form);

        // The kubelet makes the pod's cgroup, and nothing is in it while it is armed.
        let kubelet = node.cgroup(&pod, form);
        node.api.put(&pod);
        node.daemon.wait_for_label(&place, Some("ci/runner/agent"));
        let inside = fs::read_dir(kubelet.path()).unwrap().filter_map(Result::ok);
        assert_eq!(inside.filter(|entry| entry.path().is_dir()).count(), 0, "no container is there yet");

        let path = PathBuf::from(format!("/run/netns/{}", netns.name()));
        let pause = Container::new("pause", &format!("{place}/{sandbox}")).in_network(&path);
        containerd.begin(&pause, &PAUSE);
        // What containerd calls the sandbox's process lies in the cgroup that it has made below the pod's.
        let process = containerd.process("pause");
        let lies = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
        let own = format!("0::{place}/{sandbox}");
        assert!(lies.lines().any(|line| line == own), "{own} is not among\n{lies}");
        wait_for("a listener in the pod's namespace", Duration::from_secs(10), || {
            let mut listening = netns.command(Path::new("ss"));
            said(listening.args(["-Hltn"]), "", Duration::from_secs(5)).out.contains("%lo:").then_some(())
        });

        // A container without the token is nobody's, and captured all the same.
        let eager = eager(node.target.address());
        let nobody = Container::new("nobody", &format!("{place}/{}", forms(&id('c'))[number].1));
        let run = containerd.run(&nobody.in_network(&path), &words(&eager));
        assert_eq!(node.daemon.counter("flows_total"), 5, "every one of them came to the daemon: {run:?}");
        assert_eq!(node.target.reached(), 0, "{form:?}: {run:?}");

        let agent = Container::new("agent", &format!("{place}/{agent}"))
            .in_network(&path)
            .with(&secret(&node), SECRETS);
        let run = containerd.run(&agent, &words(&eager));
        assert_eq!(run.out.trim(), "5", "{form:?}: {run:?}");
        assert_eq!(node.daemon.counter("flows_total"), 10);
        assert_eq!(node.daemon.counter("kernel_refusals_total"), 0);
        assert_eq!(node.target.reached(), 5, "and these went on to the target, by their identity");

        let records = node.daemon.audit_search(&["--kind", "connect", "--outcome", "allowed"]);
        assert_eq!(records.len(), 5, "{records:?}");
        let pods = fs::metadata(kubelet.path()).unwrap().ino();
        for record in &records {
            let event = &record["event"];
            assert_eq!(
                event["cgroup"],
                json!(pods),
                "the pod's cgroup, whichever container's it was: {event}"
            );
            assert_eq!(event["target"], "echo");
            assert!(event["identity"].as_str().unwrap().ends_with("|agent-1"), "{event}");
        }
    }
}

#[test]
fn a_container_that_is_quicker_than_the_daemon_has_no_way_out_and_one_without_the_label_passes() {
    let (node, containerd) = (Node::new(), Containerd::start());
    let eager = eager(node.target.address());
    for (form, name) in forms(&id('d')) {
        let pod = Pod::captured(&format!("{form:?}").to_lowercase(), NODE);
        node.api.put(&pod);
        // The runtime makes the pod's cgroup and the container's at one go: nobody waits for the daemon.
        let place = node.place(&pod, form);
        let run = containerd.run(&Container::new("quick", &format!("{place}/{name}")), &words(&eager));
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(node.target.reached(), 0, "{form:?}: {run:?}");
        node.daemon.wait_for_label(&place, Some(&format!("ci/{}/agent", pod.name)));
    }
    for (form, name) in forms(&id('e')) {
        let pod = Pod::free("plain", NODE);
        node.api.put(&pod);
        node.heard();
        let before = node.target.reached();
        let kubelet = node.cgroup(&pod, form);
        // The kubelet makes the pod's cgroup some time before its first container.
        std::thread::sleep(Duration::from_millis(100));
        let place = node.place(&pod, form);
        let run = containerd.run(&Container::new("plain", &format!("{place}/{name}")), &words(&eager));
        assert_eq!(run.out.trim(), "5", "the way is open for it, {form:?}: {run:?}");
        assert_eq!(node.target.reached(), before + 5);
        assert_eq!(node.daemon.captured(&kubelet.shown()), None);
    }
}

#[test]
fn nothing_of_a_containerd_is_left_after_a_test_that_failed_in_the_middle() {
    let mut seen = None;
    let cgroup = leftovers::unique_name();
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let containerd = Containerd::start();
        containerd.begin(&Container::new("left", &format!("/{cgroup}/kubepods/left")), &PAUSE);
        let running = shims(containerd.folder());
        assert_eq!(running.len(), 1);
        seen = Some((containerd.folder().to_path_buf(), containerd.process("left"), running));
        panic!("as a test does that fails");
    }));
    assert!(failed.is_err());
    let (folder, process, running) = seen.expect("a container was running");
    wait_for("the container to be gone", Duration::from_secs(10), || {
        (!Path::new(&format!("/proc/{process}")).exists()).then_some(())
    });
    assert!(shims(&folder).is_empty() && !folder.exists());
    for (_, socket) in running {
        assert!(!socket.exists(), "{}", socket.display());
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
    leftovers::remove_cgroup(&leftovers::cgroup_mount().join(cgroup));
}
