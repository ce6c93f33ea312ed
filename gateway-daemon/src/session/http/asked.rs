//! A request in words, `POST https://host/path`, judged as one that came: for those who want to know what would become of
//! it.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{
    judge::{Judged, Rest},
    refusal::Refusal,
};
use crate::{
    domain::{decision::Denial, http::HttpRequest},
    protocol::http::{HeadEnd, Limits, Malformed, Request},
};

/// A request that was read.
#[derive(Debug)]
pub struct Asked {
    request: Request,
    judged: Judged,
    secure: bool,
}

/// Why there is none.
#[derive(Debug)]
pub enum Unasked {
    /// The words are not those of a request.
    Words(String),
    /// No policy can permit it.
    Refused(Denial),
}

impl Asked {
    /// Reads `METHOD URL` and fields.
    ///
    /// # Errors
    /// [`Unasked`].
    pub fn read<'f>(
        text: &str,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
    ) -> Result<Self, Unasked> {
        let usage =
            || Unasked::Words("write METHOD and URL: `GET https://api.github.com/repos/acme`".to_owned());
        let (method, url) = text.trim().split_once(' ').ok_or_else(usage)?;
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            (None, None) => return Err(usage()),
        };
        let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let slash = if target.starts_with('/') { "" } else { "/" };
        let mut head = format!("{method} {slash}{target} HTTP/1.1\r\nHost: {host}\r\n");
        for (name, value) in fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let refused = |refusal: Refusal| Unasked::Refused(refusal.denial);
        let malformed = |why: Malformed| refused(Refusal::malformed(&why));
        let limits = Limits::default();
        let whole = HeadEnd::default().find(head.as_bytes(), "the head", limits.head_bytes);
        if whole.map_err(malformed)? != Some(head.len()) {
            return Err(usage());
        }
        let request = Request::read(Bytes::from(head), &limits).map_err(malformed)?;
        let judged = Judged::of(&request).map_err(refused)?;
        Ok(Self { request, judged, secure })
    }

    /// Lends the question that it poses.
    pub fn judge<T>(&self, work: impl FnOnce(&HttpRequest<'_>) -> T) -> T {
        let rest = Rest { request: &self.request, credential: None };
        work(&self.judged.asked(self.secure, &rest))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::{Asked, Unasked};

    #[test]
    fn a_request_in_words_is_read_as_one_that_came() {
        let asked = Asked::read("GET https://API.internal:8443/a/../b?x=1", [("X-A", "b")]).unwrap();
        asked.judge(|request| {
            assert_eq!((request.host, request.secure), ("api.internal", true));
            assert_eq!(request.paths, ["/a/../b", "/b"]);
            assert!(request.details.query().contains_key("x"));
            assert!(request.details.headers().contains_key("x-a"));
        });
        assert!(Asked::read("GET https://api.internal", []).is_ok());
        assert!(matches!(Asked::read("GET /a", []), Err(Unasked::Words(_))));
        assert!(matches!(Asked::read("https://a/", []), Err(Unasked::Words(_))));
        for (text, rule) in [
            ("get https://a/", "builtin/http-method"),
            ("GET https://a/%00", "builtin/http-path"),
            ("GET https://a/ b", "builtin/http-malformed"),
        ] {
            let Err(Unasked::Refused(denial)) = Asked::read(text, []) else { panic!("{text}") };
            assert_eq!(denial.policies.first().unwrap().to_string(), rule);
        }
    }
}
