//! The channel binding `tls-server-end-point` (RFC 5929 §4): a hash of the server's certificate, by which a login shows
//! both sides that they talk to each other and not to somebody between them.

use aws_lc_rs::digest::{self, Algorithm};
use rustls::pki_types::CertificateDer;

/// Object identifiers of signature algorithms (their DER content), and the hash of each. Where the certificate was
/// signed over MD5 or SHA-1, RFC 5929 takes SHA-256.
static ALGORITHMS: &[(&[u8], &Algorithm)] = &[
    // 1.2.840.113549.1.1.x: RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512, SHA-224 (RFC 8017, appendix A.2.4).
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &digest::SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &digest::SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &digest::SHA512),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e", &digest::SHA224),
    // 1.2.840.10045.4.1 and .4.3.x: ECDSA with SHA-1, SHA-224, SHA-256, SHA-384, SHA-512 (RFC 5758).
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &digest::SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", &digest::SHA224),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &digest::SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &digest::SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &digest::SHA512),
];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The binding of a channel whose server showed this certificate; `None` where the signature algorithm has no single
/// hash (Ed25519, RSASSA-PSS), for which RFC 5929 defines none.
pub fn of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_, fields) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(fields, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    let (_, hash) = ALGORITHMS.iter().find(|(known, _)| *known == identifier)?;
    Some(digest::digest(hash, certificate).as_ref().to_vec())
}

/// The content of a DER element of this tag at the front of `bytes`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (short, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match usize::from(*short) {
        length @ 0..=0x7f => (length, rest),
        // The long form: so many bytes of length.
        count @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(count - 0x80)?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn certificate(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let params = rcgen::CertificateParams::new(vec!["db.internal".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, &digest::SHA256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, &digest::SHA384),
            (&rcgen::PKCS_RSA_SHA256, &digest::SHA256),
            (&rcgen::PKCS_RSA_SHA512, &digest::SHA512),
        ] {
            let certificate = certificate(algorithm);
            let expected = digest::digest(hash, &certificate).as_ref().to_vec();
            assert_eq!(of(&certificate), Some(expected), "{algorithm:?}");
        }
    }

    #[test]
    fn a_signature_without_a_hash_of_its_own_binds_nothing() {
        assert_eq!(of(&certificate(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn what_is_no_certificate_binds_nothing() {
        let whole = certificate(&rcgen::PKCS_ECDSA_P256_SHA256);
        for cut in 0..whole.len().min(400) {
            assert_eq!(of(&CertificateDer::from(&whole[..cut])), None, "{cut} bytes");
        }
        for bytes in [&b""[..], b"\x30", b"\x30\x85\x01", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\0\0"] {
            assert_eq!(of(&CertificateDer::from(bytes)), None);
        }
    }
}
