//! How much of a name looks as if it carried data. A guess, and meant as one: it bounds what a tunnel gets through a
//! permit that is too wide, and must leave the names of clouds and clusters alone.

use crate::protocol::dns::RecordKind;

/// A label that is shorter carries too little to matter.
const SHORT_LABEL_BYTES: usize = 12;
/// No word is as long as this without a hyphen.
const LONGEST_WORD_BYTES: usize = 24;
/// Names that are longer in all than names are.
const LONG_NAME_BYTES: usize = 80;
/// What an answer of free text may carry is worth a label of this length.
const TEXT_BYTES: usize = 32;

/// The domain that a name is counted under: its last two labels, or three below the likes of `co.uk`.
pub(super) fn domain_of(name: &str) -> &str {
    let mut ends = name.rmatch_indices('.').map(|(at, _)| at);
    let (last, second, third) = (ends.next(), ends.next(), ends.next());
    let Some(last) = last else { return name };
    let short_tld = name.len() - last - 1 <= 2;
    let second_label_bytes = last - second.map_or(0, |at| at + 1);
    let end = if short_tld && second_label_bytes <= 3 { third } else { second };
    end.and_then(|at| name.get(at + 1..)).unwrap_or(name)
}

/// Bytes that a question may carry out, or bring in.
pub(super) fn bytes_of(name: &str, kind: RecordKind) -> usize {
    let below = name.strip_suffix(domain_of(name)).unwrap_or_default().trim_end_matches('.');
    let in_name = if below.len() > LONG_NAME_BYTES {
        below.len()
    } else {
        below.split('.').filter(|label| looks_random(label)).map(str::len).sum()
    };
    in_name + if kind == RecordKind::TXT { TEXT_BYTES } else { 0 }
}

/// Letters and digits in turns, as in encoded data; a word without an end; or hardly a vowel.
fn looks_random(label: &str) -> bool {
    if label.len() < SHORT_LABEL_BYTES {
        return false;
    }
    let bytes = label.as_bytes();
    let turns = bytes
        .windows(2)
        .filter(|pair| {
            matches!(pair, [one, other] if one.is_ascii_digit() != other.is_ascii_digit()
            && one.is_ascii_alphanumeric() && other.is_ascii_alphanumeric())
        })
        .count();
    let longest_word = label.split(['-', '_']).map(str::len).max().unwrap_or_default();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let vowels = bytes.iter().filter(|byte| b"aeiouy".contains(byte)).count();
    turns >= 3 || longest_word > LONGEST_WORD_BYTES || letters >= SHORT_LABEL_BYTES && vowels * 7 < letters
}

#[cfg(test)]
mod tests {
    use super::{bytes_of, domain_of};
    use crate::protocol::dns::RecordKind;

    #[test]
    fn names_are_counted_under_the_domain_that_somebody_owns() {
        for (name, domain) in [
            ("api.github.com", "github.com"),
            ("github.com", "github.com"),
            ("localhost", "localhost"),
            ("www.shop.co.uk", "shop.co.uk"),
            ("co.uk", "co.uk"),
            ("a.b.example.de", "example.de"),
            ("kubernetes.default.svc.cluster.local", "cluster.local"),
            (".", "."),
        ] {
            assert_eq!(domain_of(name), domain, "{name}");
        }
    }

    #[test]
    fn ordinary_names_carry_nothing() {
        for name in [
            "kubernetes-dashboard.kube-system.svc.cluster.local",
            "downloads.packagemirror.internal",
            "objects.githubusercontent.com",
            "my-team-artifacts.s3.eu-central-1.amazonaws.com",
            "10-0-3-17.payments.pod.cluster.local",
            "production-postgres-orders.internal",
            "internationalization.example.com",
            "www.xn--bcher-kva.example",
        ] {
            assert_eq!(bytes_of(name, RecordKind::A), 0, "{name}");
        }
    }

    #[test]
    fn encoded_data_counts_whole_and_text_counts_as_such() {
        for label in [
            "nbswy3dpeb3w64tmmqqho2lu",
            "48656c6c6f20776f726c64",
            "aGVsbG8gd29ybGQhIHNlY3JldA",
            "hjklmnbvcxzqwrtp",
            "thisisonesinglewordwithoutanyend",
        ] {
            assert_eq!(bytes_of(&format!("{label}.evil.example"), RecordKind::A), label.len(), "{label}");
        }
        let long = format!("{}.evil.example", "plain-words.".repeat(8).trim_end_matches('.'));
        assert_eq!(bytes_of(&long, RecordKind::A), 95);
        assert_eq!(bytes_of("evil.example", RecordKind::TXT), 32);
    }
}
