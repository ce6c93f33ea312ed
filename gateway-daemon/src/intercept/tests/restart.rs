//! The daemon goes and comes back; cgroups go for good.

use nix::errno::Errno;

use super::bench::{Ground, NOWHERE, Netns, eventually, parsed};
use crate::intercept::{Intercept, InterceptError, Succession};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_connections_are_refused_and_with_the_next_one_they_work_again() {
    let netns = Netns::new("restart");
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let wanted = server.local_addr().unwrap();
    let (mut agent, workload) = capture.run(None, "ci").await;
    let (mut other, other_run) = capture.run(Some(&netns.0), "other").await;
    agent.connect(&format!("tcp {wanted}"));
    other.connect(&format!("tcp {NOWHERE}"));
    drop((capture.arrival().await, capture.arrival().await));
    drop(capture);

    let refused = format!("error {}", Errno::ECONNREFUSED as i32);
    eventually("connections are not refused", || agent.ask(&format!("tcp {wanted}")) == refused).await;
    eventually("those of the other are not", || other.ask(&format!("tcp {NOWHERE}")) == refused).await;
    for _ in 0..20 {
        assert_eq!(agent.ask(&format!("tcp {wanted}")), refused);
        assert_eq!(other.ask(&format!("tcp {NOWHERE}")), refused);
    }
    assert!(server.accept().is_err(), "nothing went direct");

    let mut capture = ground.start().await;
    assert_eq!(capture.intercept.workload(workload.cgroup).as_ref(), Some(&workload));
    assert_eq!(capture.intercept.workload(other_run.cgroup).as_ref(), Some(&other_run));
    assert_eq!(agent.connect(&format!("tcp {wanted}")).1, wanted);
    assert_eq!(capture.arrival().await.flow.captured_cgroup, workload.cgroup);
    assert_eq!(other.connect(&format!("tcp {NOWHERE}")).1, parsed(NOWHERE));
    assert_eq!(capture.arrival().await.flow.captured_cgroup, other_run.cgroup);
    assert!(server.accept().is_err(), "nothing went direct");
    capture.no_records().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_do_not_share_pins() {
    let ground = Ground::new();
    let _capture = ground.start().await;
    let second = Intercept::start(ground.settings().clone(), Succession::AfterTheEnd).await;
    assert!(matches!(second, Err(InterceptError::AlreadyRunning(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_gone_when_its_last_process_is() {
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, workload) = capture.run(None, "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    drop(capture.arrival().await);
    let dir = ground.cgroup("").join(workload.path.rsplit('/').next().unwrap());
    assert!(dir.exists());
    std::fs::create_dir_all(dir.join("nested/deeper")).unwrap();
    drop(agent);
    eventually("the run is still there", || !dir.exists()).await;
    eventually("the workload is still there", || capture.intercept.workload(workload.cgroup).is_none()).await;
    let pins = ground.settings().pins.join("links").join(workload.cgroup.to_string());
    eventually("pins are left", || !pins.exists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ending_a_run_kills_what_is_left_and_a_foreign_cgroup_that_vanishes_is_forgotten() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (_agent, workload) = capture.run(None, "ci").await;
    capture.intercept.end_run(workload.cgroup).await.unwrap();
    capture.intercept.end_run(workload.cgroup).await.unwrap();
    assert!(capture.intercept.workloads().is_empty());

    let dir = ground.cgroup("vanishing");
    capture.intercept.capture(&dir, Some("x")).await.unwrap();
    std::fs::remove_dir(&dir).unwrap();
    eventually("a cgroup that is gone is still known", || capture.intercept.workloads().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_last_process_left_while_no_daemon_was_there_is_cleared_away() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (agent, workload) = capture.run(None, "ci").await;
    let (survivor, survivors) = capture.run(None, "survivor").await;
    drop(capture);
    drop(agent);
    let abandoned = ground.cgroup("run-abandoned");
    let capture = ground.start().await;
    eventually("the run is still there", || capture.intercept.workload(workload.cgroup).is_none()).await;
    assert!(!abandoned.exists());
    assert_eq!(capture.intercept.workload_of_pid(survivor.pid()).unwrap(), Some(survivors));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_of_another_versions_programs_go_when_the_cgroup_is_taken_over() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (mut agent, workload) = capture.run(None, "ci").await;
    drop(capture);
    let pins = ground.settings().pins.join("links").join(workload.cgroup.to_string());
    std::fs::rename(pins.join("nodegate_conn4"), pins.join("nodegate_older4")).unwrap();
    let mut capture = ground.start().await;
    assert!(!pins.join("nodegate_older4").exists() && pins.join("nodegate_conn4").exists());
    agent.connect(&format!("tcp {NOWHERE}"));
    assert_eq!(capture.arrival().await.flow.original_destination.socket_addr(), parsed(NOWHERE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_let_go_with_the_last_run_in_it() {
    let netns = Netns::new("letgo");
    let ground = Ground::new();
    let mut capture = ground.start().await;
    let (mut agent, workload) = capture.run(Some(&netns.0), "ci").await;
    agent.connect(&format!("tcp {NOWHERE}"));
    let cookie = capture.arrival().await.flow.netns;
    drop(agent);
    eventually("the workload is still there", || capture.intercept.workload(workload.cgroup).is_none()).await;
    let error = capture.intercept.connect_upstream(cookie, parsed("127.0.0.1:1")).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maps_of_another_layout_are_replaced_while_the_cgroup_stays_captured() {
    let ground = Ground::new();
    let capture = ground.start().await;
    let (mut agent, workload) = capture.run(None, "ci").await;
    drop(capture);
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let wanted = server.local_addr().unwrap();
    let pins = &ground.settings().pins;
    let (ours, older) = (pins.join(format!("v{}", gateway_common::LAYOUT_VERSION)), pins.join("v0"));
    std::fs::rename(&ours, &older).unwrap();
    // The old programs over the old maps: nobody accepts.
    let refused = format!("error {}", Errno::ECONNREFUSED as i32);
    eventually("connections are not refused", || agent.ask(&format!("tcp {wanted}")) == refused).await;

    let mut capture = ground.start().await;
    assert!(ours.exists() && !older.exists());
    assert_eq!(agent.connect(&format!("tcp {wanted}")).1, wanted);
    assert_eq!(capture.arrival().await.flow.captured_cgroup, workload.cgroup);
    assert!(server.accept().is_err(), "nothing went direct");
    capture.no_records().await;
}
