//! Names out of the parse tree: lists of strings, integers, definition elements.

use pg_query::protobuf::{DefElem, a_const};
use pg_query::{Node, NodeEnum};

use super::error::SqlError;
use super::nodes::kind;

/// The node inside the wrapper, if the grammar put one there.
pub(super) fn inner(node: &Node) -> Option<&NodeEnum> {
    node.node.as_ref()
}

/// The text of a String node.
pub(super) fn text(node: &Node) -> Option<&str> {
    match inner(node)? {
        NodeEnum::String(string) => Some(&string.sval),
        _ => None,
    }
}

/// A dotted name as its parts. Anything but String nodes in it is an error.
pub(super) fn parts(nodes: &[Node]) -> Result<Vec<&str>, SqlError> {
    nodes.iter().map(|node| text(node).ok_or_else(|| unexpected(node))).collect()
}

/// The error for a node that has no business where it stands.
pub(super) fn unexpected(node: &Node) -> SqlError {
    SqlError::UnknownNode { kind: inner(node).map_or("(empty)", kind) }
}

/// The integer of a constant.
pub(super) fn integer(node: &Node) -> Option<i32> {
    match inner(node)? {
        NodeEnum::AConst(constant) if !constant.isnull => match constant.val.as_ref() {
            Some(a_const::Val::Ival(integer)) => Some(integer.ival),
            None => Some(0), // an integer zero has no bytes in protobuf
            Some(_) => None,
        },
        NodeEnum::Integer(integer) => Some(integer.ival),
        _ => None,
    }
}

/// The text of a string constant, a bare word or a number, lower-cased as settings compare them.
pub(super) fn setting_text(node: &Node) -> Option<String> {
    match inner(node)? {
        NodeEnum::String(string) => Some(string.sval.to_ascii_lowercase()),
        NodeEnum::Integer(integer) => Some(integer.ival.to_string()),
        NodeEnum::Float(float) => Some(float.fval.to_ascii_lowercase()),
        NodeEnum::Boolean(boolean) => Some(boolean.boolval.to_string()),
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(string) => Some(string.sval.to_ascii_lowercase()),
            a_const::Val::Ival(integer) => Some(integer.ival.to_string()),
            a_const::Val::Fval(float) => Some(float.fval.to_ascii_lowercase()),
            a_const::Val::Boolval(boolean) => Some(boolean.boolval.to_string()),
            a_const::Val::Bsval(_) => None,
        },
        _ => None,
    }
}

/// The definition element, or an error.
pub(super) fn definition(node: &Node) -> Result<&DefElem, SqlError> {
    match inner(node) {
        Some(NodeEnum::DefElem(element)) => Ok(element),
        _ => Err(unexpected(node)),
    }
}
