//! How much a workload may ask: questions in a second, and names that may carry data in a minute and domain.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::oddness::{bytes_of, domain_of};
use crate::{domain::ids::CgroupId, protocol::dns::RecordKind};

/// A workload that was silent may ask so many seconds' worth at once.
const BURST_SECONDS: f64 = 5.0;
/// Domains that are counted for each workload. Whoever uses more shares the count of all the others.
const DOMAINS: usize = 1024;
/// Names that were asked for lately, for each workload: asking for them again carries nothing.
const RECENT: usize = 4096;
const MINUTE: Duration = Duration::from_mins(1);

/// Whether there was enough left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spent {
    /// Yes.
    Granted,
    /// No.
    Exhausted {
        /// The first time in a second.
        first: bool,
    },
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Allowances {
    queries_per_second: f64,
    odd_bytes_per_minute: f64,
    workloads: Mutex<HashMap<CgroupId, Workload>>,
}

#[derive(Debug)]
struct Workload {
    questions: Bucket,
    said_at: Option<Instant>,
    domains: HashMap<String, Bucket>,
    others: Bucket,
    recent: HashSet<String>,
    before: HashSet<String>,
}

/// Fills steadily up to its size.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, amount: f64, size: f64, per_second: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = passed.mul_add(per_second, self.left).min(size);
        self.at = now;
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }
}

impl Allowances {
    pub(super) fn new(queries_per_second: u32, odd_bytes_per_minute: u32) -> Self {
        Self {
            queries_per_second: f64::from(queries_per_second),
            odd_bytes_per_minute: f64::from(odd_bytes_per_minute),
            workloads: Mutex::default(),
        }
    }

    /// One more question.
    pub(super) fn ask(&self, cgroup: CgroupId, now: Instant) -> Spent {
        let mut workloads = self.lock();
        let workload = self.workload(&mut workloads, cgroup, now);
        let size = self.queries_per_second * BURST_SECONDS;
        if workload.questions.take(1.0, size, self.queries_per_second, now) {
            return Spent::Granted;
        }
        let first =
            workload.said_at.is_none_or(|said| now.saturating_duration_since(said) >= Duration::from_secs(1));
        if first {
            workload.said_at = Some(now);
        }
        Spent::Exhausted { first }
    }

    /// A name that policy permits.
    pub(super) fn name(&self, cgroup: CgroupId, name: &str, kind: RecordKind, now: Instant) -> Spent {
        let mut workloads = self.lock();
        let workload = self.workload(&mut workloads, cgroup, now);
        // Text is new each time it is asked for.
        let bytes = if workload.was_asked(name) { bytes_of("", kind) } else { bytes_of(name, kind) };
        if bytes == 0 {
            workload.remember(name);
            return Spent::Granted;
        }
        let size = self.odd_bytes_per_minute;
        let domain = domain_of(name);
        let room = workload.domains.len() < DOMAINS;
        let bucket = match workload.domains.get_mut(domain) {
            Some(bucket) => bucket,
            None if room => {
                workload.domains.entry(domain.to_owned()).or_insert(Bucket { left: size, at: now })
            }
            None => &mut workload.others,
        };
        let amount = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        if bucket.take(amount, size, size / MINUTE.as_secs_f64(), now) {
            workload.remember(name);
            Spent::Granted
        } else {
            Spent::Exhausted { first: true }
        }
    }

    /// Forgets a workload.
    pub(super) fn forget(&self, cgroup: CgroupId) {
        self.lock().remove(&cgroup);
    }

    /// Forgets all workloads but these.
    pub(super) fn keep(&self, is_there: impl Fn(CgroupId) -> bool) {
        self.lock().retain(|cgroup, _| is_there(*cgroup));
    }

    fn workload<'a>(
        &self,
        workloads: &'a mut HashMap<CgroupId, Workload>,
        cgroup: CgroupId,
        now: Instant,
    ) -> &'a mut Workload {
        workloads.entry(cgroup).or_insert_with(|| Workload {
            questions: Bucket { left: self.queries_per_second * BURST_SECONDS, at: now },
            said_at: None,
            domains: HashMap::new(),
            others: Bucket { left: self.odd_bytes_per_minute, at: now },
            recent: HashSet::new(),
            before: HashSet::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, Workload>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workload {
    fn was_asked(&self, name: &str) -> bool {
        self.recent.contains(name) || self.before.contains(name)
    }

    fn remember(&mut self, name: &str) {
        if self.recent.len() >= RECENT {
            self.before = std::mem::take(&mut self.recent);
        }
        if !self.recent.contains(name) {
            self.recent.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Allowances, Spent};
    use crate::{domain::ids::CgroupId, protocol::dns::RecordKind};

    const ONE: CgroupId = CgroupId(1);

    #[test]
    fn a_flood_is_stopped_said_once_a_second_and_costs_nobody_else() {
        let (allowances, now) = (Allowances::new(10, 100), Instant::now());
        for _ in 0..50 {
            assert_eq!(allowances.ask(ONE, now), Spent::Granted);
        }
        assert_eq!(allowances.ask(ONE, now), Spent::Exhausted { first: true });
        assert_eq!(allowances.ask(ONE, now), Spent::Exhausted { first: false });
        assert_eq!(allowances.ask(CgroupId(2), now), Spent::Granted);
        assert_eq!(allowances.ask(ONE, now + Duration::from_millis(100)), Spent::Granted);
    }

    #[test]
    fn a_tunnel_runs_dry_in_its_domain_and_ordinary_names_do_not() {
        let (allowances, now) = (Allowances::new(10, 100), Instant::now());
        let ask = |name: &str, kind, now| allowances.name(ONE, name, kind, now);
        let data = |number: u32| format!("nbswy3dpeb3w64tmmq{number:02}.evil.example");
        for number in 0..5 {
            assert_eq!(ask(&data(number), RecordKind::A, now), Spent::Granted);
        }
        assert_ne!(ask(&data(5), RecordKind::A, now), Spent::Granted);
        assert_eq!(ask(&data(0), RecordKind::AAAA, now), Spent::Granted, "asked for before");
        assert_ne!(ask("evil.example", RecordKind::TXT, now), Spent::Granted);
        for number in 0..1000 {
            assert_eq!(ask(&format!("host-{number}.evil.example"), RecordKind::A, now), Spent::Granted);
        }
        assert_eq!(ask("nbswy3dpeb3w64tmmqqho2lu.good.example", RecordKind::A, now), Spent::Granted);
        assert_eq!(ask(&data(6), RecordKind::A, now + Duration::from_secs(30)), Spent::Granted);
    }
}
