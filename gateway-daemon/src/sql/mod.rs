//! SQL text and a catalogue in, what the statements do out. One front per dialect; nothing here knows a
//! socket, a policy or a protocol.

pub mod postgres;
