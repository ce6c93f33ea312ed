//! How the log's threads stand to the others on a busy machine.

/// Sets the calling thread's niceness. A daemon that may not, or a system that does not know it, goes on as it is.
pub(super) fn set_niceness(niceness: i32) {
    #[expect(unsafe_code, reason = "no safe wrapper sets one thread's niceness")]
    // SAFETY: takes integers only; on Linux, 0 means the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
    if result != 0 {
        tracing::debug!(niceness, "a thread of the audit log keeps its priority");
    }
}
