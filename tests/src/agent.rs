//! A captured agent that lends its sockets: it connects inside its cgroup and hands the connection to the test,
//! which can then speak on it byte by byte. Also the messages between the test and that helper.

use std::{
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::{
    signal::Signal,
    socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

use super::{leftovers, programs};

/// A helper process inside a captured cgroup.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    control: UnixStream,
    socket: PathBuf,
}

impl Agent {
    /// Starts the helper through `wrapper`: a `nodegate run … --` to which the helper's own words are added.
    pub fn start(mut wrapper: Command) -> Result<Self, String> {
        let socket = std::env::temp_dir().join(format!("{}.sock", leftovers::unique_name()));
        let listener = UnixListener::bind(&socket).expect("the agent's control socket");
        listener.set_nonblocking(true).expect("a listener that can be polled");
        wrapper.arg(programs::agent()).arg("serve").arg(&socket);
        let mut child = wrapper
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent to start");
        let accepted = programs::wait_for("the agent to answer", Duration::from_secs(20), || {
            if let Ok((control, _)) = listener.accept() {
                return Some(Ok(control));
            }
            let status = child.try_wait().ok()??;
            let mut said = String::new();
            let _ = child.stderr.take()?.read_to_string(&mut said);
            Some(Err(format!("the agent never ran ({status}): {said}")))
        });
        let control = accepted.inspect_err(|_| drop(std::fs::remove_file(&socket)))?;
        control.set_nonblocking(false).expect("a blocking control socket");
        control.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Ok(Self { child, control, socket })
    }

    /// Connects from inside the cgroup.
    pub fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        self.control.write_all(format!("{to}\n").as_bytes()).expect("the agent to listen");
        let mut answer = [0; 4];
        let mut parts = [IoSliceMut::new(&mut answer)];
        let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let received = recvmsg::<()>(
            self.control.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_WAITALL,
        )
        .expect("the agent to answer");
        let passed = received.cmsgs().expect("control messages").find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let error = i32::from_be_bytes(answer);
        match passed {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            #[expect(unsafe_code, reason = "a descriptor that arrives in a message has no owner yet")]
            Some(descriptor) => Ok(TcpStream::from(unsafe { OwnedFd::from_raw_fd(descriptor) })),
            None => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// The process id of the `nodegate run` that wraps it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Its control socket closes, so it ends by itself, and `run` with it.
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        programs::end(&mut self.child, Signal::SIGKILL);
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// The helper's side: connects wherever it is told to and passes the sockets back, until the other side closes.
pub fn serve(control: &Path) -> io::Result<()> {
    let mut control = UnixStream::connect(control)?;
    let mut line = Vec::new();
    let mut byte = [0];
    while control.read(&mut byte)? == 1 {
        if byte[0] != b'\n' {
            line.push(byte[0]);
            continue;
        }
        let to: SocketAddr = std::str::from_utf8(&line)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        line.clear();
        let connected = TcpStream::connect_timeout(&to, Duration::from_secs(10));
        let error = connected.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
        let answer = error.to_be_bytes();
        let descriptors: Vec<_> = connected.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
        sendmsg::<()>(control.as_raw_fd(), &[IoSlice::new(&answer)], rights, MsgFlags::empty(), None)?;
    }
    Ok(())
}
