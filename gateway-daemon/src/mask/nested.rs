//! Values made of values: arrays, composites, hstore. Their form is kept (dimensions, bounds, NULLs, keys); each value in
//! them is replaced by what a closure writes for it. What is not in the form that PostgreSQL sends becomes NULL as a whole.
//! <https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>, <https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX>

use bytes::{BufMut, BytesMut};

use super::masker::Outcome;

/// PostgreSQL's MAXDIM.
const MAX_DIMENSIONS: usize = 6;

/// Rewrites an array in binary form: dimensions, whether there are NULLs, element type, bounds, elements.
pub(super) fn binary_array(
    value: &[u8],
    out: &mut BytesMut,
    mut element: impl FnMut(&[u8], &mut BytesMut) -> Outcome,
) -> Option<()> {
    let (dimensions, rest) = value.split_first_chunk::<4>()?;
    let dimensions =
        usize::try_from(i32::from_be_bytes(*dimensions)).ok().filter(|count| *count <= MAX_DIMENSIONS)?;
    let (_, rest) = rest.split_at_checked(8)?;
    let (bounds, mut rest) = rest.split_at_checked(dimensions * 8)?;
    let mut count: usize = usize::from(dimensions > 0);
    for bound in bounds.chunks_exact(8) {
        let length = i32::from_be_bytes(*bound.first_chunk()?);
        count = count.checked_mul(usize::try_from(length).ok()?)?;
    }
    let flags_at = out.len() + 4;
    out.put_slice(value.get(..12 + dimensions * 8)?);
    let mut has_null = false;
    for _ in 0..count {
        has_null |= put_binary(&mut rest, out, &mut element)? == Outcome::Null;
    }
    let flags = out.get_mut(flags_at..).and_then(<[u8]>::first_chunk_mut::<4>)?;
    *flags = u32::from(has_null).to_be_bytes();
    rest.is_empty().then_some(())
}

/// Rewrites a composite in binary form: how many fields, then type and value of each.
pub(super) fn binary_composite(
    value: &[u8],
    fields: usize,
    out: &mut BytesMut,
    mut field: impl FnMut(usize, &[u8], &mut BytesMut) -> Outcome,
) -> Option<()> {
    let (count, mut rest) = value.split_first_chunk::<4>()?;
    if usize::try_from(i32::from_be_bytes(*count)).ok()? != fields {
        return None;
    }
    out.put_slice(count);
    for index in 0..fields {
        let (type_oid, after) = rest.split_first_chunk::<4>()?;
        out.put_slice(type_oid);
        rest = after;
        put_binary(&mut rest, out, |value, out| field(index, value, out))?;
    }
    rest.is_empty().then_some(())
}

/// Reads one value with its length in front, and writes what stands for it.
fn put_binary(
    rest: &mut &[u8],
    out: &mut BytesMut,
    mut write: impl FnMut(&[u8], &mut BytesMut) -> Outcome,
) -> Option<Outcome> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length_at = out.len();
    out.put_i32(-1);
    let length = i32::from_be_bytes(*length);
    if length == -1 {
        *rest = after;
        return Some(Outcome::Null);
    }
    let (value, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    let value_at = out.len();
    let outcome = write(value, out);
    match outcome {
        Outcome::Null => out.truncate(value_at),
        Outcome::Written => {
            let length = i32::try_from(out.len() - value_at).ok()?;
            *out.get_mut(length_at..).and_then(<[u8]>::first_chunk_mut::<4>)? = length.to_be_bytes();
        }
    }
    Some(outcome)
}

/// Rewrites an array in text form, `[0:1]={a,"b c",NULL,{…}}`.
pub(super) fn text_array(
    value: &[u8],
    out: &mut BytesMut,
    mut element: impl FnMut(&[u8], &mut BytesMut) -> Outcome,
) -> Option<()> {
    let opening = value.iter().position(|byte| *byte == b'{')?;
    let (bounds, mut rest) = value.split_at(opening);
    let is_bounds = bounds.is_empty()
        || bounds.ends_with(b"=") && bounds.iter().all(|byte| b"[]:=-0123456789".contains(byte));
    if !is_bounds {
        return None;
    }
    out.put_slice(bounds);
    let mut depth = 0_usize;
    let (mut read, mut written) = (Vec::new(), BytesMut::new());
    loop {
        let (&byte, after) = rest.split_first()?;
        match byte {
            b'{' => {
                depth += 1;
                out.put_u8(byte);
                rest = after;
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                out.put_u8(byte);
                rest = after;
                if depth == 0 {
                    return rest.is_empty().then_some(());
                }
            }
            b',' => {
                out.put_u8(byte);
                rest = after;
            }
            _ => {
                read.clear();
                let quoted = read_element(&mut rest, &mut read)?;
                if quoted == Quotes::None && read.eq_ignore_ascii_case(b"null") {
                    out.put_slice(b"NULL");
                    continue;
                }
                written.clear();
                match element(&read, &mut written) {
                    Outcome::Null => out.put_slice(b"NULL"),
                    Outcome::Written => put_element(&written, out),
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    None,
    Some,
}

fn read_element(rest: &mut &[u8], read: &mut Vec<u8>) -> Option<Quotes> {
    let (quotes, mut tail) = match rest.strip_prefix(b"\"") {
        Some(tail) => (Quotes::Some, tail),
        None => (Quotes::None, *rest),
    };
    loop {
        match (quotes, tail) {
            (Quotes::Some, [b'"', after @ ..]) => {
                *rest = after;
                return Some(quotes);
            }
            (Quotes::None, [b',' | b'}', ..]) => {
                *rest = tail;
                return Some(quotes);
            }
            (_, [b'\\', byte, after @ ..] | [byte, after @ ..]) => {
                read.push(*byte);
                tail = after;
            }
            (_, []) => return None,
        }
    }
}

fn put_element(element: &[u8], out: &mut BytesMut) {
    let is_plain = !element.is_empty()
        && !element.eq_ignore_ascii_case(b"null")
        && !element.iter().any(|byte| b"\"\\{},".contains(byte) || byte.is_ascii_whitespace());
    if is_plain {
        out.put_slice(element);
        return;
    }
    put_quoted(element, out);
}

fn put_quoted(text: &[u8], out: &mut BytesMut) {
    out.put_u8(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

/// Rewrites a composite in text form, `(a,"b c",)`. A NULL is nothing between two commas.
pub(super) fn text_composite(
    value: &[u8],
    fields: usize,
    out: &mut BytesMut,
    mut field: impl FnMut(usize, &[u8], &mut BytesMut) -> Outcome,
) -> Option<()> {
    let mut rest = value.strip_prefix(b"(")?;
    out.put_u8(b'(');
    if fields == 0 {
        out.put_u8(b')');
        return (rest == b")").then_some(());
    }
    let (mut read, mut written) = (Vec::new(), BytesMut::new());
    for index in 0..fields {
        if index > 0 {
            out.put_u8(b',');
        }
        read.clear();
        let is_null = matches!(rest, [b',' | b')', ..]);
        let end = read_field(&mut rest, &mut read)?;
        if end != if index + 1 == fields { b')' } else { b',' } {
            return None;
        }
        written.clear();
        if !is_null && field(index, &read, &mut written) == Outcome::Written {
            put_field(&written, out);
        }
    }
    out.put_u8(b')');
    rest.is_empty().then_some(())
}

/// Reads up to and with the sign that ends the field. Quotes may begin anywhere; inside, both `""` and `\"` are one.
fn read_field(rest: &mut &[u8], read: &mut Vec<u8>) -> Option<u8> {
    let mut is_quoted = false;
    loop {
        match *rest {
            [b'"', b'"', after @ ..] if is_quoted => {
                read.push(b'"');
                *rest = after;
            }
            [b'"', after @ ..] => {
                is_quoted = !is_quoted;
                *rest = after;
            }
            [end @ (b',' | b')'), after @ ..] if !is_quoted => {
                *rest = after;
                return Some(*end);
            }
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                read.push(*byte);
                *rest = after;
            }
            [] => return None,
        }
    }
}

fn put_field(field: &[u8], out: &mut BytesMut) {
    let is_plain = !field.is_empty()
        && !field.iter().any(|byte| b"\"\\(),".contains(byte) || byte.is_ascii_whitespace());
    if is_plain {
        out.put_slice(field);
        return;
    }
    out.put_u8(b'"');
    for byte in field {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(*byte);
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

/// A key and its value, which may be NULL.
pub(super) type Pair = (Vec<u8>, Option<Vec<u8>>);

/// The pairs of an hstore in text form, `"a"=>"1", "b"=>NULL`.
pub(super) fn read_text_hstore(value: &[u8]) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut rest = value;
    while !rest.is_empty() {
        if !pairs.is_empty() {
            rest = rest.strip_prefix(b", ")?;
        }
        let mut key = Vec::new();
        rest.first().filter(|byte| **byte == b'"')?;
        read_element(&mut rest, &mut key)?;
        rest = rest.strip_prefix(b"=>")?;
        if let Some(after) = rest.strip_prefix(b"NULL") {
            rest = after;
            pairs.push((key, None));
            continue;
        }
        let mut held = Vec::new();
        rest.first().filter(|byte| **byte == b'"')?;
        read_element(&mut rest, &mut held)?;
        pairs.push((key, Some(held)));
    }
    Some(pairs)
}

/// The same in binary form: how many, then length and bytes of each key and value.
pub(super) fn read_binary_hstore(value: &[u8]) -> Option<Vec<Pair>> {
    let (count, mut rest) = value.split_first_chunk::<4>()?;
    let mut pairs = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let key = read_counted(&mut rest)?;
        let is_null = rest.starts_with(&(-1_i32).to_be_bytes());
        let held = if is_null { None } else { Some(read_counted(&mut rest)?) };
        if is_null {
            rest = rest.get(4..)?;
        }
        pairs.push((key, held));
    }
    rest.is_empty().then_some(pairs)
}

fn read_counted(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    let (value, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(value.to_vec())
}

/// Writes an hstore in text form.
pub(super) fn put_text_hstore(pairs: &[Pair], out: &mut BytesMut) {
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.put_slice(b", ");
        }
        put_quoted(key, out);
        out.put_slice(b"=>");
        match value {
            Some(value) => put_quoted(value, out),
            None => out.put_slice(b"NULL"),
        }
    }
}

/// Writes an hstore in binary form.
pub(super) fn put_binary_hstore(pairs: &[Pair], out: &mut BytesMut) -> Option<()> {
    out.put_i32(i32::try_from(pairs.len()).ok()?);
    for (key, value) in pairs {
        out.put_i32(i32::try_from(key.len()).ok()?);
        out.put_slice(key);
        match value {
            Some(value) => {
                out.put_i32(i32::try_from(value.len()).ok()?);
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
    Some(())
}
