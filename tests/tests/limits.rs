//! The bounds that the configuration sets to what captured agents can take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{thread::sleep, time::Duration};

use nodegate_tests::{
    stage::Stage,
    wire::{Client, read_to_close},
};

fn stage(limits: &str) -> Stage {
    Stage::with(|settings| settings.more = format!("limits: {{ {limits} }}\n"))
}

#[test]
fn a_session_too_many_is_refused_and_there_is_room_again_when_one_ends() {
    let stage = stage("sessions: 2");
    let mut agent = stage.agent();
    let first = stage.client(&mut agent);
    let mut second = stage.client(&mut agent);
    let third = agent.connect(stage.postgres.address()).unwrap();
    assert!(Client::start(third).is_err(), "a third session was let in");
    assert_eq!(second.query("SELECT 1").texts(), [["1"]], "the sessions that are open go on");
    drop(first);
    sleep(Duration::from_millis(500));
    let again = agent.connect(stage.postgres.address()).unwrap();
    assert_eq!(Client::start(again).unwrap().query("SELECT 2").texts(), [["2"]]);
    let denied = stage.daemon.audit_search(&["--outcome", "denied"]);
    assert!(format!("{denied:?}").contains("limits.sessions"), "{denied:?}");
}

#[test]
fn an_idle_session_ends_with_its_reason() {
    let stage = stage("idle_timeout: 1s");
    let mut agent = stage.agent();
    let mut client = stage.client(&mut agent);
    assert_eq!(client.query("SELECT 1").texts(), [["1"]]);
    sleep(Duration::from_secs(2));
    let ended = client.until_ready();
    assert_eq!((ended.error().code(), ended.status), ("57P05", 'X'));
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for_longer_than_allowed() {
    let stage = stage("startup_timeout: 1s");
    let mut agent = stage.agent();
    let mut silent = agent.connect(stage.postgres.address()).unwrap();
    assert!(read_to_close(&mut silent, Duration::from_secs(5)).is_some(), "it was never closed");
}
