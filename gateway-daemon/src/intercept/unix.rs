//! `connect()` and `sendto()` of Unix sockets, by the hooks that cgroups have for them since Linux 6.7. These see the name that the caller gives, and nothing of where it leads: a
//! control socket is recognised by its whole path and by the last part of any path, not behind a link of another name.
//!
//! The programs call a kernel function to get at that name, which neither aya nor the compiler can express; so they
//! are put together here.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "sizes and offsets of small structures, in the widths that instructions have for them"
)]

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use gateway_common::{
    guard::{PATH_BYTES, QUIETLY},
    maps,
    refusal::{Reason, Refusal},
};

use super::{
    btf::Layouts,
    sys::{
        self,
        load::{Instruction, attach, program},
    },
};

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const CGROUP_SOCK_ADDR: u32 = 18;
/// The programs by the names of their pins, each with its hook: `BPF_CGROUP_UNIX_CONNECT`, `BPF_CGROUP_UNIX_SENDMSG`.
pub(super) const PROGRAMS: [(&str, u32); 2] = [("nodegate_uconn", 49), ("nodegate_usend", 50)];

/// Last parts of the paths of control sockets that mean nothing else.
pub(super) const LAST_PARTS: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "crio.sock",
    "cri-dockerd.sock",
    "dockershim.sock",
    "podman.sock",
    "buildkitd.sock",
    "kubelet.sock",
    "libvirt-sock",
    "snapd.socket",
    "system_bus_socket",
    "io.systemd.Resolve",
];

/// The loaded programs.
#[derive(Debug)]
pub(super) struct UnixHooks(Vec<OwnedFd>);

impl UnixHooks {
    /// Loads them over the pinned maps in `map_dir`.
    pub fn load(map_dir: &Path) -> io::Result<Self> {
        let layouts = Layouts::of_this_kernel()?;
        let field = |field| layouts.offset(&[("bpf_sock_addr_kern", field)]).and_then(short);
        let facts = Facts {
            cast: layouts.function("bpf_cast_to_kern_ctx")?,
            address: field("uaddr")?,
            length: field("uaddrlen")?,
        };
        let names = sys::open_pinned(&map_dir.join(maps::CONTROL_SOCKETS))?;
        let refusals = sys::open_pinned(&map_dir.join(maps::REFUSALS))?;
        let code = assemble(&facts, names.as_raw_fd(), refusals.as_raw_fd())?;
        let programs = PROGRAMS.iter().map(|(_, hook)| program(CGROUP_SOCK_ADDR, *hook, &code));
        programs.collect::<io::Result<_>>().map(Self)
    }

    /// Makes the link that is pinned at `pin` run the program of that name, or makes such a link.
    pub fn link(&self, name: &str, cgroup: &File, pin: &Path) -> io::Result<()> {
        let found = PROGRAMS.iter().zip(&self.0).find(|((known, _), _)| *known == name);
        let ((_, hook), program) = found.ok_or(io::ErrorKind::NotFound)?;
        match sys::open_pinned(pin) {
            Ok(link) => match sys::update_link(link, program) {
                // The link's cgroup is gone, and this one has inherited its number.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => std::fs::remove_file(pin)?,
                updated => return updated,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        sys::pin(attach(program.as_fd(), cgroup, *hook)?, pin)
    }
}

/// Whether the hooks are there and the programs load; with maps of their own, which go again.
pub(super) fn try_out() -> Result<String, String> {
    let tried = || -> io::Result<()> {
        let layouts = Layouts::of_this_kernel()?;
        layouts.function("bpf_cast_to_kern_ctx")?;
        layouts.offset(&[("bpf_sock_addr_kern", "uaddrlen")])?;
        let pass = [Instruction::set(0, 1), Instruction::EXIT];
        PROGRAMS.iter().try_for_each(|(_, hook)| program(CGROUP_SOCK_ADDR, *hook, &pass).map(drop))
    };
    match tried() {
        Ok(()) => Ok("by the name that the caller gives".to_owned()),
        Err(error) => {
            Err(format!("no hook at the connect() of Unix sockets (Linux 6.7 brought it): {error}"))
        }
    }
}

/// What differs between kernels.
struct Facts {
    /// The kernel function that leads from the program's context to the kernel's own.
    cast: i32,
    /// Where that has the socket address, and its length.
    address: i16,
    length: i16,
}

const KEY_BYTES: i16 = 4 + PATH_BYTES as i16;
/// Key on the stack: number of bits, then the name.
const KEY: i16 = -KEY_BYTES;
const NAME: i16 = KEY + 4;
/// `sockaddr_un.sun_path`
const SUN_PATH: i32 = 2;
const AF_UNIX: i32 = 1;

// Helpers by number.
const MAP_LOOKUP: i32 = 1;
const PID_TGID: i32 = 14;
const UID_GID: i32 = 15;
const COMM: i32 = 16;
const CGROUP: i32 = 80;
const PROBE_READ_KERNEL: i32 = 113;
const BOOT_NS: i32 = 125;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_SUBMIT: i32 = 132;
const SET_RETVAL: i32 = 187;

fn assemble(facts: &Facts, names: i32, refusals: i32) -> io::Result<Vec<Instruction>> {
    let mut code = Assembler::default();
    // r7 = the address, r8 = how long the name is: the kernel ends it with a NUL only after this hook.
    code.add([
        Instruction::kernel_function(facts.cast),
        Instruction::load_long(7, 0, facts.address),
        Instruction::load_word(8, 0, facts.length),
    ]);
    code.jump(Jump::Equal(7, 0), "allow");
    code.add([Instruction::add(8, -SUN_PATH)]);
    code.jump(Jump::SignedLess(8, 1), "allow");
    code.jump(Jump::LessOrEqual(8, PATH_BYTES as i32), "fits");
    code.add([Instruction::set(8, PATH_BYTES as i32)]);
    code.label("fits");
    code.add([Instruction::set(9, 0)]);
    look_up(&mut code, names);
    code.jump(Jump::NotEqual(0, 0), "found");

    // r9 = where the last part begins. Abstract names have no parts.
    code.add([Instruction::load_byte(1, 10, NAME)]);
    code.jump(Jump::Equal(1, 0), "allow");
    for at in 0..PATH_BYTES as i16 {
        let next = format!("behind {at}");
        code.add([Instruction::load_byte(1, 10, NAME + at)]);
        code.jump(Jump::Equal(1, 0), "end");
        code.jump(Jump::NotEqual(1, i32::from(b'/')), &next);
        code.add([Instruction::set(9, i32::from(at) + 1)]);
        code.label(&next);
    }
    code.label("end");
    code.add([Instruction::subtract_register(8, 9)]);
    code.jump(Jump::SignedLess(8, 1), "allow");
    code.jump(Jump::Greater(8, PATH_BYTES as i32), "allow");
    look_up(&mut code, names);
    code.jump(Jump::Equal(0, 0), "allow");

    // r9 = the entry's number; 0 is an exception from the list.
    code.label("found");
    code.add([Instruction::load_word(9, 0, 0)]);
    code.jump(Jump::Equal(9, 0), "allow");
    code.jump(Jump::Greater(9, QUIETLY as i32 - 1), "refuse");
    report(&mut code, refusals);
    code.label("refuse");
    code.add([Instruction::set(1, -libc::EPERM), Instruction::call(SET_RETVAL)]);
    code.add([Instruction::set(0, 0), Instruction::EXIT]);
    code.label("allow");
    code.add([Instruction::set(0, 1), Instruction::EXIT]);
    code.finish()
}

/// Looks `r8` bytes of the name up, from byte `r9` on. What cannot be read is refused.
fn look_up(code: &mut Assembler, names: i32) {
    for at in (0..KEY_BYTES).step_by(8) {
        code.add([Instruction::store_long(10, KEY + at, 0)]);
    }
    code.add([
        Instruction::store_word(10, KEY, PATH_BYTES as i32 * 8),
        Instruction::copy(1, 10),
        Instruction::add(1, NAME.into()),
        Instruction::copy(2, 8),
        Instruction::copy(3, 7),
        Instruction::add(3, SUN_PATH),
        Instruction::add_register(3, 9),
        Instruction::call(PROBE_READ_KERNEL),
    ]);
    code.jump(Jump::NotEqual(0, 0), "refuse");
    code.add(Instruction::map(1, names));
    code.add([Instruction::copy(2, 10), Instruction::add(2, KEY.into()), Instruction::call(MAP_LOOKUP)]);
}

/// Says in the ring buffer that entry `r9` was met. A full buffer loses the entry, never the refusal.
fn report(code: &mut Assembler, refusals: i32) {
    code.add(Instruction::map(1, refusals));
    code.add([
        Instruction::set(2, size_of::<Refusal>() as i32),
        Instruction::set(3, 0),
        Instruction::call(RINGBUF_RESERVE),
    ]);
    code.jump(Jump::Equal(0, 0), "refuse");
    let at = |field: usize| field as i16;
    code.add([
        Instruction::copy(8, 0),
        Instruction::call(CGROUP),
        Instruction::store_long(8, at(std::mem::offset_of!(Refusal, captured_cgroup)), 0),
        Instruction::store_long_register(8, at(std::mem::offset_of!(Refusal, cgroup)), 0),
        Instruction::store_long(8, at(std::mem::offset_of!(Refusal, netns)), 0),
        Instruction::call(BOOT_NS),
        Instruction::store_long_register(8, at(std::mem::offset_of!(Refusal, at)), 0),
        Instruction::call(PID_TGID),
        Instruction::store_word_register(8, at(std::mem::offset_of!(Refusal, tid)), 0),
        Instruction::shift_right(0, 32),
        Instruction::store_word_register(8, at(std::mem::offset_of!(Refusal, tgid)), 0),
        Instruction::call(UID_GID),
        Instruction::store_word_register(8, at(std::mem::offset_of!(Refusal, uid)), 0),
        Instruction::store_word(8, at(std::mem::offset_of!(Refusal, reason)), Reason::ControlSocket as i32),
        Instruction::store_long(8, at(std::mem::offset_of!(Refusal, address)), 0),
        Instruction::store_long(8, at(std::mem::offset_of!(Refusal, address)) + 8, 0),
        Instruction::store_half_register(8, at(std::mem::offset_of!(Refusal, port)), 9),
        Instruction::store_half(8, at(std::mem::offset_of!(Refusal, family)), AF_UNIX),
        Instruction::store_word(8, at(std::mem::offset_of!(Refusal, kind)), 0),
        Instruction::copy(1, 8),
        Instruction::add(1, std::mem::offset_of!(Refusal, comm) as i32),
        Instruction::set(2, 16),
        Instruction::call(COMM),
        Instruction::copy(1, 8),
        Instruction::set(2, 0),
        Instruction::call(RINGBUF_SUBMIT),
    ]);
}

/// A jump's condition: a register and what it is compared with.
#[derive(Clone, Copy)]
enum Jump {
    Equal(u8, i32),
    NotEqual(u8, i32),
    Greater(u8, i32),
    LessOrEqual(u8, i32),
    SignedLess(u8, i32),
}

/// Instructions with names for places.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    places: HashMap<String, usize>,
    jumps: Vec<(usize, String)>,
}

impl Assembler {
    fn add(&mut self, instructions: impl IntoIterator<Item = Instruction>) {
        self.code.extend(instructions);
    }

    fn label(&mut self, name: &str) {
        self.places.insert(name.to_owned(), self.code.len());
    }

    fn jump(&mut self, when: Jump, to: &str) {
        let (code, register, value) = match when {
            Jump::Equal(register, value) => (0x15, register, value),
            Jump::Greater(register, value) => (0x25, register, value),
            Jump::NotEqual(register, value) => (0x55, register, value),
            Jump::LessOrEqual(register, value) => (0xb5, register, value),
            Jump::SignedLess(register, value) => (0xc5, register, value),
        };
        self.jumps.push((self.code.len(), to.to_owned()));
        self.code.push(Instruction::jump(code, register, value));
    }

    fn finish(mut self) -> io::Result<Vec<Instruction>> {
        for (from, to) in self.jumps {
            let place = self.places.get(&to).ok_or(io::ErrorKind::NotFound)?;
            let distance = place.checked_sub(from + 1).ok_or(io::ErrorKind::InvalidInput)?;
            let distance = i16::try_from(distance).map_err(io::Error::other)?;
            self.code.get_mut(from).ok_or(io::ErrorKind::NotFound)?.set_distance(distance);
        }
        Ok(self.code)
    }
}

fn short(offset: u32) -> io::Result<i16> {
    i16::try_from(offset).map_err(io::Error::other)
}
