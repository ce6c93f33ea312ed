//! Reads a server's messages; a server is trusted no more than a client.

use super::{
    super::{
        super::wire::{Reader, WireError},
        Frame, format, formats, many,
        startup::secret,
    },
    Authentication, CopyFormats, DataRow, Field, Fields, Message, TransactionStatus,
};

/// More SASL mechanisms or unknown options than any server has reason to name.
const MAX_NAMES: usize = 1000;

/// Reads one message. An unknown type, a field that does not fit, and bytes that are left over are errors.
pub fn parse(frame: &Frame) -> Result<Message<'_>, WireError> {
    let mut reader = Reader::new(frame.body());
    let (what, message) = match frame.tag {
        b'R' => ("Authentication", Message::Authentication(authentication(&mut reader)?)),
        b'K' => (
            "BackendKeyData",
            Message::BackendKeyData { process_id: reader.u32("process id")?, secret: secret(reader.rest())? },
        ),
        b'S' => (
            "ParameterStatus",
            Message::ParameterStatus { name: reader.cstr("name")?, value: reader.cstr("value")? },
        ),
        b'Z' => ("ReadyForQuery", Message::ReadyForQuery(status(&mut reader)?)),
        b'T' => ("RowDescription", Message::RowDescription(columns(&mut reader)?)),
        b'D' => ("DataRow", Message::DataRow(DataRow::read(&mut reader)?)),
        b'C' => ("CommandComplete", Message::CommandComplete(reader.cstr("command tag")?)),
        b'E' => ("ErrorResponse", Message::ErrorResponse(Fields::read(&mut reader)?)),
        b'N' => ("NoticeResponse", Message::NoticeResponse(Fields::read(&mut reader)?)),
        b'1' => ("ParseComplete", Message::ParseComplete),
        b'2' => ("BindComplete", Message::BindComplete),
        b'3' => ("CloseComplete", Message::CloseComplete),
        b'n' => ("NoData", Message::NoData),
        b't' => ("ParameterDescription", Message::ParameterDescription(parameter_types(&mut reader)?)),
        b's' => ("PortalSuspended", Message::PortalSuspended),
        b'I' => ("EmptyQueryResponse", Message::EmptyQueryResponse),
        b'G' => ("CopyInResponse", Message::CopyInResponse(copy_formats(&mut reader)?)),
        b'H' => ("CopyOutResponse", Message::CopyOutResponse(copy_formats(&mut reader)?)),
        b'W' => ("CopyBothResponse", Message::CopyBothResponse(copy_formats(&mut reader)?)),
        b'd' => ("CopyData", Message::CopyData(reader.rest())),
        b'c' => ("CopyDone", Message::CopyDone),
        b'A' => (
            "NotificationResponse",
            Message::NotificationResponse {
                process_id: reader.u32("process id")?,
                channel: reader.cstr("channel")?,
                payload: reader.cstr("payload")?,
            },
        ),
        b'v' => ("NegotiateProtocolVersion", negotiate(&mut reader)?),
        b'V' => ("FunctionCallResponse", Message::FunctionCallResponse(reader.nullable("result")?)),
        tag => return Err(WireError::UnknownTag { tag }),
    };
    reader.finish(what)?;
    Ok(message)
}

/// The columns of a RowDescription, by its body.
pub fn row_description(body: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
    let mut reader = Reader::new(body);
    let fields = columns(&mut reader)?;
    reader.finish("RowDescription")?;
    Ok(fields)
}

/// The number of rows in a command tag: `INSERT 0 5`, `SELECT 5`, `COPY 5`; `None` where the command has none.
pub fn rows(tag: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(tag).ok()?;
    let mut words = text.split(' ');
    let command = words.next()?;
    let first = words.next()?;
    let count = match command {
        "INSERT" => words.next()?,
        "SELECT" | "UPDATE" | "DELETE" | "MERGE" | "MOVE" | "FETCH" | "COPY" => first,
        _ => return None,
    };
    if words.next().is_some() || !count.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    count.parse().ok()
}

fn authentication<'a>(reader: &mut Reader<'a>) -> Result<Authentication<'a>, WireError> {
    Ok(match reader.u32("authentication method")? {
        0 => Authentication::Ok,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5 { salt: reader.array("salt")? },
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                match reader.cstr("mechanism")? {
                    [] => break Authentication::Sasl { mechanisms },
                    name => push(&mut mechanisms, name, "mechanisms")?,
                }
            }
        }
        11 => Authentication::SaslContinue(reader.rest()),
        12 => Authentication::SaslFinal(reader.rest()),
        other => {
            // Methods that are not spoken may carry data of their own.
            reader.rest();
            Authentication::Other(other)
        }
    })
}

fn status(reader: &mut Reader<'_>) -> Result<TransactionStatus, WireError> {
    match reader.u8("transaction status")? {
        b'I' => Ok(TransactionStatus::Idle),
        b'T' => Ok(TransactionStatus::InTransaction),
        b'E' => Ok(TransactionStatus::Failed),
        other => Err(WireError::InvalidValue { what: "transaction status", value: i64::from(other) }),
    }
}

fn columns<'a>(reader: &mut Reader<'a>) -> Result<Vec<Field<'a>>, WireError> {
    let count = reader.u16("columns")?;
    // An empty name and the six numbers.
    many(reader, count, 19, |reader| {
        Ok(Field {
            name: reader.cstr("column name")?,
            table_oid: reader.u32("table")?,
            attribute: reader.i16("attribute")?,
            type_oid: reader.u32("type")?,
            type_size: reader.i16("type size")?,
            type_modifier: reader.i32("type modifier")?,
            format: format(reader)?,
        })
    })
}

fn parameter_types(reader: &mut Reader<'_>) -> Result<Vec<u32>, WireError> {
    let count = reader.u16("parameters")?;
    many(reader, count, 4, |reader| reader.u32("parameter type"))
}

fn copy_formats(reader: &mut Reader<'_>) -> Result<CopyFormats, WireError> {
    let overall = match reader.u8("format")? {
        format @ (0 | 1) => i16::from(format),
        other => return Err(WireError::InvalidValue { what: "format", value: i64::from(other) }),
    };
    Ok(CopyFormats { overall, columns: formats(reader, "columns")? })
}

fn negotiate<'a>(reader: &mut Reader<'a>) -> Result<Message<'a>, WireError> {
    let version = reader.u32("version")?;
    let count = reader.u32("options")?;
    let mut unrecognised = Vec::new();
    for _ in 0..count {
        push(&mut unrecognised, reader.cstr("option")?, "options")?;
    }
    Ok(Message::NegotiateProtocolVersion { version, unrecognised })
}

/// Adds a name. The number of names is limited, whatever count was announced: a list of short names would take
/// many times the memory of its message.
fn push<'a>(names: &mut Vec<&'a [u8]>, name: &'a [u8], what: &'static str) -> Result<(), WireError> {
    if names.len() >= MAX_NAMES {
        return Err(WireError::TooLong { what, length: names.len().saturating_add(1), limit: MAX_NAMES });
    }
    names.push(name);
    Ok(())
}
