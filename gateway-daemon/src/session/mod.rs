//! Drivers that own sockets and clocks, one room per protocol. They may use every room but `cli` and `admin`.

pub mod dns;
pub mod postgres;
pub mod tcp;
