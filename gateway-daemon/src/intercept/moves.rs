//! The reports of processes that come into captured cgroups: two programs at tracepoints of the kernel's, pinned like
//! the others, so that who moves while no daemon runs is reported when one does. Where they cannot be loaded capture works
//! without, and `doctor` says what is open then.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
    programs::{RawTracePoint, links::FdLink},
};
use gateway_common::moves::Move;

use super::{
    brought::{Pass, Since},
    capture::Core,
    error::{Doing, InterceptError},
    fields::{self, Fields},
    guard::replace_pin,
    kernel::{Kernel, held},
    probe,
    reports::Reports,
};

/// The programs, each with its tracepoint.
const PROGRAMS: [(&str, &str); 2] =
    [("nodegate_moved", "cgroup_attach_task"), ("nodegate_forked", "sched_process_fork")];
/// Where their links are pinned, below the pins.
const PINS: &str = "moves";

/// Who moves in is of use only to somebody who may look at what others have open.
fn require_rights() -> Result<(), String> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if scope.trim() == "3" {
        return Err("nobody may look at what others have open (kernel.yama.ptrace_scope = 3)".to_owned());
    }
    if probe::lacking().others.contains(&"CAP_SYS_PTRACE") {
        return Err("not allowed: CAP_SYS_PTRACE is missing".to_owned());
    }
    Ok(())
}

/// Tries it: the programs are loaded and attached, and gone again.
pub(super) fn try_out() -> Result<String, String> {
    require_rights()?;
    let mut ebpf = fields::load_silently()?;
    for (name, tracepoint) in PROGRAMS {
        load(&mut ebpf, name)
            .and_then(|()| attach(&mut ebpf, name, tracepoint))
            .map_err(|error| format!("{tracepoint}: {error}"))?;
    }
    Ok("by the kernel's reports of moves; what came along is ended".to_owned())
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, InterceptError> {
    let program = ebpf.program_mut(name).ok_or(InterceptError::Incomplete(name))?;
    program.try_into().map_err(|source| InterceptError::Program { name, source })
}

fn load(ebpf: &mut Ebpf, name: &'static str) -> Result<(), InterceptError> {
    let program = program(ebpf, name)?;
    if program.fd().is_ok() {
        return Ok(());
    }
    program.load().map_err(|source| InterceptError::Program { name, source })
}

fn attach(ebpf: &mut Ebpf, name: &'static str, tracepoint: &str) -> Result<FdLink, InterceptError> {
    let program = program(ebpf, name)?;
    let link = program.attach(tracepoint).and_then(|id| program.take_link(id));
    link.map(FdLink::from).map_err(|source| InterceptError::Program { name, source })
}

impl Kernel {
    /// Has moves reported, beside the programs of the daemon before, which then go.
    pub fn arm_moves(&self) -> Result<(), InterceptError> {
        require_rights().map_err(InterceptError::NoMoves)?;
        Fields::of_this_kernel().doing(|| "find the kernel's structures".to_owned())?;
        let pins = self.pins.join(PINS);
        fs::create_dir_all(&pins).doing(|| format!("create {}", pins.display()))?;
        let mut programs = held(&self.programs);
        for (name, tracepoint) in PROGRAMS {
            load(&mut programs, name)?;
            let link = attach(&mut programs, name, tracepoint)?;
            replace_pin(link, &pins.join(name)).doing(|| format!("pin {name}"))?;
        }
        self.sees_moves.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether moves are reported.
    pub fn sees_moves(&self) -> bool {
        self.sees_moves.load(Ordering::Relaxed)
    }

    /// Whether a report was lost since this was asked last.
    fn lost_moves(&self) -> bool {
        let mut lost = held(&self.moves_lost);
        let was_lost = lost.get(&0, 0).unwrap_or(1) != 0;
        if was_lost && let Err(error) = lost.set(0, 0, 0) {
            tracing::error!(%error, "cannot note that everybody is looked at");
        }
        was_lost
    }
}

/// Looks at whoever comes into a captured cgroup, until the task is aborted.
pub(super) async fn follow(core: Arc<Core>, buffer: RingBuf<MapData>) {
    let Some(mut reports) = Reports::new(buffer, "moves", Move::from_bytes) else { return };
    loop {
        // Before what is reported: a loss is made good by looking at everybody.
        if core.kernel.lost_moves() {
            tracing::warn!("more processes came at once than could be reported: all are looked at");
            core.looks.at_everybody();
        }
        if core.looks.take_everybody() {
            core.look_at_all_captured().await;
        }
        for look in core.looks.due() {
            core.examine(look, Pass::Last).await;
        }
        tokio::select! {
            () = core.looks.wanted() => {}
            reported = reports.next() => match reported {
                Some(moved) => {
                    core.look_through(moved.tgid, Since::Moved { started_ns: moved.started }).await;
                }
                None => return,
            },
        }
    }
}
