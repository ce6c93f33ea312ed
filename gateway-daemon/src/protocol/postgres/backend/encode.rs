//! Writes a server's messages: what the daemon itself tells the client.

use bytes::BytesMut;

use super::{
    super::{
        super::wire::WireError,
        encode::{Body, message, raw},
        startup::secret,
    },
    Authentication, CopyFormats, Field, Fields, Message,
};

impl Message<'_> {
    /// Appends the message to `out`. On an error `out` is as it was.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        match self {
            Self::Authentication(authentication) => message(out, b'R', |body| request(body, authentication)),
            Self::BackendKeyData { process_id, secret: key } => message(out, b'K', |body| {
                body.u32(*process_id);
                body.bytes(secret(key)?);
                Ok(())
            }),
            Self::ParameterStatus { name, value } => message(out, b'S', |body| {
                body.cstr("name", name)?;
                body.cstr("value", value)
            }),
            Self::ReadyForQuery(status) => message(out, b'Z', |body| {
                body.u8(status.as_byte());
                Ok(())
            }),
            Self::RowDescription(fields) => message(out, b'T', |body| {
                body.count("columns", fields.len())?;
                fields.iter().try_for_each(|field| column(body, field))
            }),
            Self::DataRow(row) => message(out, b'D', |body| {
                body.count("columns", row.len())?;
                row.values().try_for_each(|value| body.nullable("column value", value))
            }),
            Self::CommandComplete(tag) => message(out, b'C', |body| body.cstr("command tag", tag)),
            Self::ErrorResponse(fields) => error_response(out, fields),
            Self::NoticeResponse(fields) => notice_response(out, fields),
            Self::ParameterDescription(types) => message(out, b't', |body| body.oids("parameters", types)),
            Self::CopyInResponse(formats) => message(out, b'G', |body| copy(body, formats)),
            Self::CopyOutResponse(formats) => message(out, b'H', |body| copy(body, formats)),
            Self::CopyBothResponse(formats) => message(out, b'W', |body| copy(body, formats)),
            Self::CopyData(data) => raw(out, b'd', data),
            Self::NotificationResponse { process_id, channel, payload } => message(out, b'A', |body| {
                body.u32(*process_id);
                body.cstr("channel", channel)?;
                body.cstr("payload", payload)
            }),
            Self::NegotiateProtocolVersion { version, unrecognised } => message(out, b'v', |body| {
                body.u32(*version);
                let count = unrecognised.len();
                let limit = usize::from(u16::MAX);
                let counted = u16::try_from(count).map_err(|_| WireError::TooLong {
                    what: "options",
                    length: count,
                    limit,
                })?;
                body.u32(u32::from(counted));
                unrecognised.iter().try_for_each(|name| body.cstr("option", name))
            }),
            Self::FunctionCallResponse(value) => message(out, b'V', |body| body.nullable("result", *value)),
            Self::ParseComplete => raw(out, b'1', b""),
            Self::BindComplete => raw(out, b'2', b""),
            Self::CloseComplete => raw(out, b'3', b""),
            Self::NoData => raw(out, b'n', b""),
            Self::PortalSuspended => raw(out, b's', b""),
            Self::EmptyQueryResponse => raw(out, b'I', b""),
            Self::CopyDone => raw(out, b'c', b""),
        }
    }
}

/// An ErrorResponse of these fields.
pub fn error_response(out: &mut BytesMut, fields: &Fields<'_>) -> Result<(), WireError> {
    message(out, b'E', |body| texts(body, fields))
}

/// A NoticeResponse of these fields.
pub fn notice_response(out: &mut BytesMut, fields: &Fields<'_>) -> Result<(), WireError> {
    message(out, b'N', |body| texts(body, fields))
}

/// A DataRow of these values; `None` is NULL.
pub fn data_row(out: &mut BytesMut, values: &[Option<&[u8]>]) -> Result<(), WireError> {
    message(out, b'D', |body| {
        body.count("columns", values.len())?;
        values.iter().try_for_each(|value| body.nullable("column value", *value))
    })
}

fn texts(body: &mut Body<'_>, fields: &Fields<'_>) -> Result<(), WireError> {
    for (code, text) in fields.as_slice() {
        if *code == 0 {
            return Err(WireError::InvalidValue { what: "field code", value: 0 });
        }
        body.u8(*code);
        body.cstr("field text", text)?;
    }
    body.u8(0);
    Ok(())
}

fn request(body: &mut Body<'_>, authentication: &Authentication<'_>) -> Result<(), WireError> {
    match authentication {
        Authentication::Ok => body.u32(0),
        Authentication::Cleartext => body.u32(3),
        Authentication::Md5 { salt } => {
            body.u32(5);
            body.bytes(salt);
        }
        Authentication::Sasl { mechanisms } => {
            body.u32(10);
            for name in mechanisms {
                if name.is_empty() {
                    return Err(WireError::InvalidLength { what: "mechanism", length: 0 });
                }
                body.cstr("mechanism", name)?;
            }
            body.u8(0);
        }
        Authentication::SaslContinue(data) => {
            body.u32(11);
            body.bytes(data);
        }
        Authentication::SaslFinal(data) => {
            body.u32(12);
            body.bytes(data);
        }
        Authentication::Other(code) => body.u32(*code),
    }
    Ok(())
}

fn column(body: &mut Body<'_>, field: &Field<'_>) -> Result<(), WireError> {
    body.cstr("column name", field.name)?;
    body.u32(field.table_oid);
    body.i16(field.attribute);
    body.u32(field.type_oid);
    body.i16(field.type_size);
    body.i32(field.type_modifier);
    body.i16(field.format);
    Ok(())
}

fn copy(body: &mut Body<'_>, formats: &CopyFormats) -> Result<(), WireError> {
    body.u8(u8::from(formats.overall != 0));
    body.formats("columns", &formats.columns)
}
