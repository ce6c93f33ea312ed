//! A query's parameters, in every reading that servers have of them.

use std::collections::{BTreeMap, BTreeSet};

use super::path::decoded;

/// Names, and the values that each has in some reading.
pub type Parameters = BTreeMap<String, BTreeSet<String>>;

/// Reads a query as HTML forms write it, `name=value&…`. Some servers split at `;` as well, and some take `+` as it
/// stands: what any of them reads is there.
pub fn parameters(query: &str) -> Parameters {
    let mut found = Parameters::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        add(&mut found, pair);
        if pair.contains(';') {
            for part in pair.split(';').filter(|part| !part.is_empty()) {
                add(&mut found, part);
            }
        }
    }
    found
}

fn add(found: &mut Parameters, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    for name in texts(name) {
        found.entry(name).or_default().extend(texts(value));
    }
}

fn texts(text: &str) -> impl Iterator<Item = String> {
    let blank = text.contains('+').then(|| decoded(&text.replace('+', " ")));
    std::iter::once(decoded(text)).chain(blank)
}
