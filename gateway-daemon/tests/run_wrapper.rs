//! `nodegate run` as a process among processes: exit codes, signals, the terminal, and that nothing runs which is not
//! captured. The daemon's end of the socket is played by a stub; that capture itself works is tested end to end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const NODEGATE: &str = env!("CARGO_BIN_EXE_nodegate");

/// How the stub answers `POST /v1/runs`.
#[derive(Clone, Copy)]
enum Answer {
    Armed,
    Refused,
    Never,
    /// Armed, and nobody is there afterwards.
    ArmedThenGone,
}

/// A daemon's socket, answered by a stub; what it was asked arrives in `asked`.
struct Stub {
    dir: tempfile::TempDir,
    asked: mpsc::Receiver<Asked>,
}

struct Asked {
    line: String,
    body: String,
    /// Whether the marker was there when the request came, and still a moment later.
    marker_there: bool,
}

impl Stub {
    fn start(answer: Answer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("nodegate.sock")).unwrap();
        let marker = dir.path().join("marker");
        let (tell, asked) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if !serve_one(stream, answer, &marker, &tell) {
                    return;
                }
            }
        });
        Self { dir, asked }
    }

    fn marker(&self) -> PathBuf {
        self.dir.path().join("marker")
    }

    /// `nodegate run`, with these arguments behind it.
    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(NODEGATE);
        command.env("NODEGATE_SOCKET", self.dir.path().join("nodegate.sock"));
        // The stub has no authority to give.
        command.env("MARKER", self.marker()).args(["run", "--no-trust"]).args(arguments);
        command
    }

    fn script(&self, script: &str) -> Command {
        self.run(&["--", "sh", "-c", script])
    }

    fn next(&self) -> Asked {
        self.asked.recv_timeout(Duration::from_secs(10)).expect("the stub was not asked")
    }
}

/// Whether to go on serving.
fn serve_one(stream: UnixStream, answer: Answer, marker: &Path, tell: &mpsc::Sender<Asked>) -> bool {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let starts = line.starts_with("POST /v1/runs ");
    if starts {
        // Time enough for a command that does not wait for its turn.
        thread::sleep(Duration::from_millis(100));
    }
    let body = String::from_utf8(body).unwrap();
    let _ = tell.send(Asked { line: line.trim().to_owned(), body, marker_there: marker.exists() });
    let (status, kind, body) = match (starts, answer) {
        (false, _) => ("204 No Content", "json", ""),
        (true, Answer::Armed | Answer::ArmedThenGone) => {
            ("201 Created", "json", r#"{"cgroup":77,"path":"/nodegate/run-77","label":null,"authority":""}"#)
        }
        (true, Answer::Refused) => (
            "403 Forbidden",
            "problem+json",
            r#"{"status":403,"title":"Forbidden","detail":"the token has expired"}"#,
        ),
        (true, Answer::Never) => {
            // Held until the other end gives up.
            let _ = reader.read_to_end(&mut Vec::new());
            return true;
        }
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/{kind}\r\nconnection: close\r\n");
    let _ = write!(reader.get_mut(), "{head}content-length: {}\r\n\r\n{body}", body.len());
    !(starts && matches!(answer, Answer::ArmedThenGone))
}

/// Runs to the end, and fails rather than hang.
fn finish(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    finish_child(child)
}

fn finish_child(child: Child) -> Output {
    let pid = pid_of(&child);
    let (done, ended) = mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    if let Ok(output) = ended.recv_timeout(Duration::from_secs(20)) {
        return output.unwrap();
    }
    let _ = kill(pid, Signal::SIGKILL);
    panic!("nodegate run did not end");
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// Starts a script and waits until it says `ready`.
fn started(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    child
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The letter of a process's state in `/proc`, `None` when it is gone.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn pid_in(asked: &Asked) -> i32 {
    let request: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    request["pid"].as_i64().unwrap().try_into().unwrap()
}

#[test]
fn the_exit_status_is_passed_on_and_the_run_is_ended() {
    let stub = Stub::start(Answer::Armed);
    let token = stub.dir.path().join("token");
    fs::write(&token, "head.body.signature\n").unwrap();
    let token = token.to_str().unwrap();
    let script = "touch $MARKER; echo out; echo err >&2; exit 7";
    let output = finish(stub.run(&["--identity", "agent", "--token-file", token, "--", "sh", "-c", script]));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    let asked = stub.next();
    assert_eq!(asked.line, "POST /v1/runs HTTP/1.1");
    assert!(!asked.marker_there, "the command ran before it was captured");
    let request: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(request["label"], "agent");
    assert_eq!(request["token"], "head.body.signature");
    assert_eq!(stub.next().line, "DELETE /v1/runs/77 HTTP/1.1");
    assert!(stub.marker().exists());
}

#[test]
fn standard_input_belongs_to_the_command() {
    let stub = Stub::start(Answer::Armed);
    let mut command = stub.run(&["cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(finish_child(child).stdout, b"through");
}

#[test]
fn options_of_the_command_are_its_own() {
    let stub = Stub::start(Answer::Armed);
    assert_eq!(
        finish(stub.run(&["echo", "--identity", "x", "--socket=/y", "-h"])).stdout,
        b"--identity x --socket=/y -h\n"
    );
}

#[test]
fn the_command_finds_signals_as_the_caller_left_them() {
    let stub = Stub::start(Answer::Armed);
    let output = finish(stub.run(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        let own = [Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGTSTP];
        assert!(own.iter().all(|signal| mask & (1 << (*signal as i32 - 1)) == 0), "{line}");
    }
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_run_126() {
    let stub = Stub::start(Answer::Armed);
    let output = finish(stub.run(&["nodegate-no-such-command"]));
    assert_eq!(output.status.code(), Some(127));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("nodegate-no-such-command: No such file or directory"), "{message}");
    assert_eq!(finish(stub.run(&["/etc/passwd"])).status.code(), Some(126));
}

#[test]
fn nothing_runs_when_capture_is_refused() {
    let stub = Stub::start(Answer::Refused);
    let output = finish(stub.script("touch $MARKER"));
    assert_eq!(output.status.code(), Some(126));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("not started") && message.contains("the token has expired"), "{message}");
    assert!(!stub.marker().exists());
    assert_eq!(state(pid_in(&stub.next())), None, "the child is left");
}

#[test]
fn nothing_runs_without_a_daemon_or_a_readable_token() {
    let stub = Stub::start(Answer::Armed);
    let mut command = stub.script("touch $MARKER");
    command.env("NODEGATE_SOCKET", stub.dir.path().join("nobody.sock"));
    let output = finish(command);
    assert_eq!(output.status.code(), Some(126));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("no daemon answers on") && message.contains("nobody.sock"), "{message}");
    let output = finish(stub.run(&[
        "--token-file",
        "/nonexistent/token",
        "--",
        "touch",
        stub.marker().to_str().unwrap(),
    ]));
    assert_eq!(output.status.code(), Some(126));
    assert!(!stub.marker().exists());
}

#[test]
fn usage_errors_are_2() {
    assert_eq!(finish(Stub::start(Answer::Armed).run(&[])).status.code(), Some(2));
}

#[test]
fn the_wrapper_dies_by_the_signal_that_killed_the_command() {
    let stub = Stub::start(Answer::Armed);
    for (name, signal) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("PIPE", 13), ("USR1", 10)] {
        let output = finish(stub.script(&format!("kill -{name} $$")));
        assert_eq!(output.status.signal(), Some(signal), "{name}");
    }
}

#[test]
fn signals_sent_to_the_wrapper_reach_the_command() {
    for name in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"] {
        let stub = Stub::start(Answer::Armed);
        let script = format!("trap 'exit 5' {name}; echo ready; while :; do sleep 0.05; done");
        let mut command = stub.script(&script);
        command.process_group(0);
        let child = started(command);
        let signal: Signal = format!("SIG{name}").parse().unwrap();
        kill(pid_of(&child), signal).unwrap();
        assert_eq!(finish_child(child).status.code(), Some(5), "{name}");
    }
}

#[test]
fn a_stopped_command_stops_the_wrapper_and_both_go_on() {
    let stub = Stub::start(Answer::Armed);
    let mut command = stub.script("echo ready; while [ ! -e $MARKER ]; do sleep 0.05; done; exit 4");
    // A group of its own, or the kernel may find it orphaned and not let it stop.
    command.process_group(0);
    let child = started(command);
    let wrapper = child.id().cast_signed();
    let command = pid_in(&stub.next());
    kill(Pid::from_raw(wrapper), Signal::SIGTSTP).unwrap();
    eventually("the command stops", || state(command) == Some('T'));
    eventually("the wrapper stops", || state(wrapper) == Some('T'));
    kill(Pid::from_raw(wrapper), Signal::SIGCONT).unwrap();
    eventually("the command goes on", || state(command) != Some('T'));
    fs::write(stub.marker(), "").unwrap();
    assert_eq!(finish_child(child).status.code(), Some(4));
}

#[test]
fn an_interrupt_while_the_daemon_hesitates_starts_nothing() {
    let stub = Stub::start(Answer::Never);
    let mut command = stub.script("touch $MARKER");
    let child = command.process_group(0).spawn().unwrap();
    let waiting = pid_in(&stub.next());
    kill(pid_of(&child), Signal::SIGINT).unwrap();
    assert_eq!(finish_child(child).status.signal(), Some(2));
    assert_eq!(state(waiting), None);
    assert!(!stub.marker().exists());
}

#[test]
fn a_wrapper_that_is_killed_early_takes_the_command_along() {
    let stub = Stub::start(Answer::Never);
    let mut child = stub.script("touch $MARKER").spawn().unwrap();
    let waiting = pid_in(&stub.next());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the waiting child ends", || matches!(state(waiting), None | Some('Z')));
    assert!(!stub.marker().exists());
}

#[test]
fn a_daemon_that_dies_in_between_does_not_change_the_exit_status() {
    let stub = Stub::start(Answer::ArmedThenGone);
    let output = finish(stub.script("sleep 0.3; exit 3"));
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/nodegate/run-77 may be left behind"), "{message}");
}

#[test]
fn the_terminals_interrupt_reaches_the_command_once() {
    let stub = Stub::start(Answer::Armed);
    let log = stub.dir.path().join("log");
    let script = stub.dir.path().join("script.sh");
    let body = "trap 'echo interrupted >> \"$LOG\"' INT\necho ready >> \"$LOG\"\n\
                for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 0.05; done\n[ -t 0 ] && exit 6\n";
    fs::write(&script, body).unwrap();
    let command = format!("exec '{NODEGATE}' run -- sh '{}'", script.display());
    let mut terminal = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("NODEGATE_SOCKET", stub.dir.path().join("nodegate.sock"))
        .env("LOG", &log)
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the command starts", || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")));
    let mut keyboard = terminal.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    let status = finish_child(terminal).status;
    drop(keyboard);
    assert_eq!(fs::read_to_string(&log).unwrap(), "ready\ninterrupted\n");
    assert_eq!(status.code(), Some(6), "standard input is the terminal");
}
