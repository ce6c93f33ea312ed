//! The client's side of the login, towards the target. Sans-IO: the nonce is passed in.
//!
//! The server is not trusted: what it asks for, and in which order, is checked against what the credential may
//! be used for, and a SASL exchange that it began must end with its own proof.

mod error;
mod login;
mod md5;
mod prepare;
mod scram;

pub use error::AuthError;
pub use login::{Binding, Channel, Login, NONCE_BYTES, Password, Step};
pub use scram::{MAX_ITERATIONS, MIN_ITERATIONS, ScramKeys};
