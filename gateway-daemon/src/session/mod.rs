//! Drivers that own sockets and clocks, one room per protocol, and what they have in common. They may use every room but
//! `cli` and `admin`. No protocol's room imports another's.

pub mod about;
pub mod caller;
pub mod client_tls;
pub mod dial;
pub mod driver;
pub mod ending;
pub mod ledger;
pub mod limits;
pub mod passing;
pub mod route;
pub mod stop;
pub mod transport;
pub mod untouched;

pub mod dns;
pub mod http;
pub mod postgres;
pub mod tcp;
