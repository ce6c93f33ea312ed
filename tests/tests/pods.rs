//! Pods: real containers under a kubelet's cgroup names, an API server that lists and watches, and a target that
//! counts who reaches it. A pod that asks for capture has no way out from its first instruction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{path::Path, time::Duration};

use nodegate_tests::{
    cgroups::Cgroup,
    containers::Bundle,
    kubernetes::{ApiServer, Pod},
    netns::Netns,
    node::{Form, NODE, Node as Ground, eager},
    probe::Probe,
    programs::{said, wait_for},
};

/// A container's own cgroup inside a pod's, as runtimes call it.
fn names() -> [(Form, &'static str); 4] {
    [
        (Form::Guaranteed, "4f1c"),
        (Form::Burstable, "crio-4f1c"),
        (Form::Systemd, "cri-containerd-4f1c.scope"),
        (Form::SystemdBestEffort, "crio-4f1c.scope"),
    ]
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn a_labelled_pod_is_captured_from_its_first_instruction_under_every_driver_and_runtime() {
    let ground = Ground::new();
    let bundle = Bundle::new();
    let eager = eager(ground.target.address());
    for (number, (form, container)) in names().into_iter().enumerate() {
        let pod = Pod::captured(&format!("runner-{number}"), NODE);
        ground.api.put(&pod);
        // The runtime makes the pod's cgroup and the container's at one go: nobody waits for the daemon.
        let place = ground.place(&pod, form);
        let run = bundle.container(&format!("{place}/{container}"), None, &words(&eager)).run();
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(ground.target.reached(), 0, "{form:?}: {run:?}");
        ground.daemon.wait_for_label(&place, Some(&format!("ci/runner-{number}/agent")));
    }
}

#[test]
fn an_unlabelled_pod_passes_and_the_way_is_open_for_it() {
    let ground = Ground::new();
    let bundle = Bundle::new();
    let eager = eager(ground.target.address());
    for (form, container) in names() {
        let pod = Pod::free("plain", NODE);
        ground.api.put(&pod);
        ground.heard();
        let before = ground.target.reached();
        let kubelet = ground.cgroup(&pod, form);
        // The kubelet makes the pod's cgroup some time before its first container.
        std::thread::sleep(Duration::from_millis(100));
        let place = ground.place(&pod, form);
        let run = bundle.container(&format!("{place}/{container}"), None, &words(&eager)).run();
        assert_eq!(run.out.trim(), "5", "{form:?}: {run:?}");
        assert_eq!(ground.target.reached(), before + 5);
        assert_eq!(ground.daemon.captured(&kubelet.shown()), None);
    }
}

#[test]
fn a_pod_that_nobody_has_told_of_has_no_way_out_until_its_label_is_known() {
    let ground = Ground::new();
    ground.heard();
    let before = ground.target.reached();
    let (captured, free) = (Pod::captured("late", NODE), Pod::free("later", NODE));
    let kubelet = [ground.cgroup(&captured, Form::Burstable), ground.cgroup(&free, Form::Burstable)];
    let mut agents: Vec<Probe> = kubelet.iter().map(|cgroup| Probe::root(cgroup.command())).collect();
    for _ in 0..20 {
        assert!(agents.iter_mut().all(|agent| !agent.reaches(ground.target.address())), "held");
    }
    assert_eq!(ground.target.reached(), before);

    ground.api.put(&captured);
    ground.daemon.wait_for_label(&kubelet[0].shown(), Some("ci/late/agent"));
    agents[0].reaches(ground.target.address());
    assert_eq!(ground.target.reached(), before, "captured");

    ground.api.put(&free);
    wait_for("the other pod to pass", Duration::from_secs(10), || {
        agents[1].reaches(ground.target.address()).then_some(())
    });
    assert_eq!(ground.target.reached(), before + 1, "let through");
    let held = ground.daemon.audit_search(&["--kind", "kernel_refusal"]);
    assert!(held.iter().any(|event| event.to_string().contains("not known to the daemon")), "{held:?}");
}

#[test]
fn raw_sockets_and_datagrams_of_a_held_pod_go_nowhere_and_names_are_not_resolved() {
    let ground = Ground::new();
    ground.heard();
    let pod = Pod::captured("held", NODE);
    let _kubelet = ground.cgroup(&pod, Form::Guaranteed);
    let bundle = Bundle::new();
    let place = format!("{}/sandbox", ground.place(&pod, Form::Guaranteed));
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let script = format!(
        "echo x | /bin/busybox nc -u -w 1 127.0.0.1 {}; /bin/busybox ping -c 1 -W 1 127.0.0.1; echo ping $?; \
         /bin/busybox nslookup example.com 127.0.0.1; echo name $?",
        sink.local_addr().unwrap().port()
    );
    let run = bundle.container(&place, None, &["/bin/busybox", "sh", "-c", &script]).run();
    sink.recv(&mut [0; 8]).expect_err("a datagram left the pod");
    assert!(!run.out.contains("ping 0") && !run.out.contains("name 0"), "{run:?}");
}

#[test]
fn with_the_daemon_gone_a_new_pod_is_held_and_a_known_one_stays_what_it_was() {
    let mut ground = Ground::new();
    let (captured, free) = (Pod::captured("known", NODE), Pod::free("free", NODE));
    ground.api.put(&captured);
    ground.api.put(&free);
    let kubelet = [ground.cgroup(&captured, Form::Systemd), ground.cgroup(&free, Form::Systemd)];
    ground.daemon.wait_for_label(&kubelet[0].shown(), Some("ci/known/agent"));
    let mut known = Probe::root(kubelet[0].command());
    let mut passing = Probe::root(kubelet[1].command());
    wait_for("the free pod to pass", Duration::from_secs(10), || {
        passing.reaches(ground.target.address()).then_some(())
    });
    let before = ground.target.reached();
    ground.daemon.kill();

    let unknown = Pod::free("new", NODE);
    let third = ground.cgroup(&unknown, Form::Systemd);
    let mut new = Probe::root(third.command());
    assert!(!known.reaches(ground.target.address()) && !new.reaches(ground.target.address()));
    assert!(passing.reaches(ground.target.address()), "a pod that passes does not need the daemon");
    assert_eq!(ground.target.reached(), before + 1);

    // The API server is away when the daemon comes back: nothing that was known is forgotten.
    ground.api.go_away();
    ground.daemon.restart();
    assert_eq!(ground.daemon.captured(&kubelet[0].shown()), Some(Some("ci/known/agent".to_owned())));
    known.reaches(ground.target.address());
    assert!(!new.reaches(ground.target.address()));
    assert!(passing.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), before + 2);

    ground.api.put(&unknown);
    ground.api.come_back();
    wait_for("the new pod to pass", Duration::from_secs(20), || {
        new.reaches(ground.target.address()).then_some(())
    });
}

#[test]
fn a_server_that_is_not_there_when_the_daemon_starts_is_waited_for_and_pods_are_held_meanwhile() {
    let mut ground = Ground::around(ApiServer::absent(), "hold");
    let pod = Pod::captured("runner", NODE);
    let kubelet = ground.cgroup(&pod, Form::Burstable);
    let mut agent = Probe::root(kubelet.command());
    assert!(!agent.reaches(ground.target.address()));
    ground.api.put(&pod);
    ground.api.come_back();
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/runner/agent"));
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);
}

#[test]
fn a_watch_goes_on_over_bookmarks_and_breaks_and_lists_anew_when_history_is_forgotten() {
    let mut ground = Ground::new();
    ground.api.page_by(2);
    for number in 0..5 {
        ground.api.put(&Pod::free(&format!("before-{number}"), NODE));
    }
    ground.heard();
    assert_eq!(ground.api.lists(), 1);

    ground.api.bookmark();
    ground.api.go_away();
    let during = Pod::captured("during", NODE);
    let kubelet = ground.cgroup(&during, Form::Guaranteed);
    ground.api.put(&during);
    ground.api.come_back();
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/during/agent"));
    assert_eq!(ground.api.lists(), 1, "the watch went on where it was");
    wait_for("the watch", Duration::from_secs(10), || (ground.api.watches() >= 2).then_some(()));

    ground.api.go_away();
    let lost = Pod::captured("lost", NODE);
    let kubelet = ground.cgroup(&lost, Form::Guaranteed);
    ground.api.put(&lost);
    ground.api.forget_history();
    ground.api.come_back();
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/lost/agent"));
    assert_eq!(ground.api.lists(), 2, "410 Gone: listed anew, in pages");
    ground.heard();
}

#[test]
fn a_pod_of_another_node_is_none_of_this_node_s() {
    let ground = Ground::new();
    let pod = Pod::free("elsewhere", "node-2");
    ground.api.put(&pod);
    ground.heard();
    let kubelet = ground.cgroup(&pod, Form::Guaranteed);
    let mut agent = Probe::root(kubelet.command());
    assert!(!agent.reaches(ground.target.address()));
}

#[test]
fn a_pod_of_a_file_on_the_node_is_not_held_and_is_captured_where_its_image_says_so() {
    let ground = Ground::new();
    ground.heard();
    let hash = format!("{:032x}", std::process::id());
    let file = Pod { uid: hash.clone(), ..Pod::free("etcd", NODE) };
    let kubelet = ground.cgroup(&file, Form::Burstable);
    let mut agent = Probe::root(kubelet.command());
    wait_for("the static pod to pass", Duration::from_secs(5), || {
        agent.reaches(ground.target.address()).then_some(())
    });
    let before = ground.target.reached();
    let image = Pod {
        annotations: serde_json::json!({ "kubernetes.io/config.hash": hash }),
        ..Pod::captured("etcd-node-1", NODE)
    };
    ground.api.put(&image);
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/etcd-node-1/agent"));
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), before);
}

#[test]
fn a_pod_whose_label_is_taken_off_stays_captured_and_its_end_is_noticed() {
    let ground = Ground::new();
    let mut pod = Pod::captured("runner", NODE);
    ground.api.put(&pod);
    let kubelet = ground.cgroup(&pod, Form::Guaranteed);
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/runner/agent"));
    let mut agent = Probe::root(kubelet.command());
    pod.labels = serde_json::json!({});
    ground.api.put(&pod);
    wait_for("the attempt to be recorded", Duration::from_secs(10), || {
        let events = ground.daemon.audit_search(&["--kind", "capture"]);
        events.iter().any(|event| event.to_string().contains("stays captured while it lives")).then_some(())
    });
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 0);

    ground.api.remove(&pod);
    drop(agent);
    let shown = kubelet.shown();
    drop(kubelet);
    ground.daemon.wait_for_release(&shown);
}

#[test]
fn a_pod_that_imitates_the_kubelet_s_names_inside_itself_gains_nothing() {
    let ground = Ground::new();
    let (agent, free) = (Pod::captured("agent", NODE), Pod::free("free", NODE));
    ground.api.put(&agent);
    ground.api.put(&free);
    let kubelet = ground.cgroup(&agent, Form::Guaranteed);
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/agent/agent"));
    for imitation in [format!("kubepods/pod{}", free.uid), format!("pod{}", free.uid)] {
        let inside = Cgroup::below(kubelet.path(), &imitation);
        let mut probe = Probe::root(inside.command());
        std::thread::sleep(Duration::from_millis(200));
        probe.reaches(ground.target.address());
        assert_eq!(ground.target.reached(), 0, "{imitation}");
    }
}

#[test]
fn where_unknown_pods_pass_only_what_is_labelled_is_captured() {
    let ground = Ground::around(ApiServer::start(), "pass");
    let (unknown, captured) = (Pod::free("unknown", NODE), Pod::captured("captured", NODE));
    let kubelet = [ground.cgroup(&unknown, Form::Guaranteed), ground.cgroup(&captured, Form::Guaranteed)];
    let mut agent = Probe::root(kubelet[0].command());
    assert!(agent.reaches(ground.target.address()));
    ground.api.put(&captured);
    ground.daemon.wait_for_label(&kubelet[1].shown(), Some("ci/captured/agent"));
    let mut agent = Probe::root(kubelet[1].command());
    agent.reaches(ground.target.address());
    assert_eq!(ground.target.reached(), 1);
}

#[test]
fn a_container_in_the_pod_s_own_namespace_finds_the_daemon_there_at_its_first_connect() {
    let ground = Ground::new();
    let netns = Netns::new();
    let pod = Pod::captured("runner", NODE);
    ground.api.put(&pod);
    let bundle = Bundle::new();
    let place = ground.place(&pod, Form::Systemd);
    let path = format!("/run/netns/{}", netns.name());
    let sandbox = bundle.container(
        &format!("{place}/cri-containerd-sandbox.scope"),
        Some(Path::new(&path)),
        &["/bin/busybox", "sleep", "600"],
    );
    sandbox.create();
    sandbox.start();
    wait_for("a listener in the pod's namespace", Duration::from_secs(10), || {
        let mut listening = netns.command(Path::new("ss"));
        let said = said(listening.args(["-Hltn"]), "", Duration::from_secs(5));
        said.out.contains("%lo:").then_some(())
    });
    // Nothing listens there but the daemon: whoever connects has reached it.
    let attempt = "/bin/busybox nc -w 1 192.0.2.1 5432 </dev/null && echo connected";
    let container = bundle.container(
        &format!("{place}/cri-containerd-agent.scope"),
        Some(Path::new(&path)),
        &["/bin/busybox", "sh", "-c", attempt],
    );
    let run = container.run();
    assert!(run.out.contains("connected"), "{run:?}");
    assert_eq!(ground.daemon.counter("flows_total"), 1);
    assert_eq!(ground.daemon.counter("kernel_refusals_total"), 0, "not even its first connect was refused");
}

#[test]
fn a_command_lets_a_pod_go_and_its_label_does_not_take_it_back() {
    let ground = Ground::new();
    let pod = Pod::captured("runner", NODE);
    ground.api.put(&pod);
    let kubelet = ground.cgroup(&pod, Form::Guaranteed);
    ground.daemon.wait_for_label(&kubelet.shown(), Some("ci/runner/agent"));
    let mut agent = Probe::root(kubelet.command());
    let mut remove = ground.daemon.nodegate(&["capture", "remove", &kubelet.shown()]);
    said(&mut remove, "", Duration::from_secs(10)).ok();
    ground.heard();
    let before = ground.target.reached();
    assert!(agent.reaches(ground.target.address()));
    assert_eq!(ground.target.reached(), before + 1);
}

#[test]
fn a_daemon_in_a_pod_of_its_own_holds_all_others_and_not_itself() {
    let mut ground = Ground::prepared(ApiServer::start(), "hold");
    let (own, runner) = (Pod::free("nodegate", NODE), Pod::captured("runner", NODE));
    let around = ground.cgroup(&own, Form::Burstable);
    let container = Cgroup::below(around.path(), "4f1c");
    // As in a container: a cgroup namespace of its own, in which the tree has no names.
    let script = "echo $$ > \"$0\"/cgroup.procs && exec unshare --cgroup \"$@\"";
    ground.daemon.launch_through(&["sh", "-c", script, container.path().to_str().unwrap()]);
    ground.daemon.restart();
    let unknown = ground.cgroup(&runner, Form::Burstable);
    let mut agent = Probe::root(unknown.command());
    assert!(!agent.reaches(ground.target.address()), "others are held");
    // A new one takes over where pods are held already, and has to reach the API server all the same.
    ground.daemon.kill();
    ground.daemon.restart();
    ground.api.put(&runner);
    ground.daemon.wait_for_label(&unknown.shown(), Some("ci/runner/agent"));
    let mut add = ground.daemon.nodegate(&["capture", "list", "--json"]);
    assert!(said(&mut add, "", Duration::from_secs(10)).ok().contains("ci/runner/agent"));
    assert_eq!(ground.target.reached(), 0);
    ground.daemon.kill();
}
