//! TLS on both sides: towards targets (`originate`), and from clients (`terminate`) with certificates of the daemon's
//! own authority (`authority`), which workloads are given to trust (`trust`). `end_point` is what binds a login to the
//! channel that it runs in.

pub mod authority;
pub mod end_point;
pub mod originate;
pub mod terminate;
pub mod trust;
