//! Rooms of the daemon, compiled alone for the fuzz targets: the codecs, and what masks their values.
#![allow(dead_code, reason = "a room offers more than its fuzz target uses")]

#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/mask/mod.rs"]
pub mod mask;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
