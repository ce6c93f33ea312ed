//! Reads a client's messages, as strictly as the specification is written.

use super::{
    super::{
        super::wire::{Reader, WireError},
        Frame, formats, many,
    },
    Kind, Message,
};

/// Reads one message. An unknown type, a field that does not fit, and bytes that are left over are errors.
pub fn parse(frame: &Frame) -> Result<Message<'_>, WireError> {
    let mut reader = Reader::new(frame.body());
    let (what, message) = match frame.tag {
        b'Q' => ("Query", Message::Query(reader.cstr("query text")?)),
        b'P' => ("Parse", parse_statement(&mut reader)?),
        b'B' => ("Bind", bind(&mut reader)?),
        b'D' => ("Describe", Message::Describe { kind: kind(&mut reader)?, name: reader.cstr("name")? }),
        b'C' => ("Close", Message::Close { kind: kind(&mut reader)?, name: reader.cstr("name")? }),
        b'E' => (
            "Execute",
            Message::Execute { portal: reader.cstr("portal name")?, max_rows: reader.i32("row limit")? },
        ),
        b'H' => ("Flush", Message::Flush),
        b'S' => ("Sync", Message::Sync),
        b'd' => ("CopyData", Message::CopyData(reader.rest())),
        b'c' => ("CopyDone", Message::CopyDone),
        b'f' => ("CopyFail", Message::CopyFail(reader.cstr("reason")?)),
        b'F' => ("FunctionCall", function_call(&mut reader)?),
        b'p' => ("PasswordMessage", Message::Password(reader.rest())),
        b'X' => ("Terminate", Message::Terminate),
        tag => return Err(WireError::UnknownTag { tag }),
    };
    reader.finish(what)?;
    Ok(message)
}

fn parse_statement<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let name = reader.cstr("statement name")?;
    let sql = reader.cstr("statement text")?;
    let count = reader.u16("parameter types")?;
    let parameter_types = many(reader, count, 4, |reader| reader.u32("parameter type"))?;
    Ok(Message::Parse { name, sql, parameter_types })
}

/// The names of portal and statement at the front of a Bind's body, of which the rest may be yet to come; `None` until
/// they are complete.
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(body);
    Some((reader.cstr("portal name").ok()?, reader.cstr("statement name").ok()?))
}

fn bind<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let portal = reader.cstr("portal name")?;
    let statement = reader.cstr("statement name")?;
    let parameter_formats = formats(reader, "parameter formats")?;
    let parameters = values(reader, &parameter_formats)?;
    let result_formats = formats(reader, "result formats")?;
    Ok(Message::Bind { portal, statement, parameter_formats, parameters, result_formats })
}

fn function_call<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let function = reader.u32("function")?;
    let argument_formats = formats(reader, "argument formats")?;
    let arguments = values(reader, &argument_formats)?;
    let result_format = super::super::format(reader)?;
    Ok(Message::FunctionCall { function, argument_formats, arguments, result_format })
}

/// A counted list of values; `formats` must hold none, one, or as many entries.
fn values<'a>(reader: &mut Reader<'a>, formats: &[i16]) -> Result<Vec<Option<&'a [u8]>>, WireError> {
    let count = reader.u16("parameters")?;
    if formats.len() > 1 && formats.len() != usize::from(count) {
        return Err(WireError::InvalidValue { what: "number of formats", value: i64::from(count) });
    }
    many(reader, count, 4, |reader| reader.nullable("parameter"))
}

fn kind(reader: &mut Reader<'_>) -> Result<Kind, WireError> {
    match reader.u8("kind")? {
        b'S' => Ok(Kind::Statement),
        b'P' => Ok(Kind::Portal),
        other => Err(WireError::InvalidValue { what: "kind", value: i64::from(other) }),
    }
}
