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

    /// A call of a function of the kernel, by its number in the kernel's type information.
    pub const fn kernel_function(id: i32) -> Self {
        Self::new(0x85, 0, 2, 0, id)
    }

    /// `r<to> = r<from>`.
    pub const fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbf, to, from, 0, 0)
    }

    /// `r<register> += value`.
    pub const fn add(register: u8, value: i32) -> Self {
        Self::new(0x07, register, 0, 0, value)
    }

    /// `r<to> += r<from>`.
    pub const fn add_register(to: u8, from: u8) -> Self {
        Self::new(0x0f, to, from, 0, 0)
    }

    /// `r<from> -= r<what>`.
    pub const fn subtract_register(from: u8, what: u8) -> Self {
        Self::new(0x1f, from, what, 0, 0)
    }

    /// `r<register> >>= bits`.
    pub const fn shift_right(register: u8, bits: i32) -> Self {
        Self::new(0x77, register, 0, 0, bits)
    }

    /// `r<to> = *(u64 *)(r<base> + offset)`.
    pub const fn load_long(to: u8, base: u8, offset: i16) -> Self {
        Self::new(0x79, to, base, offset, 0)
    }

    /// `r<to> = *(u32 *)(r<base> + offset)`.
    pub const fn load_word(to: u8, base: u8, offset: i16) -> Self {
        Self::new(0x61, to, base, offset, 0)
    }

    /// `r<to> = *(u8 *)(r<base> + offset)`.
    pub const fn load_byte(to: u8, base: u8, offset: i16) -> Self {
        Self::new(0x71, to, base, offset, 0)
    }

    /// `*(u64 *)(r<base> + offset) = value`.
    pub const fn store_long(base: u8, offset: i16, value: i32) -> Self {
        Self::new(0x7a, base, 0, offset, value)
    }

    /// `*(u32 *)(r<base> + offset) = value`.
    pub const fn store_word(base: u8, offset: i16, value: i32) -> Self {
        Self::new(0x62, base, 0, offset, value)
    }

    /// `*(u16 *)(r<base> + offset) = value`.
    pub const fn store_half(base: u8, offset: i16, value: i32) -> Self {
        Self::new(0x6a, base, 0, offset, value)
    }

    /// `*(u64 *)(r<base> + offset) = r<from>`.
    pub const fn store_long_register(base: u8, offset: i16, from: u8) -> Self {
        Self::new(0x7b, base, from, offset, 0)
    }

    /// `*(u32 *)(r<base> + offset) = r<from>`.
    pub const fn store_word_register(base: u8, offset: i16, from: u8) -> Self {
        Self::new(0x63, base, from, offset, 0)
    }

    /// `*(u16 *)(r<base> + offset) = r<from>`.
    pub const fn store_half_register(base: u8, offset: i16, from: u8) -> Self {
        Self::new(0x6b, base, from, offset, 0)
    }

    /// `r<register> = the map of that descriptor`, two instructions.
    pub const fn map(register: u8, descriptor: i32) -> [Self; 2] {
        [Self::new(0x18, register, 1, 0, descriptor), Self::new(0, 0, 0, 0, 0)]
    }

    /// A jump of that code, comparing a register with a value; its distance is set later.
    pub const fn jump(code: u8, register: u8, value: i32) -> Self {
        Self::new(code, register, 0, 0, value)
    }

    /// Sets how many instructions a jump leaves out.
    pub const fn set_distance(&mut self, distance: i16) {
        self.offset = distance;
    }

    const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        Self { code, registers: to | from << 4, offset, immediate }
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
