//! Rooms of the daemon, compiled alone for the fuzz targets: the codecs, what masks their values, and what reads
//! statements.
#![allow(dead_code, reason = "a room offers more than its fuzz target uses")]

#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/mask/mod.rs"]
pub mod mask;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../src/sql/mod.rs"]
pub mod sql;
