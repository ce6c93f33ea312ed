//! nodegate's rooms. Data flows one way: `intercept → identity → detect → session → audit`.
//! ARCHITECTURE.md has the table of which room may import which; `cargo xtask rooms` enforces it.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod config;
pub mod connection;
pub mod credential;
pub mod detect;
pub mod domain;
pub mod identity;
pub mod intercept;
pub mod kubernetes;
pub mod mask;
pub mod policy;
pub mod protocol;
pub mod recording;
pub mod session;
pub mod sql;
pub mod tls;
pub mod wiring;
