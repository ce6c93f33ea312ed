//! A request's head (RFC 9112 §3).

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{
    authority::Authority,
    error::Malformed,
    fields::{Field, Fields},
    framing::Framing,
    head::Limits,
    syntax::is_token,
};

/// What the peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The form of a request's target (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A path: `/a?b`.
    Origin,
    /// A whole URL, which agrees with Host.
    Absolute,
    /// `*`, of OPTIONS.
    Asterisk,
    /// `host:port`, of CONNECT.
    Authority,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    head: Bytes,
    method: Range<usize>,
    path: Range<usize>,
    query: Option<Range<usize>>,
    /// The form of its target.
    pub form: Form,
    /// Whether an absolute target asks for `https`.
    pub secure: Option<bool>,
    /// The client's version.
    pub version: Version,
    /// Its fields.
    pub fields: Fields,
    /// Where it goes, as Host says.
    pub authority: Authority,
    /// How long its content is.
    pub framing: Framing,
}

impl Request {
    /// Reads a whole head, as `HeadEnd` found it.
    pub fn read(head: Bytes, limits: &Limits) -> Result<Self, Malformed> {
        let end = head.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed::RequestLine)?;
        let line = head.get(..end).unwrap_or_default();
        let first = line.iter().position(|byte| *byte == b' ').ok_or(Malformed::RequestLine)?;
        let second = line.iter().rposition(|byte| *byte == b' ').ok_or(Malformed::RequestLine)?;
        let method = line.get(..first).unwrap_or_default();
        let target = line.get(first + 1..second).ok_or(Malformed::RequestLine)?;
        if !is_token(method) || target.is_empty() {
            return Err(Malformed::RequestLine);
        }
        let version = version(line.get(second + 1..).unwrap_or_default())?;
        if target.len() > limits.target_bytes {
            return Err(Malformed::TooLong { what: "the request's target", limit: limits.target_bytes });
        }
        check_target(target)?;
        let method = 0..first;
        let fields = Fields::read(head.clone(), 1, limits)?;
        fields.check_connection()?;
        let framing = Framing::of_request(&fields, version)?;
        let host = {
            let mut hosts = fields.all("host");
            match (hosts.next(), hosts.next()) {
                (Some(host), None) => Authority::read(host)?,
                (None, _) => return Err(Malformed::Host("Host is missing")),
                (Some(_), Some(_)) => return Err(Malformed::Host("Host stands twice")),
            }
        };
        let is_connect = head.get(method.clone()) == Some(b"CONNECT");
        let (form, secure, path_start) = match target {
            _ if is_connect => {
                if Authority::read(target)? != host {
                    return Err(Malformed::Host("Host and the request's target name different hosts"));
                }
                (Form::Authority, None, target.len())
            }
            [b'/', ..] => (Form::Origin, None, 0),
            b"*" if head.get(method.clone()) == Some(b"OPTIONS") => (Form::Asterisk, None, 0),
            _ => {
                let (secure, scheme) = match target {
                    target if starts_with(target, b"http://") => (false, 7),
                    target if starts_with(target, b"https://") => (true, 8),
                    _ => return Err(Malformed::Target("has none of the forms that its method has")),
                };
                let rest = target.get(scheme..).unwrap_or_default();
                let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let named = Authority::read(rest.get(..length).unwrap_or_default())?;
                let standard = if secure { 443 } else { 80 };
                if named.host != host.host || named.port.unwrap_or(standard) != host.port.unwrap_or(standard)
                {
                    return Err(Malformed::Host("Host and the request's target name different hosts"));
                }
                (Form::Absolute, Some(secure), scheme + length)
            }
        };
        let path_start = first + 1 + path_start;
        let mark = head
            .get(path_start..second)
            .unwrap_or_default()
            .iter()
            .position(|byte| *byte == b'?')
            .map(|at| path_start + at);
        Ok(Self {
            path: path_start..mark.unwrap_or(second),
            query: mark.map(|mark| mark + 1..second),
            method,
            form,
            secure,
            version,
            authority: host,
            framing,
            fields,
            head,
        })
    }

    /// The method, in the letters that it came in: they count.
    pub fn method(&self) -> &str {
        self.text(&self.method)
    }

    /// The path as it came; `/` where an absolute target has none, `*` for the server as a whole.
    pub fn path(&self) -> &str {
        match self.text(&self.path) {
            "" => "/",
            path => path,
        }
    }

    /// What follows the first `?`, as it came.
    pub fn query(&self) -> Option<&str> {
        self.query.as_ref().map(|query| self.text(query))
    }

    /// Whether the client waits for word before it sends content.
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11
            && self.framing != Framing::None
            && self.fields.lists("expect", "100-continue")
    }

    /// Whether the client means to send another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        match self.version {
            Version::Http11 => !self.fields.lists("connection", "close"),
            Version::Http10 => false,
        }
    }

    /// Writes the head for the server: in origin form, without what belongs to the client's connection and what `keep`
    /// does not want, and with `extra` at its end. `query` stands in place of the one that came.
    pub fn put(
        &self,
        out: &mut BytesMut,
        query: Option<&str>,
        keep: impl Fn(&Field<'_>) -> bool,
        extra: &[(&str, &[u8])],
    ) {
        out.reserve(self.head.len() + 64);
        out.extend_from_slice(self.method().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(self.path().as_bytes());
        if let Some(query) = query {
            out.extend_from_slice(b"?");
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.fields.put(out, keep, extra);
    }

    fn text(&self, range: &Range<usize>) -> &str {
        self.head.get(range.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Fields {
    /// Writes these fields as they came, `extra` behind them, and the empty line.
    pub fn put(&self, out: &mut BytesMut, keep: impl Fn(&Field<'_>) -> bool, extra: &[(&str, &[u8])]) {
        for field in self.iter().filter(|field| !self.of_the_connection(field) && keep(field)) {
            out.extend_from_slice(field.line);
            out.extend_from_slice(b"\r\n");
        }
        for (name, value) in extra {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

pub(super) fn version(text: &[u8]) -> Result<Version, Malformed> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Malformed::Version),
    }
}

fn check_target(target: &[u8]) -> Result<(), Malformed> {
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(Malformed::RequestLine);
    }
    if target.contains(&b'#') {
        return Err(Malformed::Target("has a fragment, which no request has"));
    }
    if std::str::from_utf8(target).is_err() {
        return Err(Malformed::Target("is not UTF-8"));
    }
    Ok(())
}

fn starts_with(target: &[u8], scheme: &[u8]) -> bool {
    target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}
