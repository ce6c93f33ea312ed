//! What the configuration says of identities, checked once for what would make verification ambiguous.

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{IdentityError, fetch};

/// One issuer that is trusted to name callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// Short name, for messages and `Group::"<name>/<group>"`.
    pub name: String,
    /// The exact `iss` claim.
    pub issuer: String,
    /// Accepted audiences; a token must name at least one. Never empty.
    pub audiences: Vec<String>,
    /// Claim that holds the groups: a top-level name, else a dotted path such as `realm_access.roles`.
    pub groups_claim: Option<String>,
    /// Claim that holds the roles, likewise.
    pub roles_claim: Option<String>,
    /// Further claims that policies may read, likewise.
    pub claims: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// How far the clocks may differ, for `exp`, `nbf` and `iat`. At most [`IssuerSettings::LONGEST_LEEWAY`].
    pub leeway: Duration,
}

impl IssuerSettings {
    /// What the configuration uses when it says nothing.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
    /// More than this is no clock skew any more.
    pub const LONGEST_LEEWAY: Duration = Duration::from_mins(5);
}

/// Where an issuer's public keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// OpenID Connect discovery below the issuer's URL, over HTTPS only.
    Discovery {
        /// PEM file of the certificate authorities to trust for it, instead of the system's.
        ca: Option<PathBuf>,
    },
    /// A local JWKS file, read again when it changes.
    JwksFile(PathBuf),
}

/// A place where a captured cgroup's token may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {
    /// Handed to the daemon for the cgroup.
    Enrolled,
    /// A file, as the connecting process sees it and with its own permissions.
    File {
        /// Absolute path inside the process's root.
        path: PathBuf,
    },
    /// A variable in the connecting process's initial environment.
    Environment {
        /// Its name.
        variable: String,
    },
}

impl fmt::Display for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enrolled => f.write_str("enrolled tokens"),
            Self::File { path } => write!(f, "file {}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
        }
    }
}

/// Refuses settings under which two issuers, or two principals, could be taken for one another.
pub(super) fn check(issuers: &[IssuerSettings], sources: &[SourceSettings]) -> Result<(), IdentityError> {
    let (mut names, mut urls) = (HashSet::new(), HashSet::new());
    for settings in issuers {
        check_issuer(settings)?;
        if !names.insert(&settings.name) {
            return refuse(format!("two issuers are named {}", settings.name));
        }
        if !urls.insert(&settings.issuer) {
            return refuse(format!("two issuers have the URL {}", settings.issuer));
        }
    }
    sources.iter().try_for_each(check_source)
}

fn check_issuer(settings: &IssuerSettings) -> Result<(), IdentityError> {
    let IssuerSettings { name, issuer, audiences, keys, leeway, .. } = settings;
    if name.is_empty() || name.contains(['/', '|']) || name.chars().any(char::is_control) {
        return refuse(format!("issuer name {name:?} is empty or holds '/', '|' or a control character"));
    }
    // '|' separates issuer and subject in a principal's id.
    if issuer.is_empty()
        || issuer.contains('|')
        || issuer.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return refuse(format!("issuer {name}: {issuer:?} cannot be an issuer"));
    }
    if audiences.is_empty() || audiences.iter().any(String::is_empty) {
        return refuse(format!("issuer {name} needs an audience: a token for anybody is no identity here"));
    }
    let claims = settings.groups_claim.iter().chain(&settings.roles_claim).chain(&settings.claims);
    if claims.into_iter().any(String::is_empty) {
        return refuse(format!("issuer {name} names an empty claim"));
    }
    if *leeway > IssuerSettings::LONGEST_LEEWAY {
        return refuse(format!("issuer {name}: a leeway of more than 5 minutes would revive expired tokens"));
    }
    match keys {
        KeySource::Discovery { .. } => fetch::discovery_url(issuer)
            .map(|_| ())
            .or_else(|problem| refuse(format!("issuer {name}: {problem}"))),
        KeySource::JwksFile(_) => Ok(()),
    }
}

fn check_source(source: &SourceSettings) -> Result<(), IdentityError> {
    match source {
        SourceSettings::File { path } if !path.is_absolute() || path == Path::new("/") => {
            refuse(format!("the token file {} must be an absolute path of a file", path.display()))
        }
        SourceSettings::Environment { variable } if variable.is_empty() || variable.contains(['=', '\0']) => {
            refuse(format!("{variable:?} cannot be an environment variable"))
        }
        SourceSettings::Enrolled | SourceSettings::File { .. } | SourceSettings::Environment { .. } => Ok(()),
    }
}

fn refuse<T>(message: String) -> Result<T, IdentityError> {
    Err(IdentityError::Settings(message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn issuer() -> IssuerSettings {
        IssuerSettings {
            name: "ci".into(),
            issuer: "https://ci.example".into(),
            audiences: vec!["nodegate".into()],
            groups_claim: None,
            roles_claim: None,
            claims: vec![],
            keys: KeySource::Discovery { ca: None },
            leeway: IssuerSettings::DEFAULT_LEEWAY,
        }
    }

    #[test]
    fn settings_that_would_make_identities_ambiguous_are_refused() {
        assert!(check(&[issuer()], &[]).is_ok());
        let broken: [fn(&mut IssuerSettings); 12] = [
            |i| i.name = "a/b".into(),
            |i| i.name = String::new(),
            |i| i.issuer = "https://ci.example|root".into(),
            |i| i.issuer = "http://ci.example".into(),
            |i| i.issuer = "https://ci.example/?tenant=1".into(),
            |i| i.issuer = "https://user@ci.example/".into(),
            |i| i.issuer = "https://ci.example/#x".into(),
            |i| i.issuer = "ci".into(),
            |i| i.audiences.clear(),
            |i| i.audiences.push(String::new()),
            |i| i.claims.push(String::new()),
            |i| i.leeway = Duration::from_secs(301),
        ];
        for (number, change) in broken.iter().enumerate() {
            let mut settings = issuer();
            change(&mut settings);
            assert!(matches!(check(&[settings], &[]), Err(IdentityError::Settings(_))), "{number}");
        }
        let mut renamed = issuer();
        renamed.name = "other".into();
        assert!(check(&[issuer(), renamed], &[]).is_err(), "one URL twice");
        let mut moved = issuer();
        moved.issuer = "https://other.example".into();
        assert!(check(&[issuer(), moved], &[]).is_err(), "one name twice");
    }

    #[test]
    fn sources_must_be_exact() {
        for source in [
            SourceSettings::File { path: "token".into() },
            SourceSettings::File { path: "/".into() },
            SourceSettings::Environment { variable: String::new() },
            SourceSettings::Environment { variable: "A=B".into() },
        ] {
            assert!(check(&[], std::slice::from_ref(&source)).is_err(), "{source}");
        }
    }
}
