//! Transforms values on their way to the client. Fails closed: what cannot be transformed becomes NULL.

mod data_row;
mod masker;
mod nested;
mod scalars;
mod transform;
mod types;

pub use data_row::{ColumnMask, MaskError, mask_data_row};
pub use masker::{HashKey, Masked, Masker};
pub use types::{Format, Shape};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
