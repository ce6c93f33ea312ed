//! The variables by which programs that ship a list of their own, or read none of the machine's, are told what to trust.
//!
//! Which program honours which was looked at with each of them (docs/trust.md). Never among them: `NODE_OPTIONS`, whose
//! unknown words end older Nodes, and `PGSSLROOTCERT`, whose presence alone turns libpq's `sslmode=require` into a check.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::{TrustError, bundle, certificate::Certificate, stores};

/// What a variable does with the file that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The file takes the place of what the program would trust: it has to hold everything.
    Replaces(&'static str),
    /// The file comes on top.
    Adds(&'static str),
    /// A switch that has the program look at the machine's store.
    Switches(&'static str, &'static str),
}

/// All of them.
pub const VARIABLES: [Variable; 13] = [
    Variable::Replaces("SSL_CERT_FILE"),
    Variable::Replaces("REQUESTS_CA_BUNDLE"),
    Variable::Replaces("PIP_CERT"),
    Variable::Replaces("AWS_CA_BUNDLE"),
    Variable::Replaces("CURL_CA_BUNDLE"),
    Variable::Replaces("GIT_SSL_CAINFO"),
    Variable::Replaces("CARGO_HTTP_CAINFO"),
    Variable::Replaces("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    Variable::Replaces("HTTPLIB2_CA_CERTS"),
    Variable::Adds("NODE_EXTRA_CA_CERTS"),
    Variable::Switches("DENO_TLS_CA_STORE", "system"),
    Variable::Switches("UV_SYSTEM_CERTS", "1"),
    Variable::Switches("NODE_USE_SYSTEM_CA", "1"),
];

/// What the environment gets: what was named there stays in force, with the authority beside it.
pub(super) fn of(
    certificate: &Certificate,
    places: &stores::Places,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<(&'static str, OsString)>, TrustError> {
    let mut variables = Vec::new();
    for variable in VARIABLES {
        let (name, otherwise) = match variable {
            Variable::Switches(name, value) => {
                // Somebody who has set it meant something by it.
                if environment(name).is_none() {
                    variables.push((name, value.into()));
                }
                continue;
            }
            Variable::Replaces(name) => (name, places.bundle.as_deref()),
            Variable::Adds(name) => (name, Some(places.authority.as_path())),
        };
        let named = environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let file = match named {
            Some(named) => Some(merged(certificate, &named, &places.folder, name)?),
            // Without a bundle of the machine's it would replace what the program brings along by the authority alone.
            None => otherwise.map(Path::to_owned),
        };
        variables.extend(file.map(|file| (name, file.into_os_string())));
    }
    Ok(variables)
}

/// What somebody named himself, with the authority behind it. One that cannot be read is left to the program's error.
fn merged(certificate: &Certificate, named: &Path, folder: &Path, name: &str) -> Result<PathBuf, TrustError> {
    if !named.is_file() {
        return Ok(named.to_owned());
    }
    let path = folder.join(format!("nodegate-{}.crt", name.to_ascii_lowercase()));
    stores::write(&path, &bundle::with(named, certificate)?)?;
    Ok(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::fs;

    use super::{super::certificate::tests::authority, *};

    #[test]
    fn what_somebody_set_stays_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("own.pem");
        fs::write(&own, "# own\n").unwrap();
        let certificate = Certificate::from_pem(&authority()).unwrap();
        let places = stores::in_scratch(&certificate, dir.path()).unwrap();
        let set = |name: &str| match name {
            "SSL_CERT_FILE" => Some(own.clone().into_os_string()),
            "PIP_CERT" => Some("/nowhere".into()),
            "DENO_TLS_CA_STORE" => Some("mozilla".into()),
            _ => None,
        };
        let variables = of(&certificate, &places, set).unwrap();
        let of = |name| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.clone());
        let merged = fs::read_to_string(of("SSL_CERT_FILE").unwrap()).unwrap();
        assert_eq!(merged, format!("# own\n{}", certificate.pem()));
        assert_eq!(of("PIP_CERT").unwrap(), "/nowhere");
        assert_eq!(of("DENO_TLS_CA_STORE"), None);
        assert_eq!(of("NODE_EXTRA_CA_CERTS").map(PathBuf::from), Some(places.authority));
        assert_eq!(of("REQUESTS_CA_BUNDLE").map(PathBuf::from), places.bundle);
    }

    #[test]
    fn nothing_is_replaced_where_the_machine_has_no_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = Certificate::from_pem(&authority()).unwrap();
        let places = stores::Places {
            bundle: None,
            authority: dir.path().join("nodegate.pem"),
            folder: dir.path().to_owned(),
        };
        let variables = of(&certificate, &places, |_| None).unwrap();
        let replaced = |name| VARIABLES.contains(&Variable::Replaces(name));
        assert!(variables.iter().all(|(name, _)| !replaced(*name)), "{variables:?}");
    }
}
