//! Capture on the real kernel. These tests need root, cgroup2, bpffs and the compiled kernel programs, and fail
//! without them. They touch only cgroups, pins and network namespaces of their own making.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod agent;
mod attribution;
mod bench;
mod direct;
mod guard;
mod moved;
mod privileges;
mod refusal;
mod restart;
mod storm;
