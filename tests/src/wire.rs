//! A PostgreSQL client that speaks the protocol message by message, for what psql cannot be made to say.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write as _},
    net::TcpStream,
    time::Duration,
};

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// An ErrorResponse's fields, by their letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerError(pub BTreeMap<char, String>);

impl ServerError {
    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.field('C')
    }

    /// The message.
    pub fn message(&self) -> &str {
        self.field('M')
    }

    /// Any field; empty if absent.
    pub fn field(&self, letter: char) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }

    /// Message, detail and hint together.
    pub fn text(&self) -> String {
        format!("{} {} {}", self.field('M'), self.field('D'), self.field('H'))
    }
}

/// A column as RowDescription shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The table that it comes from, or 0.
    pub table: u32,
    /// Its number in that table, or 0.
    pub number: i16,
    /// Its type.
    pub type_oid: u32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// Everything between a request and the ReadyForQuery that ends it.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Of the last result.
    pub columns: Vec<Column>,
    /// Of all results.
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
    /// The command tags.
    pub tags: Vec<String>,
    /// The errors.
    pub errors: Vec<ServerError>,
    /// The notices.
    pub notices: Vec<ServerError>,
    /// The types of all messages in their order, as text.
    pub order: String,
    /// What ReadyForQuery says: `I`, `T` or `E`.
    pub status: char,
}

impl Reply {
    /// The one error that is expected.
    pub fn error(&self) -> &ServerError {
        assert_eq!(self.errors.len(), 1, "one error was expected: {self:?}");
        &self.errors[0]
    }

    /// Rows as text; NULL as `NULL`. Insists that there was no error.
    pub fn texts(&self) -> Vec<Vec<String>> {
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        let text = |value: &Option<Vec<u8>>| {
            value.as_ref().map_or("NULL".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        self.rows.iter().map(|row| row.iter().map(text).collect()).collect()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What the server reported of its settings.
    pub parameters: BTreeMap<String, String>,
    /// Process id and secret for cancelling.
    pub key: Option<(u32, Vec<u8>)>,
    /// What is kept back, to leave in one go.
    held: Option<Vec<u8>>,
}

impl Client {
    /// Logs in; through nodegate no password is asked for.
    pub fn start(stream: TcpStream) -> Result<Self, ServerError> {
        Self::start_as(stream, &[("user", "somebody"), ("database", "shop")])
    }

    /// Logs in with these startup parameters.
    pub fn start_as(stream: TcpStream, parameters: &[(&str, &str)]) -> Result<Self, ServerError> {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut client = Self { stream, parameters: BTreeMap::new(), key: None, held: None };
        client.raw(&startup(3, 0, parameters));
        loop {
            let message = client.read().map_err(|error| closed(&error))?;
            match message.tag {
                b'R' => assert_eq!(message.body, 0_u32.to_be_bytes(), "authentication was asked for"),
                b'S' => {
                    let mut texts = message.body.split(|byte| *byte == 0).map(text);
                    client.parameters.insert(texts.next().unwrap(), texts.next().unwrap());
                }
                b'K' => client.key = Some((u32_at(&message.body, 0), message.body[4..].to_vec())),
                b'Z' => return Ok(client),
                b'E' => return Err(error_of(&message.body)),
                b'N' => {}
                other => panic!("unexpected {:?} while logging in", char::from(other)),
            }
        }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        if let Some(held) = &mut self.held {
            held.extend(bytes);
            return;
        }
        // A server that has already refused may have closed: what it said is still to be read.
        let _ = self.stream.write_all(bytes);
    }

    /// Has what is sent meanwhile leave in one go: no answer to the first of it can come before the last.
    pub fn at_once(&mut self, send: impl FnOnce(&mut Self)) {
        self.held = Some(Vec::new());
        send(self);
        let bytes = self.held.take().expect("what was kept back");
        self.raw(&bytes);
    }

    /// Sends a message.
    pub fn send(&mut self, tag: u8, body: &[u8]) {
        self.raw(&message(tag, body));
    }

    /// Reads one message.
    pub fn read(&mut self) -> io::Result<Message> {
        let mut header = [0; 5];
        self.stream.read_exact(&mut header)?;
        let length = u32_at(&header, 1) as usize;
        assert!((4..1 << 28).contains(&length), "a length of {length} from the server");
        let mut body = vec![0; length - 4];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag: header[0], body })
    }

    /// Whether nothing comes for so long.
    pub fn is_silent_for(&self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        seen.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// Runs a simple query.
    pub fn query(&mut self, sql: &str) -> Reply {
        self.send(b'Q', &zero_ended(&[sql]));
        self.until_ready()
    }

    /// Everything up to and with ReadyForQuery. If the connection ends before it, the status is `X`.
    pub fn until_ready(&mut self) -> Reply {
        let mut reply = Reply { status: 'X', ..Reply::default() };
        while let Ok(message) = self.read() {
            reply.order.push(char::from(message.tag));
            match message.tag {
                b'T' => reply.columns = columns_of(&message.body),
                b'D' => reply.rows.push(row_of(&message.body)),
                b'C' => reply.tags.push(text(&message.body[..message.body.len() - 1])),
                b'E' => reply.errors.push(error_of(&message.body)),
                b'N' => reply.notices.push(error_of(&message.body)),
                b'Z' => {
                    reply.status = char::from(message.body[0]);
                    return reply;
                }
                _ => {}
            }
        }
        reply
    }

    /// Reads up to ReadyForQuery and returns how many bytes that was. Messages are not looked into, errors apart.
    pub fn skip_to_ready(&mut self) -> Result<u64, ServerError> {
        let mut input = io::BufReader::with_capacity(1 << 18, &self.stream);
        let mut bytes = 0;
        loop {
            let mut header = [0; 5];
            input.read_exact(&mut header).map_err(|error| closed(&error))?;
            let length = u64::from(u32_at(&header, 1)) - 4;
            bytes += length + 5;
            let mut body = (&mut input).take(length);
            if header[0] == b'E' {
                let mut error = Vec::new();
                body.read_to_end(&mut error).map_err(|error| closed(&error))?;
                return Err(error_of(&error));
            }
            io::copy(&mut body, &mut io::sink()).map_err(|error| closed(&error))?;
            if header[0] == b'Z' {
                return Ok(bytes);
            }
        }
    }

    /// Queues Parse.
    pub fn parse(&mut self, name: &str, sql: &str) {
        let mut body = zero_ended(&[name, sql]);
        body.extend(0_u16.to_be_bytes());
        self.send(b'P', &body);
    }

    /// Queues Bind with text parameters, and one result format for all columns.
    pub fn bind(&mut self, portal: &str, statement: &str, values: &[&str], format: i16) {
        let mut body = zero_ended(&[portal, statement]);
        body.extend(0_u16.to_be_bytes());
        body.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(value.as_bytes());
        }
        body.extend(1_u16.to_be_bytes());
        body.extend(format.to_be_bytes());
        self.send(b'B', &body);
    }

    /// Queues Describe of a statement (`S`) or portal (`P`).
    pub fn describe(&mut self, kind: u8, name: &str) {
        let mut body = vec![kind];
        body.extend(zero_ended(&[name]));
        self.send(b'D', &body);
    }

    /// Queues Execute; 0 rows means all.
    pub fn execute(&mut self, portal: &str, rows: u32) {
        let mut body = zero_ended(&[portal]);
        body.extend(rows.to_be_bytes());
        self.send(b'E', &body);
    }

    /// Sends Sync and reads up to ReadyForQuery.
    pub fn sync(&mut self) -> Reply {
        self.send(b'S', &[]);
        self.until_ready()
    }

    /// Parse, Bind, Describe, Execute, Sync in one go.
    pub fn extended(&mut self, sql: &str, values: &[&str], format: i16) -> Reply {
        self.parse("", sql);
        self.bind("", "", values, format);
        self.describe(b'P', "");
        self.execute("", 0);
        self.sync()
    }

    /// The socket itself.
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// A StartupMessage.
pub fn startup(major: u16, minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(major.to_be_bytes());
    body.extend(minor.to_be_bytes());
    for (name, value) in parameters {
        body.extend(zero_ended(&[name, value]));
    }
    body.push(0);
    with_length(&body)
}

/// A CancelRequest.
pub fn cancel(process: u32, secret: &[u8]) -> Vec<u8> {
    let mut body = 80_877_102_u32.to_be_bytes().to_vec();
    body.extend(process.to_be_bytes());
    body.extend(secret);
    with_length(&body)
}

/// An SSLRequest.
pub fn ssl_request() -> Vec<u8> {
    with_length(&80_877_103_u32.to_be_bytes())
}

/// A GSSENCRequest.
pub fn gss_request() -> Vec<u8> {
    with_length(&80_877_104_u32.to_be_bytes())
}

/// A message with its type.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(with_length(body));
    bytes
}

/// Reads until the other side closes, at most `limit`; `None` if it did not.
pub fn read_to_close(stream: &mut TcpStream, limit: Duration) -> Option<Vec<u8>> {
    let end = std::time::Instant::now() + limit;
    let (mut all, mut chunk) = (Vec::new(), [0; 8_192]);
    loop {
        let left = end.checked_duration_since(std::time::Instant::now()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).expect("a timeout");
        match stream.read(&mut chunk) {
            Ok(0) => return Some(all),
            Ok(count) => all.extend(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return None;
            }
            Err(_) => return Some(all),
        }
    }
}

/// The types of the messages in these bytes, as text; a last one that is cut short counts as well.
pub fn tags(mut bytes: &[u8]) -> String {
    let mut tags = String::new();
    while let [tag, length @ ..] = bytes {
        tags.push(char::from(*tag));
        if length.len() < 4 {
            break;
        }
        bytes = bytes.get(1 + u32_at(length, 0) as usize..).unwrap_or_default();
    }
    tags
}

/// The fields of an ErrorResponse's body.
pub fn error_of(body: &[u8]) -> ServerError {
    let fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
    ServerError(fields.map(|field| (char::from(field[0]), text(&field[1..]))).collect())
}

fn closed(error: &io::Error) -> ServerError {
    ServerError(BTreeMap::from([('M', format!("the connection ended: {error}"))]))
}

fn columns_of(body: &[u8]) -> Vec<Column> {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    for _ in 0..count {
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        let fields = &rest[end + 1..];
        let short = |at: usize| i16::from_be_bytes([fields[at], fields[at + 1]]);
        columns.push(Column {
            name: text(&rest[..end]),
            table: u32_at(fields, 0),
            number: short(4),
            type_oid: u32_at(fields, 6),
            format: short(16),
        });
        rest = &fields[18..];
    }
    columns
}

fn row_of(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    let mut row = Vec::new();
    for _ in 0..count {
        let length = u32_at(rest, 0);
        rest = &rest[4..];
        if length == u32::MAX {
            row.push(None);
        } else {
            let (value, after) = rest.split_at(length as usize);
            row.push(Some(value.to_vec()));
            rest = after;
        }
    }
    row
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 4).expect("a length").to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

fn zero_ended(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| text.bytes().chain([0])).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
