//! What the end-to-end tests, the demo and the benchmarks share: real servers, an issuer, a daemon, captured
//! agents, and network namespaces, each of which cleans up after itself, also after a failed test.
//!
//! Everything here blocks and panics on trouble, since a test that cannot set up its stage has failed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "test support: trouble must end the test, loudly and at once"
)]

pub mod agent;
pub mod cgroups;
pub mod computable;
pub mod containerd;
pub mod containers;
pub mod daemon;
pub mod dns;
pub mod images;
pub mod interposer;
pub mod issuer;
pub mod kubernetes;
pub mod leaks;
pub mod leftovers;
pub mod netns;
pub mod node;
pub mod postgres;
pub mod probe;
pub mod programs;
pub mod regression;
pub mod stage;
pub mod throughput;
pub mod tokens;
pub mod vault;
pub mod web;
pub mod wire;
