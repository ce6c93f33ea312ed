//! Sans-IO codecs: bytes in, events out. No async, socket, clock, configuration or logging, and no other room.

pub mod dns;
pub mod http;
pub mod postgres;
pub mod wire;
