//! Java's keystore of trusted certificates in its oldest form, JKS, which every JDK reads: what `cacerts` is on Debian.
//!
//! Layout (sun.security.provider.JavaKeyStore): magic, version, count; for each entry a tag, an alias, a time and, for a
//! trusted certificate, its type and bytes; at the end a SHA-1 over the password, a phrase and all that comes before.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: [u8; 4] = [0, 0, 0, 2];
const TRUSTED: [u8; 4] = [0, 0, 0, 2];
const DIGEST_BYTES: usize = 20;
/// What every JDK ships its store with; who only reads certificates needs none.
const PASSWORD: &str = "changeit";
const ALIAS: &str = "nodegate";

/// The store with one trusted certificate more; `None` where it is of another form, or has another password, whose
/// digest could not be made.
pub(super) fn with(store: &[u8], certificate: &[u8], now: SystemTime) -> Option<Vec<u8>> {
    let (content, sum) = store.split_at_checked(store.len().checked_sub(DIGEST_BYTES)?)?;
    if sum != digest_of(content) {
        return None;
    }
    let rest = content.strip_prefix(&MAGIC)?.strip_prefix(&VERSION)?;
    let (count, entries) = rest.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count).checked_add(1)?;
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut new = [&MAGIC[..], &VERSION, &count.to_be_bytes(), entries].concat();
    new.extend(TRUSTED);
    new.extend(text(ALIAS)?);
    new.extend(u64::try_from(since.as_millis()).ok()?.to_be_bytes());
    new.extend(text("X.509")?);
    new.extend(u32::try_from(certificate.len()).ok()?.to_be_bytes());
    new.extend(certificate);
    let sum = digest_of(&new);
    new.extend(sum);
    Some(new)
}

fn text(text: &str) -> Option<Vec<u8>> {
    Some([&u16::try_from(text.len()).ok()?.to_be_bytes(), text.as_bytes()].concat())
}

fn digest_of(content: &[u8]) -> Vec<u8> {
    let mut sum = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        sum.update(&unit.to_be_bytes());
    }
    sum.update(b"Mighty Aphrodite");
    sum.update(content);
    sum.finish().as_ref().to_vec()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn empty() -> Vec<u8> {
        let content = [&MAGIC[..], &VERSION, &[0; 4]].concat();
        let sum = digest_of(&content);
        [content, sum].concat()
    }

    #[test]
    fn an_entry_is_added_and_the_digest_made_anew() {
        let one = with(&empty(), b"certificate", SystemTime::UNIX_EPOCH).unwrap();
        let two = with(&one, b"another", SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(two[8..12], [0, 0, 0, 2]);
        assert!(two.windows(11).any(|window| window == b"certificate"));
    }

    #[test]
    fn a_store_that_is_none_or_has_another_password_is_left_alone() {
        let mut changed = empty();
        *changed.last_mut().unwrap() ^= 1;
        for store in [&b""[..], b"0", &changed] {
            assert_eq!(with(store, b"certificate", SystemTime::UNIX_EPOCH), None);
        }
    }
}
