//! Builds every room out of the checked configuration, each with its own small settings.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tracing::{info, warn};

use super::{AUTHORITY_DIR, Error, recordings};
use crate::{
    audit::{self, AuditLog},
    config::checked::{self, Config},
    connection::{Ahead, Counters, Drivers, Gateway, datagrams::Opened, targets::Targets},
    credential::{Provider, VaultLogin, VaultSettings},
    identity::{Identity, IssuerSettings, KeySource, SourceSettings},
    intercept::{
        self, Intercept, Streams, Succession,
        probe::{self, Broken},
    },
    mask::{HashKey, Masker},
    policy::Policies,
    protocol::{http, postgres::ALPN},
    session::{
        dns::{self, Dns, Trust},
        driver::Shared,
        http::Http,
        ledger::Ledger,
        limits::Limits,
        postgres::{Judge, Postgres},
        stop::Register,
        tcp::Tcp,
    },
    tls::{authority::Authority, terminate::Terminator},
};

/// Connections that wait to be accepted, in each network namespace.
const LISTEN_BACKLOG: u32 = 4096;

/// Everything that the daemon is made of, and what comes to it from the kernel side.
pub(super) async fn build(
    config: &Config,
    succession: Succession,
) -> Result<(Arc<Gateway>, Streams, AuditLog), Error> {
    require_rights()?;
    keep_promises(config)?;
    let mut settings = audit::Settings::new(config.audit.dir.join("audit"));
    settings.retention = Duration::from_secs(u64::from(config.audit.retention_days) * 24 * 3600);
    let audit = AuditLog::open(settings)?;
    let identity = Arc::new(Identity::new(issuers(&config.identity), sources(&config.identity))?);
    let issuer_names: Vec<&str> = config.identity.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    let policies = Arc::new(Policies::load(&config.policy.dir, &issuer_names)?);
    let names: Vec<String> = config.targets.iter().map(|target| target.facts.name.clone()).collect();
    for problem in policies.warnings().into_iter().chain(policies.unknown_targets(&names)) {
        warn!("policy: {problem}");
    }
    let targets = Targets::new(&config.targets)?;
    let recorder = match &config.recording {
        None => None,
        Some(recording) => Some(recordings::start(recording, &config.audit.dir, &audit)?),
    };
    let masker = Masker::new(hash_key(&config.audit.dir.join("mask.key"))?);
    let authority = Arc::new(Authority::open(&config.audit.dir.join(AUTHORITY_DIR))?);
    let (intercept, streams) = Intercept::start(
        intercept::Settings {
            pins: config.capture.pins.clone(),
            run_parent: config.capture.cgroup_parent.clone(),
            root: config.capture.root.clone(),
            pods: config.kubernetes.as_ref().map(|kubernetes| match kubernetes.unknown_pods {
                checked::UnknownPods::Hold => intercept::UnknownPods::Hold,
                checked::UnknownPods::Pass => intercept::UnknownPods::Pass,
            }),
            // Where nothing is enforced, nothing is broken.
            existing: match config.capture.existing {
                _ if !config.modes.may_enforce() => intercept::Existing::Report,
                checked::Existing::End => intercept::Existing::End,
                checked::Existing::Report => intercept::Existing::Report,
            },
            unix_sockets: intercept::UnixSockets {
                denied: config.capture.deny_unix.clone(),
                allowed: config.capture.allow_unix.clone(),
            },
            listen_backlog: LISTEN_BACKLOG,
        },
        succession,
    )
    .await?;
    let kept = identity
        .remember_in(&config.audit.dir.join("enrolled.json"), |cgroup| intercept.workload(cgroup).is_some())
        .map_err(|source| Error::Io { doing: "read the enrolled identities (enrolled.json)", source })?;
    if kept > 0 {
        info!(kept, "enrolled identities of captured cgroups taken over");
    }
    let limits = Limits { startup: config.limits.startup_timeout, idle: config.limits.idle_timeout };
    let dns = Dns::new(
        intercept.clone(),
        Arc::clone(&identity),
        Arc::clone(&policies),
        audit.clone(),
        dns_settings(&config.dns),
        Trust::new(&config.dns.trusted),
    );
    dns.targets.store(Arc::new(targets.names()));
    dns.modes.store(Arc::new(config.modes.clone()));
    let http_terminator = Arc::new(Terminator::new(Arc::clone(&authority), http::ALPN));
    let terminator = Arc::new(Terminator::new(Arc::clone(&authority), ALPN));
    let credentials = Arc::new(Provider::new(config.vault.as_ref().map(vault_settings)));
    let ledger = Ledger::new(audit.clone());
    let shared = Shared {
        intercept: intercept.clone(),
        identity: Arc::clone(&identity),
        ledger: ledger.clone(),
        recorder: recorder.clone(),
        limits,
    };
    let judge = Judge::new(Arc::clone(&policies));
    let gateway = Gateway {
        intercept,
        identity,
        policies: Arc::clone(&policies),
        targets: ArcSwap::from_pointee(targets),
        modes: ArcSwap::from_pointee(config.modes.clone()),
        ledger,
        recorder,
        limits,
        drivers: Drivers {
            http: Http::new(&shared, Arc::clone(&policies), Arc::clone(&credentials), http_terminator),
            postgres: Postgres::new(&shared, judge, credentials, masker, terminator),
            tcp: Tcp::new(shared),
        },
        dns: Arc::new(dns),
        opened: Opened::default(),
        own_door: config.admin.listen,
        authority,
        ahead: Ahead::default(),
        register: Register::default(),
        counters: Counters::default(),
    };
    Ok((Arc::new(gateway), streams, audit))
}

/// A missing capability is named before the first call that fails without it, which names none.
fn require_rights() -> Result<(), Error> {
    let lacking = probe::lacking();
    if !lacking.vital.is_empty() {
        return Err(Error::Rights(lacking.vital));
    }
    for name in lacking.others {
        warn!(
            "this process has no {name}: agents whose network namespace or token cannot be looked at without it are refused"
        );
    }
    Ok(())
}

/// What a node cannot keep is accepted by name, or nothing is enforced on it.
fn keep_promises(config: &Config) -> Result<(), Error> {
    let broken = probe::broken(&[]);
    let asked: Vec<_> =
        broken.iter().filter(|broken| !config.capture.accept.contains(&broken.promise)).cloned().collect();
    if config.modes.may_enforce() && !asked.is_empty() {
        return Err(Error::Promises(asked));
    }
    for Broken { promise, why } in broken {
        warn!("{} is not kept on this node ({why}): {}", promise.name, promise.cost);
    }
    Ok(())
}

fn vault_settings(vault: &checked::Vault) -> VaultSettings {
    VaultSettings {
        address: vault.address.clone(),
        ca: vault.ca.clone(),
        namespace: vault.namespace.clone(),
        login: match &vault.login {
            checked::VaultLogin::TokenFile(path) => VaultLogin::TokenFile(path.clone()),
            checked::VaultLogin::Kubernetes { mount, role, token_file } => VaultLogin::Kubernetes {
                mount: mount.clone(),
                role: role.clone(),
                token_file: token_file.clone(),
            },
        },
    }
}

fn dns_settings(dns: &checked::Dns) -> dns::Settings {
    dns::Settings {
        refuse_with: match dns.refuse_with {
            checked::RefuseWith::Refused => dns::Refusal::Refused,
            checked::RefuseWith::NxDomain => dns::Refusal::NxDomain,
        },
        timeout: dns.timeout,
        queries_per_second: dns.queries_per_second,
        odd_bytes_per_minute: dns.odd_bytes_per_minute,
    }
}

fn issuers(identity: &checked::Identity) -> Vec<IssuerSettings> {
    identity
        .issuers
        .iter()
        .map(|issuer| IssuerSettings {
            name: issuer.name.clone(),
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            groups_claim: issuer.groups_claim.clone(),
            roles_claim: issuer.roles_claim.clone(),
            claims: issuer.claims.clone(),
            keys: match &issuer.keys {
                checked::IssuerKeys::Discovery { ca } => KeySource::Discovery { ca: ca.clone() },
                checked::IssuerKeys::JwksFile(path) => KeySource::JwksFile(path.clone()),
            },
            leeway: identity.leeway,
        })
        .collect()
}

fn sources(identity: &checked::Identity) -> Vec<SourceSettings> {
    identity
        .sources
        .iter()
        .map(|source| match source {
            checked::Source::Enrolled => SourceSettings::Enrolled,
            checked::Source::File { path } => SourceSettings::File { path: path.clone() },
            checked::Source::Environment { variable } => {
                SourceSettings::Environment { variable: variable.clone() }
            }
        })
        .collect()
}

/// The key of hash masks: made once, so that equal values stay equal across restarts.
fn hash_key(path: &Path) -> Result<HashKey, Error> {
    let failed = |source| Error::Io { doing: "read or make the key of hash masks (mask.key)", source };
    let mut key = [0_u8; 32];
    match fs::File::open(path) {
        Ok(mut file) => file.read_exact(&mut key).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            SystemRandom::new().fill(&mut key).map_err(|_| failed(io::Error::other("no randomness")))?;
            // Written beside and renamed: a crash leaves a whole key or none.
            let new = path.with_extension("key.new");
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .map_err(failed)?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
            fs::rename(&new, path).map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(HashKey::new(key))
}
