//! What trusted servers answered: by which names each captured cgroup knows an address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::domain::ids::CgroupId;

/// Clients use an answer for a while after its time, some for as long as they run: a name counts for at least so
/// long, and no longer than a day whatever the server says.
const SHORTEST: Duration = Duration::from_mins(10);
const LONGEST: Duration = Duration::from_hours(24);
/// Addresses that are remembered for each cgroup, and names for each address.
const ADDRESSES: usize = 4096;
const NAMES: usize = 8;

/// See the module's description.
#[derive(Debug, Default)]
pub struct Names(Mutex<HashMap<CgroupId, HashMap<IpAddr, Vec<Known>>>>);

#[derive(Debug)]
struct Known {
    name: Arc<str>,
    until: Instant,
}

impl Names {
    /// Remembers that a cgroup was told these addresses (with their time to live in seconds) for a name.
    pub fn learn(
        &self,
        cgroup: CgroupId,
        name: &str,
        addresses: impl IntoIterator<Item = (IpAddr, u32)>,
        now: Instant,
    ) {
        let name: Arc<str> = name.into();
        let mut all = self.lock();
        let of_cgroup = all.entry(cgroup).or_default();
        for (address, ttl) in addresses {
            if of_cgroup.len() >= ADDRESSES && !of_cgroup.contains_key(&address) {
                make_room(of_cgroup, now);
            }
            let known = of_cgroup.entry(address.to_canonical()).or_default();
            known.retain(|known| known.until > now && known.name != name);
            let lasts = Duration::from_secs(u64::from(ttl)).clamp(SHORTEST, LONGEST);
            known.insert(0, Known { name: Arc::clone(&name), until: now + lasts });
            known.truncate(NAMES);
        }
    }

    /// The names that a cgroup knows an address by, the one asked for last first.
    pub fn of(&self, cgroup: CgroupId, address: IpAddr, now: Instant) -> Vec<Arc<str>> {
        let all = self.lock();
        let known = all.get(&cgroup).and_then(|of_cgroup| of_cgroup.get(&address.to_canonical()));
        let current = known.into_iter().flatten().filter(|known| known.until > now);
        current.map(|known| Arc::clone(&known.name)).collect()
    }

    /// The addresses that a cgroup was told for a name.
    pub fn addresses(&self, cgroup: CgroupId, name: &str, now: Instant) -> Vec<IpAddr> {
        let all = self.lock();
        let of_cgroup = all.get(&cgroup).into_iter().flatten();
        let told = of_cgroup
            .filter(|(_, known)| known.iter().any(|known| known.until > now && *known.name == *name));
        told.map(|(address, _)| *address).collect()
    }

    /// Forgets a cgroup.
    pub fn forget(&self, cgroup: CgroupId) {
        self.lock().remove(&cgroup);
    }

    /// Forgets all cgroups but these.
    pub fn keep(&self, is_there: impl Fn(CgroupId) -> bool) {
        self.lock().retain(|cgroup, _| is_there(*cgroup));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, HashMap<IpAddr, Vec<Known>>>> {
        // A panic while the map was held can at worst have lost a name.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is over, and if that is nothing, the address that is over first.
fn make_room(of_cgroup: &mut HashMap<IpAddr, Vec<Known>>, now: Instant) {
    of_cgroup.retain(|_, known| known.iter().any(|known| known.until > now));
    if of_cgroup.len() >= ADDRESSES {
        let last = |known: &[Known]| known.iter().map(|known| known.until).max();
        let first = of_cgroup.iter().min_by_key(|(_, known)| last(known)).map(|(address, _)| *address);
        if let Some(first) = first {
            of_cgroup.remove(&first);
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::{Duration, Instant},
    };

    use super::{ADDRESSES, Names, SHORTEST};
    use crate::domain::ids::CgroupId;

    const ONE: CgroupId = CgroupId(1);
    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn the_name_asked_for_last_comes_first_and_other_cgroups_know_nothing_of_it() {
        let (names, now) = (Names::default(), Instant::now());
        names.learn(ONE, "a.test", [(ADDRESS, 60)], now);
        names.learn(ONE, "b.test", [(ADDRESS, 60)], now);
        assert_eq!(names.of(ONE, ADDRESS, now), ["b.test".into(), "a.test".into()]);
        names.learn(ONE, "a.test", [(ADDRESS, 60)], now);
        assert_eq!(names.of(ONE, ADDRESS, now), ["a.test".into(), "b.test".into()]);
        assert_eq!(names.of(CgroupId(2), ADDRESS, now), []);
        assert_eq!(names.addresses(ONE, "a.test", now), [ADDRESS]);
        names.forget(ONE);
        assert_eq!(names.of(ONE, ADDRESS, now), []);
    }

    #[test]
    fn a_name_outlives_a_short_ttl_and_ends_all_the_same() {
        let (names, now) = (Names::default(), Instant::now());
        names.learn(ONE, "a.test", [(ADDRESS, 0)], now);
        assert_eq!(names.of(ONE, ADDRESS, now + Duration::from_secs(599)).len(), 1);
        assert_eq!(names.of(ONE, ADDRESS, now + SHORTEST), []);
    }

    #[test]
    fn what_is_remembered_of_a_cgroup_stays_bounded() {
        let (names, now) = (Names::default(), Instant::now());
        for number in 0..u32::try_from(2 * ADDRESSES).unwrap_or_default() {
            let address = IpAddr::V4(Ipv4Addr::from(number));
            names.learn(ONE, "a.test", [(address, 60)], now + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(names.lock()[&ONE].len(), ADDRESSES);
    }
}
