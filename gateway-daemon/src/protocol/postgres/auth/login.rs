//! The login as a state machine: an authentication request in, what to send out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};

use super::{
    super::{backend::Authentication, frontend},
    AuthError, md5,
    scram::{self, AwaitChallenge, AwaitProof, ScramKeys},
};

/// As many random bytes as PostgreSQL's own client takes.
pub const NONCE_BYTES: usize = 18;

/// Whether an eavesdropper can read what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// TCP as it is.
    Plain,
    /// TLS with a verified server.
    Tls(Binding),
}

/// How a login can show the server which channel it runs in, so that nobody stands between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// Not at all: the server's certificate defines no hash.
    Impossible,
    /// By this hash of the server's certificate (`tls-server-end-point`), if the server offers it.
    Possible(Vec<u8>),
    /// By this hash, or there is no login.
    Required(Vec<u8>),
}

/// A password. `Debug` shows its length and nothing more.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// Wraps a password, in the target's encoding.
    pub fn new(password: impl Into<Vec<u8>>) -> Self {
        Self(password.into())
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes withheld>", self.0.len())
    }
}

/// What to do after an authentication request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes (a whole message) and wait for the next request.
    Send(Bytes),
    /// Send nothing and wait for the next request.
    Wait,
    /// The server has let us in.
    Done,
}

/// One login. After an error or `Done` every further request is refused.
pub struct Login {
    user: String,
    password: Password,
    channel: Channel,
    nonce: [u8; NONCE_BYTES],
    kept: Option<ScramKeys>,
    state: State,
}

enum State {
    Fresh,
    PasswordSent,
    ScramBegun(AwaitChallenge),
    ScramAnswered(AwaitProof),
    ScramVerified,
    Over,
}

impl State {
    const fn describe(&self) -> &'static str {
        match self {
            Self::Fresh => "the login had not begun",
            Self::PasswordSent => "the password was being judged",
            Self::ScramBegun(_) => "a SCRAM challenge was due",
            Self::ScramAnswered(_) => "its SCRAM proof was due",
            Self::ScramVerified => "the SCRAM exchange was complete",
            Self::Over => "the login was over",
        }
    }
}

impl Login {
    /// A login that has not begun. `nonce` must be fresh and random.
    pub fn new(user: &str, password: Password, channel: Channel, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { user: user.to_owned(), password, channel, nonce, kept: None, state: State::Fresh }
    }

    /// Saves the derivation of keys if the server still uses the salt and iterations of an earlier login with
    /// the same password.
    #[must_use]
    pub fn with_scram_keys(mut self, keys: Option<ScramKeys>) -> Self {
        self.kept = keys;
        self
    }

    /// The keys of a SCRAM exchange in which the server has proved itself; for the next login.
    pub const fn scram_keys(&self) -> Option<&ScramKeys> {
        match self.state {
            State::ScramVerified | State::Over => self.kept.as_ref(),
            _ => None,
        }
    }

    /// Takes the server's next request. Deriving SCRAM keys costs about a millisecond at PostgreSQL's default of
    /// 4,096 iterations and grows with them; nothing else here takes time.
    pub fn on_message(&mut self, message: &Authentication<'_>) -> Result<Step, AuthError> {
        // An error leaves the login over.
        let state = std::mem::replace(&mut self.state, State::Over);
        let expected = state.describe();
        let unbound =
            matches!(message, Authentication::Ok | Authentication::Cleartext | Authentication::Md5 { .. });
        if unbound && matches!((&self.channel, &state), (Channel::Tls(Binding::Required(_)), State::Fresh)) {
            return Err(AuthError::Unbound);
        }
        let (next, step) = match (state, message) {
            (State::Fresh | State::PasswordSent | State::ScramVerified, Authentication::Ok) => {
                (State::Over, Step::Done)
            }
            (State::Fresh, Authentication::Cleartext) => self.cleartext()?,
            (State::Fresh, Authentication::Md5 { salt }) => self.md5(*salt)?,
            (State::Fresh, Authentication::Sasl { mechanisms }) => self.begin_scram(mechanisms)?,
            (State::ScramBegun(scram), Authentication::SaslContinue(challenge)) => {
                let (next, reply) = scram.answer(&self.password, self.kept.take(), challenge)?;
                let mut out = BytesMut::new();
                frontend::sasl_response(&mut out, &reply)?;
                (State::ScramAnswered(next), Step::Send(out.freeze()))
            }
            (State::ScramAnswered(scram), Authentication::SaslFinal(proof)) => {
                self.kept = Some(scram.verify(proof)?);
                (State::ScramVerified, Step::Wait)
            }
            (State::Fresh, Authentication::Other(code)) => {
                return Err(AuthError::UnsupportedMethod { code: *code });
            }
            (_, received) => return Err(AuthError::OutOfOrder { received: name(received), expected }),
        };
        self.state = next;
        Ok(step)
    }

    fn cleartext(&self) -> Result<(State, Step), AuthError> {
        match self.channel {
            Channel::Plain => Err(AuthError::CleartextWithoutTls),
            Channel::Tls(_) => send_password(self.password.expose()),
        }
    }

    fn md5(&self, salt: [u8; 4]) -> Result<(State, Step), AuthError> {
        send_password(md5::response(&self.user, self.password.expose(), salt).as_bytes())
    }

    fn begin_scram(&self, mechanisms: &[&[u8]]) -> Result<(State, Step), AuthError> {
        let offers = |mechanism: &[u8]| mechanisms.contains(&mechanism);
        // Whoever stands between us and the server could take the binding mechanism off its list: a server that offers
        // it is answered by it, and one that does not is told that we would have.
        let (mechanism, binding) = match &self.channel {
            Channel::Tls(Binding::Possible(hash) | Binding::Required(hash)) if offers(scram::BINDING) => {
                (scram::BINDING, scram::ChannelBinding::EndPoint(hash.clone()))
            }
            Channel::Tls(Binding::Required(_)) => return Err(AuthError::Unbound),
            Channel::Tls(Binding::Possible(_)) => (scram::MECHANISM, scram::ChannelBinding::NotOffered),
            Channel::Tls(Binding::Impossible) | Channel::Plain => {
                (scram::MECHANISM, scram::ChannelBinding::Unsupported)
            }
        };
        if !offers(mechanism) {
            return Err(AuthError::NoMechanism);
        }
        let (scram, first) = scram::begin("", STANDARD.encode(self.nonce), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(&mut out, mechanism, &first)?;
        Ok((State::ScramBegun(scram), Step::Send(out.freeze())))
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("channel", &self.channel)
            .field("state", &self.state.describe())
            .finish_non_exhaustive()
    }
}

fn send_password(password: &[u8]) -> Result<(State, Step), AuthError> {
    let mut out = BytesMut::new();
    frontend::password(&mut out, password)?;
    Ok((State::PasswordSent, Step::Send(out.freeze())))
}

const fn name(message: &Authentication<'_>) -> &'static str {
    match message {
        Authentication::Ok => "AuthenticationOk",
        Authentication::Cleartext => "AuthenticationCleartextPassword",
        Authentication::Md5 { .. } => "AuthenticationMD5Password",
        Authentication::Sasl { .. } => "AuthenticationSASL",
        Authentication::SaslContinue(_) => "AuthenticationSASLContinue",
        Authentication::SaslFinal(_) => "AuthenticationSASLFinal",
        Authentication::Other(_) => "an unsupported authentication request",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests;
