//! From what is written to what is meant. Every problem is noted with its place, and checking goes on, so that one
//! run names them all.

mod dns;
mod http;
mod identity;
mod recording;
mod targets;
mod vault;

use std::{
    fs, io,
    net::SocketAddr,
    ops::Not as _,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{
    Problem, checked,
    error::{nearest, position},
    raw::{self, At},
};
use crate::domain::{
    mode::{Mode, Modes},
    promise::{EXISTING, PROMISES, Promise, promise},
};

/// What is said of everything that a later version brings.
const LATER: &str = "comes with a later version of nodegate";

/// Checks a whole file that lies in `directory`.
pub(super) fn check(
    raw: &raw::Config,
    file: &Path,
    directory: &Path,
) -> Result<checked::Config, Vec<Problem>> {
    let mut checker = Checker { directory: directory.to_owned(), problems: Vec::new() };
    match (checker.config(raw, file), checker.problems.is_empty()) {
        (Some(config), true) => Ok(config),
        (Some(_) | None, false) => Err(checker.problems),
        (None, true) => {
            Err(vec![Problem { position: None, what: "the file is not usable".to_owned(), hint: None }])
        }
    }
}

/// Collects problems. Methods return `None` after they have noted one.
struct Checker {
    directory: PathBuf,
    problems: Vec<Problem>,
}

impl Checker {
    fn config(&mut self, raw: &raw::Config, file: &Path) -> Option<checked::Config> {
        if let Some(approvals) = &raw.approvals {
            self.note(approvals, format!("`approvals` {LATER}"), Some("leave it out"));
        }
        let modes = self.modes(raw);
        let identity = self.identity(&raw.identity.value);
        let targets = self.targets(&raw.targets);
        let policy = self.existing(&raw.policy.dir, Kind::Directory).map(|dir| checked::Policy { dir });
        let audit = self.audit(&raw.audit);
        let recording = raw.recording.as_ref().map(|recording| self.recording(recording));
        let admin = self.admin(&raw.admin);
        let capture = self.capture(&raw.capture);
        let limits = self.limits(&raw.limits);
        let dns = self.dns(&raw.dns);
        let kubernetes = match &raw.kubernetes {
            None => None,
            Some(kubernetes) => Some(self.kubernetes(&kubernetes.value)?),
        };
        let vault = match &raw.vault {
            None => None,
            Some(vault) => Some(self.vault(vault)?),
        };
        self.look_for_vault(raw);
        Some(checked::Config {
            file: file.to_owned(),
            modes: modes?,
            identity: identity?,
            targets: targets?,
            policy: policy?,
            audit: audit?,
            recording: match recording {
                None => None,
                Some(recording) => Some(recording?),
            },
            admin: admin?,
            capture: capture?,
            limits: limits?,
            dns: dns?,
            kubernetes,
            vault,
        })
    }

    fn modes(&mut self, raw: &raw::Config) -> Option<Modes> {
        let node = match &raw.mode {
            None => Some(Mode::default()),
            Some(mode) => self.mode(mode),
        };
        let labels: Vec<_> =
            raw.capture.labels.iter().map(|(name, label)| (name, self.mode(&label.mode))).collect();
        let named = raw.targets.value.iter().filter_map(|target| {
            target.value.mode.as_ref().map(|mode| (target.value.name.value.clone(), mode))
        });
        let targets: Vec<_> = named.map(|(name, mode)| (name, self.mode(mode))).collect();
        Some(Modes {
            node: node?,
            labels: labels
                .into_iter()
                .map(|(name, mode)| Some((name.clone(), mode?)))
                .collect::<Option<_>>()?,
            targets: targets.into_iter().map(|(name, mode)| Some((name, mode?))).collect::<Option<_>>()?,
        })
    }

    fn mode(&mut self, mode: &At<String>) -> Option<Mode> {
        self.word(mode, "mode", &Mode::ALL.map(Mode::name), &[]).and_then(Mode::named)
    }

    fn audit(&mut self, audit: &raw::Audit) -> Option<checked::Audit> {
        let dir = self.path(&audit.dir);
        if let Some(dir) = &dir
            && fs::metadata(dir).is_ok_and(|metadata| !metadata.is_dir())
        {
            self.note(&audit.dir, format!("{} is not a directory", dir.display()), None);
        }
        if let Some(on_failure) = &audit.on_failure {
            self.word(on_failure, "on_failure", &["deny"], &[])?;
        }
        let retention_days = match &audit.retention_days {
            None => 90,
            Some(days) if days.value == 0 => {
                self.note(
                    days,
                    "records must be kept for at least a day".to_owned(),
                    Some("write 1 or more"),
                );
                return None;
            }
            Some(days) => days.value,
        };
        Some(checked::Audit { dir: dir?, retention_days })
    }

    fn admin(&mut self, admin: &raw::Admin) -> Option<checked::Admin> {
        let listen = match &admin.listen {
            None => None,
            Some(at) => match at.value.parse::<SocketAddr>() {
                Ok(address) if address.port() > 0 => Some(address),
                _ => {
                    let hint = "write an address and a port, such as `127.0.0.1:7070` or `[::1]:7070`";
                    let what = format!("`{}` is nowhere to listen", at.value.escape_debug());
                    self.note(at, what, Some(hint));
                    return None;
                }
            },
        };
        let Some(socket) = &admin.socket else {
            return Some(checked::Admin { socket: PathBuf::from(checked::DEFAULT_SOCKET), listen });
        };
        let path = self.path(socket)?;
        // sockaddr_un holds 108 bytes with the NUL at the end.
        if path.as_os_str().len() > 107 {
            self.note(
                socket,
                "a socket's path has at most 107 bytes".to_owned(),
                Some("choose a shorter one"),
            );
            return None;
        }
        Some(checked::Admin { socket: path, listen })
    }

    fn capture(&mut self, capture: &raw::Capture) -> Option<checked::Capture> {
        let pins = match &capture.pins {
            None => Some(PathBuf::from("/sys/fs/bpf/nodegate")),
            Some(pins) => self.path(pins),
        };
        let cgroup_parent = match &capture.cgroup_parent {
            None => Some("nodegate".to_owned()),
            Some(parent) => self.cgroup(parent),
        };
        let root = match &capture.root {
            None => Some(String::new()),
            Some(root) => self.cgroup(root),
        };
        let accept: Vec<_> = capture.accept.iter().map(|name| self.accepted(name)).collect();
        let existing = match &capture.existing {
            None => Some(checked::Existing::End),
            Some(existing) => {
                self.word(existing, "treatment", &["end", "report"], &[]).map(|word| match word {
                    "report" => checked::Existing::Report,
                    _ => checked::Existing::End,
                })
            }
        };
        // Whoever wants such connections reported does not ask the node to end them.
        let reported = (existing == Some(checked::Existing::Report)).then(|| promise(EXISTING)).flatten();
        let deny_unix: Vec<_> = capture.deny_unix.iter().map(|name| self.unix_name(name)).collect();
        let allow_unix: Vec<_> = capture.allow_unix.iter().map(|name| self.unix_name(name)).collect();
        Some(checked::Capture {
            pins: pins?,
            cgroup_parent: cgroup_parent?,
            existing: existing?,
            deny_unix: deny_unix.into_iter().collect::<Option<_>>()?,
            allow_unix: allow_unix.into_iter().collect::<Option<_>>()?,
            root: root?,
            accept: accept.into_iter().chain(reported.map(Some)).collect::<Option<_>>()?,
        })
    }

    /// The name of a Unix socket as its server gives it, or the beginning of one.
    fn unix_name(&mut self, at: &At<String>) -> Option<String> {
        let name = at.value.strip_suffix('*').unwrap_or(&at.value);
        let plain = !name.contains('*') && name.len() < 108;
        if plain && (name.starts_with('/') || name.starts_with('@')) {
            return Some(at.value.clone());
        }
        let hint = "write a whole path, or its beginning and `*`; `@` begins an abstract name";
        self.note(at, "not the name of a Unix socket".to_owned(), Some(hint));
        None
    }

    /// A cgroup below the mount.
    fn cgroup(&mut self, at: &At<String>) -> Option<String> {
        let plain = Path::new(&at.value).components().all(|part| matches!(part, Component::Normal(_)));
        if plain && !at.value.is_empty() {
            return Some(at.value.trim_end_matches('/').to_owned());
        }
        let hint = "write it as it is below the cgroup2 mount, such as `nodegate` or `agents/nodegate`";
        self.note(at, "not a relative path without `..`".to_owned(), Some(hint));
        None
    }

    fn kubernetes(&mut self, kubernetes: &raw::Kubernetes) -> Option<checked::Kubernetes> {
        let node = match &kubernetes.node.value {
            raw::Node::Name(name) => name.clone(),
            raw::Node::Environment(variable) => std::env::var(variable).unwrap_or_default(),
        };
        // An object's name: RFC 1123 subdomain.
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if node.is_empty() || node.len() > 253 || !node.bytes().all(plain) {
            let hint = "it is `spec.nodeName` of this node's pods; in a pod, the downward API gives it";
            self.note(&kubernetes.node, format!("`{}` is no node's name", node.escape_debug()), Some(hint));
            return None;
        }
        let kubeconfig = match &kubernetes.kubeconfig {
            None => None,
            Some(file) => Some(self.existing(file, Kind::File)?),
        };
        let unknown_pods = match &kubernetes.unknown_pods {
            None => checked::UnknownPods::Hold,
            Some(word) => match self.word(word, "unknown_pods", &["hold", "pass"], &[])? {
                "pass" => checked::UnknownPods::Pass,
                _ => checked::UnknownPods::Hold,
            },
        };
        Some(checked::Kubernetes { node, kubeconfig, unknown_pods })
    }

    /// A promise that need not be kept, by its name.
    fn accepted(&mut self, at: &At<String>) -> Option<&'static Promise> {
        let names: Vec<&'static str> = PROMISES.iter().map(|promise| promise.name).collect();
        self.word(at, "promise", &names, &[]).and_then(promise)
    }

    fn limits(&mut self, limits: &raw::Limits) -> Option<checked::Limits> {
        let sessions = match &limits.sessions {
            None => Some(4096),
            Some(sessions) if sessions.value == 0 => {
                self.note(sessions, "0 sessions would refuse everything".to_owned(), Some("write 1 or more"));
                None
            }
            Some(sessions) => Some(sessions.value),
        };
        let startup_timeout = match &limits.startup_timeout {
            None => Some(Duration::from_secs(10)),
            Some(timeout) => self.duration(timeout, Zero::Refused),
        };
        let idle_timeout = match &limits.idle_timeout {
            None => Some(None),
            Some(timeout) => self.duration(timeout, Zero::Refused).map(Some),
        };
        let drain_timeout = match &limits.drain_timeout {
            None => Some(Duration::from_secs(30)),
            Some(timeout) => self.duration(timeout, Zero::Allowed),
        };
        Some(checked::Limits {
            sessions: sessions?,
            startup_timeout: startup_timeout?,
            idle_timeout: idle_timeout?,
            drain_timeout: drain_timeout?,
        })
    }

    fn note<T>(&mut self, at: &At<T>, what: String, hint: Option<&str>) {
        let position = position(at.referenced);
        self.problems.push(Problem { position, what, hint: hint.map(str::to_owned) });
    }

    /// One of `known`. Words of `later` are refused with the reason that they are not there yet.
    fn word(
        &mut self,
        at: &At<String>,
        key: &str,
        known: &[&'static str],
        later: &[&'static str],
    ) -> Option<&'static str> {
        let word = at.value.as_str();
        if let Some(found) = known.iter().find(|candidate| **candidate == word) {
            return Some(found);
        }
        if later.contains(&word) {
            let hint = format!("this version knows {}", listed(known));
            self.note(at, format!("{key} `{word}` {LATER}"), Some(&hint));
            return None;
        }
        let hint = nearest(word, known.iter().chain(later).copied()).map_or_else(
            || format!("this version knows {}", listed(known)),
            |near| format!("did you mean `{near}`?"),
        );
        self.note(at, format!("unknown {key} `{}`", word.escape_debug()), Some(&hint));
        None
    }

    /// A text that is not empty and holds no control characters.
    fn text(&mut self, at: &At<String>, what: &str) -> Option<String> {
        if at.value.trim().is_empty() {
            self.note(at, format!("{what} is empty"), None);
            return None;
        }
        if at.value.chars().any(char::is_control) {
            self.note(at, format!("{what} contains control characters"), None);
            return None;
        }
        Some(at.value.clone())
    }

    /// A name that policies, logs and file names can bear: letters, digits, `-`, `_` and `.`.
    fn name(&mut self, at: &At<String>, what: &str) -> Option<String> {
        let name = self.text(at, what)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.len() > 63 || !name.bytes().all(plain) {
            let hint = "use up to 63 letters, digits, `-`, `_` and `.`";
            self.note(at, format!("{what} `{}` cannot be used", name.escape_debug()), Some(hint));
            return None;
        }
        Some(name)
    }

    /// A path, made absolute from the file's own directory.
    fn path(&mut self, at: &At<String>) -> Option<PathBuf> {
        let text = self.text(at, "the path")?;
        Some(self.directory.join(text))
    }

    /// A path to something that exists and can be opened.
    fn existing(&mut self, at: &At<String>, kind: Kind) -> Option<PathBuf> {
        let path = self.path(at)?;
        let shown = path.display();
        let opened = match kind {
            Kind::Directory => fs::read_dir(&path).map(drop),
            // Opening a FIFO would wait for a writer: its metadata must do.
            Kind::File => fs::metadata(&path).and_then(|metadata| {
                if metadata.is_file() {
                    fs::File::open(&path).map(drop)
                } else {
                    Err(io::ErrorKind::InvalidInput.into())
                }
            }),
        };
        let Err(error) = opened else { return Some(path) };
        let (what, hint) = match error.kind() {
            io::ErrorKind::NotFound => (
                format!("there is no {kind} {shown}"),
                at.value
                    .starts_with('/')
                    .not()
                    .then_some("relative paths count from the configuration file's directory"),
            ),
            io::ErrorKind::PermissionDenied => (
                format!("{shown} may not be read"),
                Some("run as a user who may read it, or change its mode"),
            ),
            io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => {
                (format!("{shown} is not a {kind}"), None)
            }
            _ => (format!("{shown} cannot be read: {error}"), None),
        };
        self.note(at, what, hint);
        None
    }

    fn duration(&mut self, at: &At<String>, zero: Zero) -> Option<Duration> {
        let Some(duration) = parse_duration(&at.value) else {
            let what = format!("`{}` is not a duration", at.value.escape_debug());
            self.note(at, what, Some("write a whole number and a unit: `500ms`, `30s`, `5m`, `1h`"));
            return None;
        };
        if zero == Zero::Refused && duration.is_zero() {
            self.note(at, "the duration must be longer than nothing".to_owned(), None);
            return None;
        }
        Some(duration)
    }
}

/// What a path must lead to.
#[derive(Debug, Clone, Copy)]
enum Kind {
    File,
    Directory,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Directory => "directory",
        })
    }
}

/// Whether a duration of nothing makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zero {
    Allowed,
    Refused,
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// `500ms`, `30s`, `5m`, `1h`, up to a year.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let milliseconds = number.checked_mul(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    })?;
    (milliseconds <= 366 * 24 * 3_600_000).then(|| Duration::from_millis(milliseconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_duration("5m"), Some(Duration::from_mins(5)));
        assert_eq!(parse_duration("1h"), Some(Duration::from_hours(1)));
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "9000000h", "1é"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
