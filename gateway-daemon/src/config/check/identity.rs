//! `identity:`, issuers and token sources.

use std::{path::PathBuf, time::Duration};

use super::{Checker, Kind, Zero};
use crate::config::{
    checked,
    raw::{self, At},
};

/// Clocks that differ by more than this make expiry meaningless.
const MAX_LEEWAY: Duration = Duration::from_mins(5);

impl Checker {
    pub(super) fn identity(&mut self, raw: &raw::Identity) -> Option<checked::Identity> {
        let issuers = self.issuers(&raw.issuers);
        let sources = match &raw.sources {
            None => Some(vec![checked::Source::Enrolled]),
            Some(sources) => self.sources(sources),
        };
        let leeway = match &raw.leeway {
            None => Some(Duration::from_secs(30)),
            Some(leeway) => self.duration(leeway, Zero::Allowed).filter(|&duration| {
                let short = duration <= MAX_LEEWAY;
                if !short {
                    self.note(
                        leeway,
                        "the leeway may be up to 5m".to_owned(),
                        Some("let the clocks be set by NTP"),
                    );
                }
                short
            }),
        };
        Some(checked::Identity { issuers: issuers?, sources: sources?, leeway: leeway? })
    }

    fn issuers(&mut self, raw: &At<Vec<At<raw::Issuer>>>) -> Option<Vec<checked::Issuer>> {
        if raw.value.is_empty() {
            let hint = "without an issuer nobody can be identified, and everything is refused";
            self.note(raw, "no issuer is listed".to_owned(), Some(hint));
            return None;
        }
        let mut issuers: Vec<checked::Issuer> = Vec::new();
        let mut complete = true;
        for entry in &raw.value {
            let Some(issuer) = self.issuer(&entry.value) else {
                complete = false;
                continue;
            };
            if issuers.iter().any(|other| other.name == issuer.name) {
                self.note(&entry.value.name, format!("a second issuer is named `{}`", issuer.name), None);
            }
            if issuers.iter().any(|other| other.issuer == issuer.issuer) {
                let hint = "one entry an issuer: give it a list of audiences";
                self.note(&entry.value.issuer, "this issuer is listed twice".to_owned(), Some(hint));
            }
            issuers.push(issuer);
        }
        complete.then_some(issuers)
    }

    fn issuer(&mut self, raw: &raw::Issuer) -> Option<checked::Issuer> {
        let name = self.name(&raw.name, "the issuer's name");
        let issuer = self.text(&raw.issuer, "the issuer");
        let audiences = self.audiences(&raw.audience);
        let keys = match (&raw.jwks_file, &raw.ca) {
            (Some(_), Some(ca)) => {
                let hint =
                    "`ca` is for discovery over HTTPS, which a `jwks_file` replaces: leave one of them out";
                self.note(ca, "`ca` beside `jwks_file` has no meaning".to_owned(), Some(hint));
                None
            }
            (Some(file), None) => self.existing(file, Kind::File).map(checked::IssuerKeys::JwksFile),
            (None, ca) => self.discovery(&raw.issuer, ca.as_ref()),
        };
        let groups_claim = self.optional_text(raw.groups_claim.as_ref(), "the claim's name");
        let roles_claim = self.optional_text(raw.roles_claim.as_ref(), "the claim's name");
        let claims: Option<Vec<String>> =
            raw.claims.iter().map(|claim| self.text(claim, "the claim's name")).collect();
        Some(checked::Issuer {
            name: name?,
            issuer: issuer?,
            audiences: audiences?,
            groups_claim: groups_claim?,
            roles_claim: roles_claim?,
            claims: claims?,
            keys: keys?,
        })
    }

    fn audiences(&mut self, raw: &At<raw::OneOrMany>) -> Option<Vec<String>> {
        let audiences = &raw.value.0;
        if audiences.is_empty() || audiences.iter().any(|audience| audience.trim().is_empty()) {
            let hint = "a token for any audience would let one service's tokens be used at another";
            self.note(raw, "an audience is needed".to_owned(), Some(hint));
            return None;
        }
        Some(audiences.clone())
    }

    fn discovery(&mut self, issuer: &At<String>, ca: Option<&At<String>>) -> Option<checked::IssuerKeys> {
        if !issuer.value.starts_with("https://") {
            let hint = "write its https:// address, or give its keys in a `jwks_file`";
            self.note(issuer, "keys are fetched over HTTPS only".to_owned(), Some(hint));
            return None;
        }
        let ca = match ca {
            None => None,
            Some(ca) => Some(self.existing(ca, Kind::File)?),
        };
        Some(checked::IssuerKeys::Discovery { ca })
    }

    fn sources(&mut self, raw: &At<Vec<At<raw::Source>>>) -> Option<Vec<checked::Source>> {
        if raw.value.is_empty() {
            self.note(raw, "no token source is listed".to_owned(), Some("write `[{ kind: enrolled }]`"));
            return None;
        }
        let mut sources = Vec::new();
        for entry in &raw.value {
            let source = self.source(entry)?;
            if sources.contains(&source) {
                self.note(entry, "this source is listed twice".to_owned(), None);
            }
            sources.push(source);
        }
        Some(sources)
    }

    fn source(&mut self, raw: &At<raw::Source>) -> Option<checked::Source> {
        let raw::Source { kind, path, variable } = &raw.value;
        let kind_name = self.word(kind, "kind", &["enrolled", "file", "environment"], &["kubernetes"])?;
        match (kind_name, path, variable) {
            ("enrolled", None, None) => Some(checked::Source::Enrolled),
            ("file", Some(path), None) => {
                // Read inside the workload's mount namespace: nothing to look for here, nothing to be relative to.
                let text = self.text(path, "the path")?;
                if !text.starts_with('/') {
                    let hint = "it is opened inside the workload's own file system";
                    self.note(path, "the path must be absolute".to_owned(), Some(hint));
                    return None;
                }
                Some(checked::Source::File { path: PathBuf::from(text) })
            }
            ("environment", None, Some(variable)) => {
                Some(checked::Source::Environment { variable: self.variable(variable)? })
            }
            ("file", None, _) => {
                self.note(kind, "a source of kind `file` needs `path`".to_owned(), None);
                None
            }
            ("environment", _, None) => {
                self.note(kind, "a source of kind `environment` needs `variable`".to_owned(), None);
                None
            }
            _ => {
                self.note(
                    kind,
                    format!("a source of kind `{kind_name}` does not take these keys"),
                    Some("`path` belongs to `file`, `variable` to `environment`"),
                );
                None
            }
        }
    }

    /// The name of an environment variable.
    pub(super) fn variable(&mut self, at: &At<String>) -> Option<String> {
        let name = self.text(at, "the variable's name")?;
        if name.contains('=') {
            self.note(at, "a variable's name holds no `=`".to_owned(), None);
            return None;
        }
        Some(name)
    }

    /// `Some(None)` when nothing is written, `None` when it is wrong.
    #[expect(clippy::option_option, reason = "every check returns None once it has noted a problem")]
    pub(super) fn optional_text(&mut self, at: Option<&At<String>>, what: &str) -> Option<Option<String>> {
        at.map_or(Some(None), |at| self.text(at, what).map(Some))
    }
}
