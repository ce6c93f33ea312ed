//! Bytes as psql 15, libpq 15 and PostgreSQL 15.20 sent them to each other, recorded on loopback.

use bytes::BytesMut;

use super::{Frame, split_frame};

pub(super) const PSQL_STARTUP: &[u8] =
    b"\0\0\0<\0\x03\0\0user\0alice\0database\0postgres\0application_name\0psql\0\0";
pub(super) const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16/";
pub(super) const GSSENC_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x160";
pub(super) const CANCEL_REQUEST: &[u8] = b"\0\0\0\x10\x04\xd2\x16.\0\0YC\xbbf\xa1\x1b";

/// A login with SCRAM-SHA-256: user alice, password `pencil`.
pub(super) mod scram {
    pub(in super::super) const NONCE: &str = "BMVugj+ZWIdFJn7NYlni42Q5";
    pub(in super::super) const REQUEST: &[u8] = b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0";
    pub(in super::super) const FIRST: &[u8] =
        b"p\0\0\x006SCRAM-SHA-256\0\0\0\0 n,,n=,r=BMVugj+ZWIdFJn7NYlni42Q5";
    pub(in super::super) const CHALLENGE: &[u8] = b"R\0\0\0\\\0\0\0\x0b\
        r=BMVugj+ZWIdFJn7NYlni42Q5CTWxbk16b3w7VdxpnEAtZrP2,s=gamN3/WVsc4O12vUTn9BBQ==,i=4096";
    pub(in super::super) const ANSWER: &[u8] = b"p\0\0\0lc=biws,\
        r=BMVugj+ZWIdFJn7NYlni42Q5CTWxbk16b3w7VdxpnEAtZrP2,p=x9h4iSloR2zD4ShrnCquGvrX6lFBrpBO1IGvkY7HVbo=";
    pub(in super::super) const PROOF: &[u8] =
        b"R\0\0\x006\0\0\0\x0cv=E89b1sZbqIWDONL44nuLP7vYv6NaIn3QClAE56syjqg=";
    pub(in super::super) const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

    /// A later login of the same user, with another client.
    pub(in super::super) const SECOND_NONCE: &str = "i30TRRv8hA3kEl4MRCHY/CGw";
    pub(in super::super) const SECOND_CHALLENGE: &[u8] = b"R\0\0\0\\\0\0\0\x0b\
        r=i30TRRv8hA3kEl4MRCHY/CGwDO6sH4XXw8FP4cDL2irQFbd+,s=gamN3/WVsc4O12vUTn9BBQ==,i=4096";
    pub(in super::super) const SECOND_ANSWER: &[u8] = b"p\0\0\0lc=biws,\
        r=i30TRRv8hA3kEl4MRCHY/CGwDO6sH4XXw8FP4cDL2irQFbd+,p=w25I3hejOZQspM0eE+GyOMdc3gxe7Zzf9mJFHWammo4=";
}

/// Everything that the clients sent after their startup packets, logins included.
pub(super) const CLIENT: &[&[u8]] = &[
    scram::FIRST,
    scram::ANSWER,
    b"Q\0\0\0#select 1 as n, '\xc3\xa9' as t, null\0",
    b"Q\0\0\0\x19select 1; select 1/0\0",
    b"P\0\0\0%\0select $1, $2, $3\0\0\x03\0\0\0\x17\0\0\0\x17\0\0\0\x19",
    b"B\0\0\0&\0\0\0\x03\0\0\0\x01\0\0\0\x03\0\0\0\x0242\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\0\x01\0\x01",
    b"D\0\0\0\x06P\0",
    b"E\0\0\0\t\0\0\0\0\0",
    b"S\0\0\0\x04",
    b"P\0\0\x005st\0select relname from pg_class where oid = $1\0\0\0",
    b"D\0\0\0\x08Sst\0",
    b"B\0\0\0\x18\0st\0\0\0\0\x01\0\0\0\x041259\0\x01\0\0",
    b"Q\0\0\x002create temp table t(a int); copy t from stdin\0",
    b"d\0\0\0\x061\n",
    b"c\0\0\0\x04",
    b"f\0\0\0\x0cno more\0",
    b"Q\0\0\0\x05\0",
    b"F\0\0\0\x18\0\0\x05t\0\x01\0\x01\0\x01\0\0\0\x04\xff\xff\xff\xfb\0\x01",
    b"p\0\0\0(md505375a980e7e70b42bd1fd250c0bd646\0",
    b"H\0\0\0\x04",
    b"X\0\0\0\x04",
];

/// What the server sent, `CloseComplete` to `FunctionCallResponse` at the end excepted: those are written by hand.
pub(super) const SERVER: &[&[u8]] = &[
    scram::REQUEST,
    scram::CHALLENGE,
    scram::PROOF,
    scram::OK,
    b"R\0\0\0\x08\0\0\0\x03",
    b"R\0\0\0\x0c\0\0\0\x05:\xa5GY",
    b"S\0\0\0\x1aapplication_name\0psql\0",
    b"S\0\0\0\x19client_encoding\0UTF8\0",
    b"K\0\0\0\x0c\0\0W\xcbvC\xcd\xf7",
    b"Z\0\0\0\x05I",
    b"T\0\0\0I\0\x03n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
      t\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
      ?column?\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
    b"D\0\0\0\x15\0\x03\0\0\0\x011\0\0\0\x02\xc3\xa9\xff\xff\xff\xff",
    b"C\0\0\0\rSELECT 1\0",
    b"E\0\0\0ASERROR\0VERROR\0C22012\0Mdivision by zero\0Fint.c\0L869\0Rint4div\0\0",
    b"H\0\0\0\x0b\0\0\x02\0\0\0\0",
    b"d\0\0\0\x081\t2\n",
    b"c\0\0\0\x04",
    b"C\0\0\0\x0bCOPY 1\0",
    b"A\0\0\0\r\0\0W\xcbc\0hi\0",
    b"N\0\0\0vSNOTICE\0VNOTICE\0C00000\0Mn\0WPL/pgSQL function inline_code_block line 1 at RAISE\0\
      Fpl_exec.c\0L3907\0Rexec_stmt_raise\0\0",
    b"1\0\0\0\x04",
    b"2\0\0\0\x04",
    b"D\0\0\0\x1a\0\x03\0\0\0\x04\0\0\0*\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff",
    b"t\0\0\0\n\0\x01\0\0\0\x1a",
    b"T\0\0\0 \0\x01relname\0\0\0\x04\xeb\0\x02\0\0\0\x13\0@\xff\xff\xff\xff\0\0",
    b"G\0\0\0\t\0\0\x01\0\0",
    b"I\0\0\0\x04",
    b"v\0\0\0\x15\0\x03\0\0\0\0\0\x01_pq_.foo\0",
    b"3\0\0\0\x04",
    b"n\0\0\0\x04",
    b"s\0\0\0\x04",
    b"W\0\0\0\x07\0\0\0",
    b"V\0\0\0\x0c\0\0\0\x04\0\0\0\x05",
    b"V\0\0\0\x08\xff\xff\xff\xff",
];

/// The one message in `bytes`.
pub(super) fn frame(bytes: &[u8]) -> Frame {
    let mut buf = BytesMut::from(bytes);
    let frame = split_frame(&mut buf, 1 << 20).unwrap().unwrap();
    assert!(buf.is_empty(), "one message only");
    frame
}

/// A message made of a type byte and a body.
pub(super) fn framed(tag: u8, body: &[u8]) -> Frame {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    frame(&bytes)
}
