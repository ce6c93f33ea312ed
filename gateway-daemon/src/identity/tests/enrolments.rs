//! What a restarted daemon knows of the workloads that are still there.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::super::{
    Identity, IdentityError, IssuerSettings, SourceSettings,
    testing::{ManualClock, P256, claims, flow, issuer_with_file, token},
};
use crate::domain::{ids::CgroupId, sensitive::Sensitive};

struct Ground {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Ground {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::new() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("enrolled.json")
    }

    /// A daemon that starts; every cgroup but 9 is captured.
    fn start(&self, change: impl FnOnce(&mut IssuerSettings)) -> Identity {
        let mut settings = issuer_with_file(self.folder.path());
        change(&mut settings);
        let clock = Arc::clone(&self.clock);
        let identity = Identity::with_clock(vec![settings], vec![SourceSettings::Enrolled], clock).unwrap();
        identity.remember_in(&self.file(), |cgroup| cgroup != CgroupId(9)).unwrap();
        identity
    }
}

async fn enrol(identity: &Identity, cgroup: u64) {
    let token = token(&P256, "ES256", "p256", &claims());
    identity.enrol(CgroupId(cgroup), Sensitive::new(token)).await.unwrap();
}

#[tokio::test]
async fn an_enrolled_identity_outlives_the_daemon_and_the_token_is_not_kept() {
    let ground = Ground::new();
    let first = ground.start(|_| {});
    for cgroup in [7, 8, 9] {
        enrol(&first, cgroup).await;
    }
    first.forget(CgroupId(8));
    drop(first);
    let second = ground.start(|_| {});
    assert!(second.principal_for(&flow(7, 1)).await.is_ok());
    for forgotten in [8, 9] {
        let answer = second.principal_for(&flow(forgotten, 1)).await;
        assert!(matches!(answer, Err(IdentityError::NoToken { .. })), "{forgotten}: {answer:?}");
    }
    let kept = fs::read_to_string(ground.file()).unwrap();
    assert!(!kept.contains("eyJ"), "a token: {kept}");
    assert_eq!(mode(&ground.file()), 0o600);
}

#[tokio::test]
async fn it_ends_when_the_token_would_have() {
    let ground = Ground::new();
    enrol(&ground.start(|_| {}), 7).await;
    ground.clock.advance(Duration::from_hours(48));
    let answer = ground.start(|_| {}).principal_for(&flow(7, 1)).await;
    assert!(matches!(answer, Err(IdentityError::Expired { .. })), "{answer:?}");
}

#[tokio::test]
async fn another_boot_or_other_settings_of_the_issuer_begin_anew() {
    let ground = Ground::new();
    enrol(&ground.start(|_| {}), 7).await;
    let changed = ground.start(|settings| settings.audiences = vec!["elsewhere".to_owned()]);
    assert!(changed.principal_for(&flow(7, 1)).await.is_err());

    enrol(&ground.start(|_| {}), 7).await;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(ground.file()).unwrap();
    fs::write(ground.file(), text.replace(boot.trim(), "another boot")).unwrap();
    assert!(ground.start(|_| {}).principal_for(&flow(7, 1)).await.is_err());
}

#[tokio::test]
async fn a_damaged_file_is_as_good_as_none() {
    let ground = Ground::new();
    fs::write(ground.file(), "{ not json").unwrap();
    let identity = ground.start(|_| {});
    assert!(identity.principal_for(&flow(7, 1)).await.is_err());
    enrol(&identity, 7).await;
    assert!(ground.start(|_| {}).principal_for(&flow(7, 1)).await.is_ok());
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
