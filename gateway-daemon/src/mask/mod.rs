//! Transforms values on their way to the client. Fails closed: what cannot be transformed becomes NULL.

mod data_row;
mod detect;
mod image;
mod masker;
mod nested;
mod plan;
mod scalars;
mod scan;
mod transform;
mod types;

pub use data_row::{ColumnMask, Concealed, MaskError, Stand, Treatment, mask_data_row};
pub use image::{Image, element_image, holds_image, image};
pub use masker::{HashKey, Masked, Masker};
pub use scan::{Finds, Scan};
pub use types::{Format, Shape};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
