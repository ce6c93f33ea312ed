//! What all binary codecs share: one bounds-checked reader and one error.

mod error;
mod reader;

pub use error::WireError;
pub use reader::Reader;
