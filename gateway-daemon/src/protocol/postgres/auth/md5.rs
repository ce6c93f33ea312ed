//! PostgreSQL's md5 response: `md5` and the hash of (the hash of password and user, then the salt).

use md5::{Digest, Md5};

/// The text of the PasswordMessage.
pub(super) fn response(user: &str, password: &[u8], salt: [u8; 4]) -> String {
    let inner = hex(&Md5::new().chain_update(password).chain_update(user.as_bytes()).finalize());
    let outer = hex(&Md5::new().chain_update(inner.as_bytes()).chain_update(salt).finalize());
    format!("md5{outer}")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len().saturating_mul(2)), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::response;

    #[test]
    fn the_response_is_what_libpq_sends() {
        // Recorded: psql 15 as bob with the password `secret`.
        assert_eq!(response("bob", b"secret", *b":\xa5GY"), "md505375a980e7e70b42bd1fd250c0bd646");
        // md5sum, twice.
        assert_eq!(response("alice", b"secret", [1, 2, 3, 4]), "md598a0412b9c31436fc53776e863350083");
    }
}
