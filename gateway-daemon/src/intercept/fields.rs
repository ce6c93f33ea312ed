//! Where the fields lie that the kernel programs read, in the running kernel: found once, since that means reading all of
//! what the kernel says of its types.

use std::{io, sync::OnceLock};

use aya::{Ebpf, EbpfLoader};
use gateway_common::{guard::Offsets, moves::TaskOffsets};

use super::{btf::Layouts, kernel::OBJECT};

/// Fields of sockets, files and cgroups, and of tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    general: Offsets,
    of_tasks: TaskOffsets,
}

impl Fields {
    /// For programs that read none of them.
    pub const UNKNOWN: Self = Self { general: Offsets::UNKNOWN, of_tasks: TaskOffsets::UNKNOWN };

    /// Those of the running kernel.
    pub fn of_this_kernel() -> io::Result<Self> {
        static FOUND: OnceLock<Fields> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(*found);
        }
        let found = Self::find(&Layouts::of_this_kernel()?)?;
        Ok(*FOUND.get_or_init(|| found))
    }

    /// Has the programs that are loaded next know them.
    pub fn tell<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader.override_global("NODEGATE_OFFSETS", &self.general, true);
        loader.override_global("NODEGATE_TASK", &self.of_tasks, true);
    }

    fn find(layouts: &Layouts) -> io::Result<Self> {
        let offset = |steps: &[(&str, &str)]| layouts.offset(steps);
        Ok(Self {
            general: Offsets {
                unix_addr: offset(&[("unix_sock", "addr")])?,
                address_path: offset(&[("unix_address", "name"), ("sockaddr_un", "sun_path")])?,
                socket_sk: offset(&[("socket", "sk")])?,
                sock_cgroup: offset(&[("sock", "sk_cgrp_data"), ("sock_cgroup_data", "cgroup")])?,
                sock_family: offset(&[("sock", "__sk_common"), ("sock_common", "skc_family")])?,
                sock_state: offset(&[("sock", "__sk_common"), ("sock_common", "skc_state")])?,
                cgroup_level: offset(&[("cgroup", "level")])?,
                cgroup_ancestors: offset(&[("cgroup", "ancestors")])?,
                cgroup_node: offset(&[("cgroup", "kn")])?,
                node_id: offset(&[("kernfs_node", "id")])?,
                file_inode: offset(&[("file", "f_inode")])?,
                file_private: offset(&[("file", "private_data")])?,
                inode_mode: offset(&[("inode", "i_mode")])?,
                file_mode: offset(&[("file", "f_mode")])?,
                inode_super: offset(&[("inode", "i_sb")])?,
                super_magic: offset(&[("super_block", "s_magic")])?,
                inode_private: offset(&[("inode", "i_private")])?,
                node_parent: offset(&[("kernfs_node", "parent")])
                    .or_else(|_| offset(&[("kernfs_node", "__parent")]))?,
                node_private: offset(&[("kernfs_node", "priv")])?,
                skb_data: offset(&[("sk_buff", "data")])?,
                skb_length: offset(&[("sk_buff", "len")])?,
                sock_protocol: offset(&[("sock", "sk_protocol")])?,
                task_cred: offset(&[("task_struct", "cred")])?,
                cred_effective: offset(&[("cred", "cap_effective")])?,
                cred_user_ns: offset(&[("cred", "user_ns")])?,
                user_ns_level: offset(&[("user_namespace", "level")])?,
            },
            of_tasks: TaskOffsets {
                cgroups: offset(&[("task_struct", "cgroups")])?,
                cgroup: offset(&[("css_set", "dfl_cgrp")])?,
                leader: offset(&[("task_struct", "group_leader")])?,
                tgid: offset(&[("task_struct", "tgid")])?,
                started: offset(&[("task_struct", "start_boottime")])?,
            },
        })
    }
}

/// The programs by themselves, to be tried: they log nothing and share no map with a daemon.
pub(super) fn load_silently() -> Result<Ebpf, String> {
    let fields = Fields::of_this_kernel().map_err(|error| error.to_string())?;
    let mut loader = EbpfLoader::new();
    loader.override_global("AYA_LOG_LEVEL", &0_u8, false);
    fields.tell(&mut loader);
    loader.load(OBJECT).map_err(|error| error.to_string())
}
