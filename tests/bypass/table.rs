//! A pinned map of the kernel side, filled to the last entry as no honest process would.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Commands of bpf(2).
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;

/// The largest part of `union bpf_attr` that is used here.
#[repr(C)]
#[derive(Default)]
struct Words([u64; 16]);

/// A pinned map.
pub struct Table {
    map: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
    entries: u64,
}

impl Table {
    /// Opens it.
    pub fn open(pin: &Path) -> Self {
        let path = CString::new(pin.as_os_str().as_bytes()).expect("a path");
        let mut words = Words::default();
        words.0[0] = path.as_ptr() as u64;
        let fd = call(OBJ_GET, &mut words).expect("to open a map");
        #[expect(unsafe_code, reason = "the kernel has just made this descriptor, and nobody else owns it")]
        let map = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) };
        // struct bpf_map_info begins with type, id, key_size, value_size, max_entries.
        let mut info = [0_u32; 32];
        let mut words = Words::default();
        words.0[0] = u64::from(map.as_raw_fd().unsigned_abs()) | (size_of_val(&info) as u64) << 32;
        words.0[1] = info.as_mut_ptr() as u64;
        call(OBJ_GET_INFO_BY_FD, &mut words).expect("to ask for a map's shape");
        Self { map, key_bytes: info[2] as usize, value_bytes: info[3] as usize, entries: u64::from(info[4]) }
    }

    /// Fills it until the kernel takes no more; answers with how many entries that took.
    pub fn fill(&self) -> u64 {
        let value = vec![0_u8; self.value_bytes];
        for number in 0..=self.entries {
            let key = self.key(number);
            let mut words = self.words(&key);
            words.0[2] = value.as_ptr() as u64;
            if let Err(error) = call(MAP_UPDATE_ELEM, &mut words) {
                let full = [libc::E2BIG, libc::ENOMEM, libc::ENOSPC];
                assert!(error.raw_os_error().is_some_and(|code| full.contains(&code)), "{error}");
                return number;
            }
        }
        panic!("a map of {} entries takes more", self.entries)
    }

    /// Takes out what [`fill`](Self::fill) put in.
    pub fn clear(&self, filled: u64) {
        for number in 0..filled {
            let key = self.key(number);
            // Whoever clears away old entries may have been quicker.
            let _ = call(MAP_DELETE_ELEM, &mut self.words(&key));
        }
    }

    /// Keys that no real entry has: addresses and numbers of all ones.
    fn key(&self, number: u64) -> Vec<u8> {
        let mut key = vec![0xff; self.key_bytes];
        let number = u32::try_from(number).expect("a small number") | 0x8000_0000;
        key[..4].copy_from_slice(&number.to_ne_bytes());
        key
    }

    fn words(&self, key: &[u8]) -> Words {
        let mut words = Words::default();
        words.0[0] = u64::from(self.map.as_raw_fd().unsigned_abs());
        words.0[1] = key.as_ptr() as u64;
        words
    }
}

fn call(command: libc::c_long, words: &mut Words) -> io::Result<libc::c_long> {
    #[expect(unsafe_code, reason = "bpf(2) has no wrapper; every pointer in the words outlives the call")]
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(words), size_of::<Words>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
