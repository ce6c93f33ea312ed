//! The configuration file: read ([`raw`]), then checked ([`checked`]). The rest of the program sees checked values only.

mod check;
pub mod checked;
mod cidr;
mod error;
mod load;
mod raw;

pub use cidr::Cidr;
pub use error::{ConfigError, Problem};
pub use load::load;

#[cfg(test)]
mod tests;
