//! The codecs, compiled alone for the fuzz targets.

#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
