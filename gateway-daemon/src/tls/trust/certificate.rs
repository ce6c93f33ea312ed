//! The authority's certificate: PEM, DER, and the name under which OpenSSL looks it up in a directory.
//!
//! OpenSSL finds an issuer by the first four bytes of a SHA-1 over its canonical subject (x509_cmp.c: `X509_NAME_hash`;
//! x_name.c: the canonical form): each attribute as a UTF8String, in lower case, with single spaces, and without the
//! outermost SEQUENCE's header.

use aws_lc_rs::digest;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::TrustError;

/// One certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    pem: String,
    der: CertificateDer<'static>,
    subject_hash: u32,
}

impl Certificate {
    /// Reads a PEM text of one certificate.
    pub(super) fn from_pem(pem: &str) -> Result<Self, TrustError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| TrustError::Certificate("it is not PEM"))?;
        let subject = subject(&der).ok_or(TrustError::Certificate("it has no subject that can be read"))?;
        let canonical =
            canonical(subject).ok_or(TrustError::Certificate("its subject is not in plain letters"))?;
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &canonical);
        let subject_hash =
            hash.as_ref().iter().take(4).rev().fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
        let mut pem = pem.trim_end().to_owned();
        pem.push('\n');
        Ok(Self { pem, der, subject_hash })
    }

    /// The text, with one line feed at its end.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// The bytes.
    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The file name, without its number, by which OpenSSL finds it in a directory.
    pub(super) fn hash_name(&self) -> String {
        format!("{:08x}", self.subject_hash)
    }
}

/// One DER element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const VERSION: u8 = 0xa0;

/// The content of the subject's SEQUENCE (RFC 5280, section 4.1).
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        (_, _, fields) = element(fields)?;
    }
    let (SEQUENCE, subject, _) = element(fields)? else { return None };
    Some(subject)
}

/// A name's canonical form; `None` for strings of other kinds than this project's authorities have.
fn canonical(mut names: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while !names.is_empty() {
        let (SET, attributes, rest) = element(names)? else { return None };
        names = rest;
        let (SEQUENCE, attribute, []) = element(attributes)? else { return None };
        let (_, _, value) = element(attribute)?;
        let kind = attribute.get(..attribute.len() - value.len())?;
        let (UTF8_STRING | PRINTABLE_STRING, text, []) = element(value)? else { return None };
        let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let attribute = [kind, &wrapped(UTF8_STRING, text.as_bytes())?].concat();
        all.extend(wrapped(SET, &wrapped(SEQUENCE, &attribute)?)?);
    }
    Some(all)
}

/// An element of short content.
fn wrapped(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80)?;
    Some([&[tag, length], content].concat())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
pub(super) mod tests {
    use std::process::{Command, Stdio};

    use super::Certificate;

    /// An authority as the daemon makes it.
    pub(in super::super) fn authority() -> String {
        let dir = tempfile::tempdir().unwrap();
        crate::tls::authority::Authority::open(dir.path()).unwrap().pem().to_owned()
    }

    #[test]
    fn the_hash_is_openssls() {
        let pem = authority();
        let mut openssl = Command::new("openssl")
            .args(["x509", "-noout", "-subject_hash"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut openssl.stdin.take().unwrap(), pem.as_bytes()).unwrap();
        let said = openssl.wait_with_output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.trim(), Certificate::from_pem(&pem).unwrap().hash_name());
    }

    #[test]
    fn what_is_no_certificate_is_an_error_at_every_length() {
        let whole = Certificate::from_pem(&authority()).unwrap();
        for length in 0..whole.der().len() {
            let cut = &whole.der()[..length];
            assert!(super::subject(cut).is_none(), "{length}");
        }
        Certificate::from_pem("nothing").unwrap_err();
    }
}
