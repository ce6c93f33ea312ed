//! TLS towards targets. Terminating TLS from clients comes with a later protocol room.

pub mod originate;
