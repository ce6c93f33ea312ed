//! Loading and attaching of programs so small that they are written down instruction by instruction, to find out what
//! a kernel takes.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd, RawFd},
};

use super::{bpf, number};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;

/// One instruction, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(in crate::intercept) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    /// `r<register> = value`.
    pub const fn set(register: u8, value: i32) -> Self {
        Self { code: 0xb7, registers: register, offset: 0, immediate: value }
    }

    /// A call of the helper of that number.
    pub const fn call(helper: i32) -> Self {
        Self { code: 0x85, registers: 0, offset: 0, immediate: helper }
    }

    /// The end; `r0` is the program's answer.
    pub const EXIT: Self = Self { code: 0x95, registers: 0, offset: 0, immediate: 0 };
}

/// The part of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The part of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreateAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads a program. It goes when the descriptor does.
pub(in crate::intercept) fn program(
    program_type: u32,
    attach_type: u32,
    instructions: &[Instruction],
) -> io::Result<OwnedFd> {
    let license = c"Dual MIT/GPL";
    let mut attr = LoadAttr {
        program_type,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type,
        ..LoadAttr::default()
    };
    owned(bpf(BPF_PROG_LOAD, &mut attr)?)
}

/// Attaches a program to a cgroup. It is off again when the descriptor goes.
pub(in crate::intercept) fn attach(
    program: impl AsFd,
    cgroup: &File,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut attr =
        LinkCreateAttr { program: number(&program)?, target: number(cgroup)?, attach_type, flags: 0 };
    owned(bpf(BPF_LINK_CREATE, &mut attr)?)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::other("bpf(2) answered with no descriptor"))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
