//! What the programs that guard beyond cgroup hooks need to know of the running kernel.

use core::mem::offset_of;

/// Longest path of a Unix socket, with the NUL at its end.
pub const PATH_BYTES: usize = 108;

/// Set in the number of an entry that is refused without a word: libraries try these sockets by the way, and go on
/// without them.
pub const QUIETLY: u32 = 1 << 16;

/// The number that stands for every abstract name which no entry knows, of a server that is not captured.
pub const ABSTRACT: u16 = u16::MAX;

/// Where fields lie in structures of the running kernel, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_address.name`, and in it `sockaddr_un.sun_path`
    pub address_path: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock.sk_cgrp_data`, and in it `cgroup`
    pub sock_cgroup: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `sock.__sk_common.skc_state`
    pub sock_state: u32,
    /// `cgroup.level`
    pub cgroup_level: u32,
    /// `cgroup.ancestors`
    pub cgroup_ancestors: u32,
    /// `cgroup.kn`
    pub cgroup_node: u32,
    /// `kernfs_node.id`
    pub node_id: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `file.f_mode`
    pub file_mode: u32,
    /// `inode.i_sb`
    pub inode_super: u32,
    /// `super_block.s_magic`
    pub super_magic: u32,
    /// `inode.i_private`, in kernfs the node of the file
    pub inode_private: u32,
    /// `kernfs_node.parent`, or `__parent` from Linux 6.15 on
    pub node_parent: u32,
    /// `kernfs_node.priv`, of a directory the cgroup
    pub node_private: u32,
    /// `sk_buff.data`
    pub skb_data: u32,
    /// `sk_buff.len`
    pub skb_length: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `cred.cap_effective`
    pub cred_effective: u32,
    /// `cred.user_ns`
    pub cred_user_ns: u32,
    /// `user_namespace.level`
    pub user_ns_level: u32,
}

const _: () = assert!(size_of::<Offsets>() == 104 && offset_of!(Offsets, inode_mode) == 48);

impl Offsets {
    /// Before the daemon has looked.
    pub const UNKNOWN: Self = Self {
        unix_addr: 0,
        address_path: 0,
        socket_sk: 0,
        sock_cgroup: 0,
        sock_family: 0,
        sock_state: 0,
        cgroup_level: 0,
        cgroup_ancestors: 0,
        cgroup_node: 0,
        node_id: 0,
        file_inode: 0,
        file_private: 0,
        inode_mode: 0,
        file_mode: 0,
        inode_super: 0,
        super_magic: 0,
        inode_private: 0,
        node_parent: 0,
        node_private: 0,
        skb_data: 0,
        skb_length: 0,
        sock_protocol: 0,
        task_cred: 0,
        cred_effective: 0,
        cred_user_ns: 0,
        user_ns_level: 0,
    };
}

// SAFETY: plain integers without padding (sizes asserted above); any bit pattern is a value.
#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "aya's marker for types that may be copied to and from the kernel as bytes")]
mod pod {
    unsafe impl aya::Pod for super::Offsets {}
}
