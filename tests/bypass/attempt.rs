//! One run of one way, and what came of it.

use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use nix::errno::Errno;

/// What the way itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// As far as it can tell, the token is on its way.
    Sent,
    /// The kernel, or the daemon, said no.
    Refused(Errno, String),
    /// The kernel does not have what it takes.
    Absent(Errno, String),
    /// It is open, though nothing was sent.
    Made(String),
    /// What must keep working does.
    Works,
    /// It does not.
    Broken(String),
    /// Nothing: it was ended from outside.
    Killed,
    /// The way could not even begin, or never ended.
    Trouble(String),
}

impl Said {
    /// From the one line that a way prints.
    pub fn parse(out: &str, err: &str, status: ExitStatus) -> Self {
        let line = out.lines().next().unwrap_or_default();
        let mut fields = line.splitn(3, '|');
        let what = fields.next().unwrap_or_default();
        let errno = Errno::from_raw(fields.next().and_then(|number| number.parse().ok()).unwrap_or(0));
        let detail = fields.next().unwrap_or_default().to_owned();
        match what {
            "sent" => Self::Sent,
            "refused" => Self::Refused(errno, detail),
            "absent" => Self::Absent(errno, detail),
            "made" => Self::Made(detail),
            "works" => Self::Works,
            "broken" => Self::Broken(detail),
            "" if status.signal() == Some(libc::SIGKILL) => Self::Killed,
            "setup" => Self::Trouble(format!("{detail}: {errno} {}", err.trim())),
            _ => Self::Trouble(format!("it said nothing ({status}) {}", err.trim())),
        }
    }
}

/// One attempt with everything that is known of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Its token.
    pub token: String,
    /// Its process.
    pub pid: u32,
    /// What the way says.
    pub said: Said,
    /// What the targets say, nothing if nothing arrived.
    pub arrived: Vec<String>,
    /// Whether the daemon took the connection; known once its audit log has been read.
    pub judged: bool,
}

/// What an attempt inside capture comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The daemon has it, the target has nothing.
    Captured,
    /// An error, and nothing at the target.
    Refused(Errno),
    /// The process was ended, and nothing arrived.
    Killed,
    /// The caller was told that all is well, and nothing arrived anywhere.
    Dropped,
    /// It reached its target.
    Open(String),
    /// What must keep working does.
    Works,
    /// It does not.
    Broken(String),
    /// The attempt says nothing.
    Trouble(String),
}

impl Attempt {
    /// What it comes to, inside capture.
    pub fn verdict(&self) -> Verdict {
        if let Some(arrival) = self.arrived.first() {
            return match &self.said {
                // What must keep working may reach its target, where it is not a way out.
                Said::Works => Verdict::Works,
                Said::Broken(how) => Verdict::Broken(how.clone()),
                _ => Verdict::Open(arrival.clone()),
            };
        }
        match &self.said {
            Said::Sent if self.judged => Verdict::Captured,
            Said::Sent => Verdict::Dropped,
            Said::Refused(errno, _) | Said::Absent(errno, _) => Verdict::Refused(*errno),
            Said::Made(what) => Verdict::Open(what.clone()),
            Said::Works => Verdict::Works,
            Said::Killed => Verdict::Killed,
            Said::Broken(how) => Verdict::Broken(how.clone()),
            Said::Trouble(what) => Verdict::Trouble(what.clone()),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured => f.write_str("captured"),
            Self::Refused(errno) => write!(f, "refused {errno:?}"),
            Self::Killed => f.write_str("killed"),
            Self::Dropped => f.write_str("dropped"),
            Self::Open(_) => f.write_str("OPEN"),
            Self::Works => f.write_str("works"),
            Self::Broken(_) => f.write_str("BROKEN"),
            Self::Trouble(_) => f.write_str("TROUBLE"),
        }
    }
}
