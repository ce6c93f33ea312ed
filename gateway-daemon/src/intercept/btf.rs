//! Where fields lie in the running kernel's structures, read from its BPF type format. Kernels lay them out as they
//! please; each says how. Format: the kernel's `Documentation/bpf/btf.rst`.

use std::{collections::HashMap, fs, io};

/// Where the kernel describes itself.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
/// Anonymous structures within structures are followed so deep.
const MAX_DEPTH: u32 = 8;

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNCTION: u32 = 12;

/// The structures of a kernel.
pub(super) struct Layouts {
    types: Vec<Type>,
    strings: Vec<u8>,
    by_name: HashMap<Vec<u8>, Vec<u32>>,
    functions: HashMap<Vec<u8>, u32>,
}

/// A structure or union, or anything else, of which nothing is remembered.
struct Type {
    members: Vec<Member>,
}

struct Member {
    name: u32,
    of: u32,
    bits: u32,
}

impl Layouts {
    /// Those of the running kernel.
    pub fn of_this_kernel() -> io::Result<Self> {
        Self::parse(&fs::read(VMLINUX)?)
            .ok_or_else(|| invalid("the kernel's type information is not understood"))
    }

    /// Where a field lies in bytes, from the start of the first structure on: each step names a structure and a field
    /// of it that is, or leads to, the next one.
    pub fn offset(&self, steps: &[(&str, &str)]) -> io::Result<u32> {
        let mut bits = 0_u32;
        for (structure, field) in steps {
            let mut found = self.by_name.get(structure.as_bytes()).into_iter().flatten();
            let place = found.find_map(|id| self.find(*id, field.as_bytes(), MAX_DEPTH));
            bits += place.ok_or_else(|| invalid(&format!("this kernel has no {structure}.{field}")))?;
        }
        Ok(bits / 8)
    }

    /// The number of a function.
    pub fn function(&self, name: &str) -> io::Result<i32> {
        let id = self.functions.get(name.as_bytes()).and_then(|id| i32::try_from(*id).ok());
        id.ok_or_else(|| invalid(&format!("this kernel has no {name}")))
    }

    fn find(&self, id: u32, field: &[u8], depth: u32) -> Option<u32> {
        let members = &self.types.get(usize::try_from(id).ok()?)?.members;
        let named = members.iter().find(|member| self.text(member.name) == Some(field));
        if let Some(member) = named {
            return Some(member.bits);
        }
        let depth = depth.checked_sub(1)?;
        let mut anonymous = members.iter().filter(|member| member.name == 0);
        anonymous.find_map(|member| self.find(member.of, field, depth).map(|bits| member.bits + bits))
    }

    fn text(&self, at: u32) -> Option<&[u8]> {
        self.strings.get(usize::try_from(at).ok()?..)?.split(|byte| *byte == 0).next()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let part = |offset: usize| -> Option<&[u8]> {
            let start = word(bytes, 4)?.checked_add(word(bytes, offset)?)?;
            let length = word(bytes, offset + 4)?;
            let start = usize::try_from(start).ok()?;
            bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        let (mut rest, strings) = (part(8)?, part(16)?.to_vec());
        // Type 0 is void.
        let mut layouts = Self {
            types: vec![Type { members: Vec::new() }],
            strings,
            by_name: HashMap::new(),
            functions: HashMap::new(),
        };
        while !rest.is_empty() {
            let (name, info) = (word(rest, 0)?, word(rest, 4)?);
            let kind = info >> 24 & 0x1f;
            let count = usize::try_from(info & 0xffff).ok()?;
            let behind = rest.get(12..)?;
            let length = match kind {
                STRUCT | UNION | 15 | 19 => count * 12,
                3 => 12,
                6 | 13 => count * 8,
                1 | 14 | 17 => 4,
                _ => 0,
            };
            let body = behind.get(..length)?;
            if kind == FUNCTION {
                let id = u32::try_from(layouts.types.len()).ok()?;
                let name = layouts.text(name)?.to_vec();
                layouts.functions.insert(name, id);
            }
            let mut members = Vec::new();
            if kind == STRUCT || kind == UNION {
                let is_bitfield = info >> 31 == 1;
                for member in body.chunks_exact(12) {
                    let bits = word(member, 8)?;
                    let bits = if is_bitfield { bits & 0x00ff_ffff } else { bits };
                    members.push(Member { name: word(member, 0)?, of: word(member, 4)?, bits });
                }
                if name != 0 {
                    let id = u32::try_from(layouts.types.len()).ok()?;
                    let name = layouts.text(name)?.to_vec();
                    layouts.by_name.entry(name).or_default().push(id);
                }
            }
            layouts.types.push(Type { members });
            rest = behind.get(length..)?;
        }
        Some(layouts)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Layouts;

    #[test]
    fn fields_of_this_kernel_are_found_also_in_anonymous_structures() {
        let layouts = Layouts::of_this_kernel().unwrap();
        // Fixed by the user-space ABI, so that they can be known here.
        assert_eq!(layouts.offset(&[("sockaddr_un", "sun_path")]).unwrap(), 2);
        assert_eq!(layouts.offset(&[("sock_common", "skc_family")]).unwrap(), 16);
        let name = layouts.offset(&[("unix_address", "name")]).unwrap();
        assert_eq!(
            layouts.offset(&[("unix_address", "name"), ("sockaddr_un", "sun_path")]).unwrap(),
            name + 2
        );
        assert!(layouts.offset(&[("sock", "no_such_field")]).is_err());
        assert!(layouts.offset(&[("no_such_structure", "x")]).is_err());
        // The two halves of the hash are in an anonymous union in an anonymous structure.
        assert_eq!(layouts.offset(&[("sock_common", "skc_daddr")]).unwrap(), 0);
    }

    #[test]
    fn nonsense_is_no_type_information() {
        for bytes in [&[][..], b"\x9f\xeb", &[0; 64], &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 255, 255, 255, 255]] {
            assert!(Layouts::parse(bytes).is_none());
        }
    }
}
