//! An HTTP request as policy sees it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// Names and the values that each has, in every reading.
pub type NamedValues = BTreeMap<String, BTreeSet<String>>;

/// The methods that policies know. Others are refused: nobody knows what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Reads all but the content.
    Head,
    /// Asks what may be done.
    Options,
    /// Does what the resource does with it.
    Post,
    /// Creates or replaces.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
    /// Opens a tunnel.
    Connect,
    /// Shows the request as it arrived.
    Trace,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Options,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Connect,
        Self::Trace,
    ];

    /// As it stands in a request, and in policies behind `http:`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
        }
    }

    /// The method of that name; letter case counts, as it does to servers.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }

    /// Whether it only reads: nothing is left of it when its reply is lost.
    pub const fn only_reads(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What only some policies look at, worked out when one does.
pub trait Details {
    /// The query's parameters.
    fn query(&self) -> NamedValues;
    /// The fields, by lower-case name, without those that hold credentials.
    fn headers(&self) -> NamedValues;
}

/// A request for content of the HTTP kind.
#[derive(Clone, Copy)]
pub struct HttpRequest<'a> {
    /// What is to be done.
    pub method: Method,
    /// The host: lower case, without a dot at its end and without a port; IPv6 addresses in brackets.
    pub host: &'a str,
    /// Every reading of the path, at least one. Policy must permit all of them.
    pub paths: &'a [String],
    /// Whether it comes under TLS.
    pub secure: bool,
    /// The content's media type, lower case, without parameters.
    pub content_type: Option<&'a str>,
    /// How long the content is, where the head says so; 0 where there is none.
    pub content_length: Option<u64>,
    /// The rest.
    pub details: &'a dyn Details,
}

#[cfg(test)]
mod tests {
    use super::Method;

    #[test]
    fn every_method_has_its_name_and_letter_case_counts() {
        for method in Method::ALL {
            assert_eq!(Method::named(method.as_str()), Some(method));
        }
        assert_eq!(Method::named("get"), None);
        assert_eq!(Method::named("PROPFIND"), None);
    }
}
