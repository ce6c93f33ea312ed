//! A request as policy sees it, and what speaks against it before policy does.

use std::{net::IpAddr, sync::Arc};

use super::{credential::Credential, refusal::Refusal, target::HttpTarget};
use crate::{
    domain::{
        decision::Denial,
        http::{Details, HttpRequest, Method, NamedValues},
    },
    protocol::http::{self, Form, Framing, Host, Malformed, Request},
};

/// Fields that hold credentials, whatever the target's is.
const CREDENTIALS: &[&str] = &["authorization", "proxy-authorization", "cookie"];

/// How a request's connection was made.
pub(super) struct Connection<'a> {
    /// The address that was dialled.
    pub(super) address: IpAddr,
    /// Its port.
    pub(super) port: u16,
    /// The names that trusted servers gave that address for.
    pub(super) asked: &'a [Arc<str>],
    /// Whether the client speaks TLS.
    pub(super) secure: bool,
    /// The name that it asked for in TLS.
    pub(super) asked_for: Option<&'a Host>,
}

/// A request that can be put to the policies.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) paths: Vec<String>,
    pub(super) content_type: Option<String>,
    pub(super) content_length: Option<u64>,
}

impl Judged {
    /// Reads a request for a target.
    ///
    /// # Errors
    /// What no policy can permit.
    pub(super) fn read(
        request: &Request,
        target: &HttpTarget,
        connection: &Connection<'_>,
    ) -> Result<Self, Refusal> {
        check_host(request, target, connection)?;
        if request.method() == Method::Trace.as_str() && target.credential.is_some() {
            let reason = "TRACE would show the credential that nodegate adds";
            return Err(Refusal::forbidden(Denial::builtin(reason, "Use another method.", "http-method")));
        }
        Self::of(request)
    }

    /// The same wherever it is for.
    ///
    /// # Errors
    /// What no policy can permit.
    pub(super) fn of(request: &Request) -> Result<Self, Refusal> {
        let host = &request.authority.host;
        if let Some(upgrade) = request.fields.first("upgrade")
            && !upgrade.eq_ignore_ascii_case(b"h2c")
        {
            let hint = "Use another way to reach the server, or ask the operator.";
            let reason = "the request asks for another protocol by Upgrade, which is not passed on";
            return Err(Refusal::forbidden(Denial::builtin(reason, hint, "http-upgrade")));
        }
        let method = method(request)?;
        let paths = if request.form == Form::Asterisk {
            vec!["/".to_owned()]
        } else {
            http::readings(request.path()).map_err(Refusal::path)?
        };
        let mut types = request.fields.all("content-type");
        let content_type = types.next().map(media_type);
        if types.next().is_some() {
            return Err(Refusal::malformed(&Malformed::Repeated("Content-Type")));
        }
        let content_length = match request.framing {
            Framing::None => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        Ok(Self { method, host: host.to_string(), paths, content_type, content_length })
    }

    /// As policy sees it.
    pub(super) fn asked<'a>(&'a self, secure: bool, rest: &'a Rest<'a>) -> HttpRequest<'a> {
        HttpRequest {
            method: self.method,
            host: &self.host,
            paths: &self.paths,
            secure,
            content_type: self.content_type.as_deref(),
            content_length: self.content_length,
            details: rest,
        }
    }
}

/// Host, what was asked for in TLS, and what was dialled must be one place.
fn check_host(request: &Request, target: &HttpTarget, connection: &Connection<'_>) -> Result<(), Refusal> {
    let host = &request.authority.host;
    if request.secure.is_some_and(|secure| secure != connection.secure) {
        return Err(Refusal::malformed(&Malformed::Target("has another scheme than the connection")));
    }
    if let Some(port) = request.authority.port
        && port != connection.port
    {
        let (named, dialled) = (port, connection.port);
        return Err(Refusal::misdirected(format!("Host names port {named}, and port {dialled} was dialled")));
    }
    let admits = |host: &Host| target.hosts.admit(host, connection.address, connection.asked, target.proof());
    if let Some(asked_for) = connection.asked_for
        && !admits(asked_for)
    {
        let reason =
            format!("{asked_for}, which TLS was asked for, is not a host of target {}", target.facts.name);
        return Err(Refusal::misdirected(reason));
    }
    if !admits(host) {
        let reason = format!("{host} is not a host of target {}, which was dialled", target.facts.name);
        return Err(Refusal::misdirected(reason));
    }
    Ok(())
}

fn method(request: &Request) -> Result<Method, Refusal> {
    let refuse =
        |reason: String, hint: &str| Err(Refusal::forbidden(Denial::builtin(reason, hint, "http-method")));
    match Method::named(request.method()) {
        Some(Method::Connect) => {
            refuse("tunnels are not passed on".to_owned(), "Connect to the server directly.")
        }
        Some(method) => Ok(method),
        None => refuse(
            "the request's method is not one that policies know".to_owned(),
            "Use GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE, in capital letters.",
        ),
    }
}

fn media_type(value: &[u8]) -> String {
    let value = value.split(|byte| *byte == b';').next().unwrap_or_default();
    String::from_utf8_lossy(value).trim().to_ascii_lowercase()
}

/// What only some policies look at.
pub(super) struct Rest<'a> {
    pub(super) request: &'a Request,
    pub(super) credential: Option<&'a Credential>,
}

impl Details for Rest<'_> {
    fn query(&self) -> NamedValues {
        self.request.query().map(http::parameters).unwrap_or_default()
    }

    fn headers(&self) -> NamedValues {
        let mut values = NamedValues::new();
        for field in self.request.fields.iter() {
            let is_secret = CREDENTIALS.iter().any(|name| field.resembles(name))
                || self.credential.is_some_and(|credential| credential.displaces(&field));
            if !is_secret {
                let name = String::from_utf8_lossy(field.name).to_ascii_lowercase();
                let value = String::from_utf8_lossy(field.value).into_owned();
                values.entry(name).or_default().insert(value);
            }
        }
        values
    }
}

/// A query without the parameter `name`, in whatever reading of it.
pub(super) fn without_parameter(query: &str, name: &str) -> String {
    let is_it = |part: &&str| !http::parameters(part).contains_key(name);
    let pairs = query.split('&').map(|pair| pair.split(';').filter(is_it).collect::<Vec<_>>().join(";"));
    pairs.filter(|pair| !pair.is_empty()).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::without_parameter;

    #[test]
    fn a_parameter_goes_in_every_reading() {
        assert_eq!(without_parameter("a=1&key=2&b=3", "key"), "a=1&b=3");
        assert_eq!(without_parameter("k%65y=2&a=1;key=2;b=3&key", "key"), "a=1;b=3");
        assert_eq!(without_parameter("keys=2&q=key", "key"), "keys=2&q=key");
        assert_eq!(without_parameter("a+key=1&a key=2", "a key"), "");
    }
}
