//! Writes a client's messages: what the daemon itself sends upstream.

use bytes::BytesMut;

use super::{
    super::{
        super::wire::WireError,
        encode::{Body, message, raw, untagged},
        startup::{CANCEL_CODE, GSSENC_CODE, SSL_CODE, secret},
    },
    Kind, Message,
};

impl Message<'_> {
    /// Appends the message to `out`. On an error `out` is as it was.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), WireError> {
        match self {
            Self::Query(sql) => message(out, b'Q', |body| body.cstr("query text", sql)),
            Self::Parse { name, sql, parameter_types } => message(out, b'P', |body| {
                body.cstr("statement name", name)?;
                body.cstr("statement text", sql)?;
                body.oids("parameter types", parameter_types)
            }),
            Self::Bind { portal, statement, parameter_formats, parameters, result_formats } => {
                message(out, b'B', |body| {
                    body.cstr("portal name", portal)?;
                    body.cstr("statement name", statement)?;
                    body.formats("parameter formats", parameter_formats)?;
                    values(body, parameters)?;
                    body.formats("result formats", result_formats)
                })
            }
            Self::Describe { kind, name } => message(out, b'D', |body| object(body, *kind, name)),
            Self::Close { kind, name } => message(out, b'C', |body| object(body, *kind, name)),
            Self::Execute { portal, max_rows } => message(out, b'E', |body| {
                body.cstr("portal name", portal)?;
                body.i32(*max_rows);
                Ok(())
            }),
            Self::CopyData(data) => raw(out, b'd', data),
            Self::CopyFail(reason) => message(out, b'f', |body| body.cstr("reason", reason)),
            Self::FunctionCall { function, argument_formats, arguments, result_format } => {
                message(out, b'F', |body| {
                    body.u32(*function);
                    body.formats("argument formats", argument_formats)?;
                    values(body, arguments)?;
                    body.i16(*result_format);
                    Ok(())
                })
            }
            Self::Password(data) => raw(out, b'p', data),
            Self::Flush => raw(out, b'H', b""),
            Self::Sync => raw(out, b'S', b""),
            Self::CopyDone => raw(out, b'c', b""),
            Self::Terminate => raw(out, b'X', b""),
        }
    }
}

/// A StartupMessage of protocol 3.`minor`.
pub fn startup(out: &mut BytesMut, minor: u16, parameters: &[(&str, &str)]) -> Result<(), WireError> {
    untagged(out, |body| {
        body.u16(3);
        body.u16(minor);
        for (name, value) in parameters {
            if name.is_empty() {
                return Err(WireError::InvalidLength { what: "parameter name", length: 0 });
            }
            body.cstr("parameter name", name.as_bytes())?;
            body.cstr("parameter value", value.as_bytes())?;
        }
        body.u8(0);
        Ok(())
    })
}

/// A CancelRequest, with the key of 4 to 256 bytes that the server gave.
pub fn cancel_request(out: &mut BytesMut, process_id: u32, key: &[u8]) -> Result<(), WireError> {
    let key = secret(key)?;
    untagged(out, |body| {
        body.u32(CANCEL_CODE);
        body.u32(process_id);
        body.bytes(key);
        Ok(())
    })
}

/// An SSLRequest; the server answers with one byte, `S` or `N`.
pub fn ssl_request(out: &mut BytesMut) {
    request(out, SSL_CODE);
}

/// A GSSENCRequest; the server answers with one byte, `G` or `N`.
pub fn gssenc_request(out: &mut BytesMut) {
    request(out, GSSENC_CODE);
}

fn request(out: &mut BytesMut, code: u32) {
    out.extend_from_slice(&8_u32.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
}

/// A PasswordMessage: a password in clear, or an md5 response.
pub fn password(out: &mut BytesMut, password: &[u8]) -> Result<(), WireError> {
    message(out, b'p', |body| body.cstr("password", password))
}

/// A SASLInitialResponse.
pub fn sasl_initial_response(out: &mut BytesMut, mechanism: &[u8], data: &[u8]) -> Result<(), WireError> {
    message(out, b'p', |body| {
        body.cstr("mechanism", mechanism)?;
        body.nullable("initial response", Some(data))
    })
}

/// A SASLResponse.
pub fn sasl_response(out: &mut BytesMut, data: &[u8]) -> Result<(), WireError> {
    raw(out, b'p', data)
}

fn object(body: &mut Body<'_>, kind: Kind, name: &[u8]) -> Result<(), WireError> {
    body.u8(match kind {
        Kind::Statement => b'S',
        Kind::Portal => b'P',
    });
    body.cstr("name", name)
}

fn values(body: &mut Body<'_>, values: &[Option<&[u8]>]) -> Result<(), WireError> {
    body.count("parameters", values.len())?;
    values.iter().try_for_each(|value| body.nullable("parameter", *value))
}
