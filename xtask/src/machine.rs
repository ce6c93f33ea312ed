//! `test --kernel 6.1`: the same binaries on another kernel, in a virtual machine that exists for one run.
//!
//! The kernel comes from Debian's package of that release. Its first program unpacks the rest into memory, mounts
//! what a node has, loads the modules that open ways out, and runs the checks; their output comes over the serial
//! line. Nothing is mounted from the host, and the machine has no network card.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    kernels::Kernel,
    places, setup, shell,
    suite::{self, Totals},
};

/// What the machine itself needs, besides what every test needs.
const PACKAGES: [(&str, &str); 2] =
    [("qemu-system-x86", "qemu-system-x86_64"), ("busybox-static", "busybox")];

/// Programs of the host that the tests call, with their libraries. Its shell too: that of busybox prefers its own `ip`.
const PROGRAMS: [&str; 6] = ["sh", "ip", "tc", "nft", "nsenter", "setpriv"];

/// Modules that are loaded before the tests: cables, filters, and every protocol that could be a way out. Some are
/// never loaded by themselves, which is a protection of the node's and not ours: here they are all there.
const MODULES: &str = "veth tun nf_tables nft_chain_nat nft_masq nf_nat sch_ingress cls_u32 act_mirred sctp dccp_ipv4 \
                       dccp_ipv6 rds rds_tcp tipc smc l2tp_ip l2tp_ip6 vsock vsock_loopback af_key kcm inet_diag \
                       tcp_diag udp_diag raw_diag unix_diag sctp_diag mptcp_diag af_alg ppp_generic pppox pppoe llc";

/// How the machine says that it is done.
const VERDICT: &str = "machine: the tests ended with ";

/// How it says that its first program runs.
const UP: &str = "machine: up";

/// How long a machine under KVM may take to get there. Some hosts have a /dev/kvm that cannot run every kernel, and
/// then it says nothing at all.
const ENOUGH_FOR_KVM: Duration = Duration::from_secs(20);

/// Whether the machine's kernel runs BPF programs as a security module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// As its distribution configured it.
    AsConfigured,
    /// It does not.
    Off,
}

/// Runs the conformance suite, and the daemon's own tests of its kernel side, on a kernel of that release; or those
/// whose names contain `filter`.
pub fn test(release: &str, filter: Option<&str>, guard: Guard) -> Result<()> {
    suite::prepare()?;
    shell::step(&format!("a machine with Linux {release}"));
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, program)| shell::find(program).is_none())
        .map(|(package, _)| *package)
        .collect();
    if !missing.is_empty() {
        setup::install(&missing)?;
    }
    let kernel = Kernel::fetch(release)?;
    let root = lay_out(&kernel, filter)?;
    let image = pack(&root)?;
    boot(&kernel, &image, guard)
}

/// Builds the machine's root directory.
fn lay_out(kernel: &Kernel, filter: Option<&str>) -> Result<PathBuf> {
    let root = places::target()?.join("machine");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for folder in
        ["bin", "dev", "etc", "new", "nodegate", "proc", "root", "run", "sys", "tmp", "usr/lib", "var/lib"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    // Debian's layout, so that libraries lie where programs look for them.
    fs::create_dir_all(root.join("usr/lib64"))?;
    for (link, to) in [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "../run"),
    ] {
        symlink(to, root.join(link))?;
    }

    let busybox = shell::find("busybox").context("busybox is installed, and not to be found")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for program in PROGRAMS {
        let found = shell::find(program).with_context(|| format!("{program} is not to be found"))?;
        take(&root, &found, &root.join("bin").join(program))?;
    }
    let suite = test_program("nodegate-tests", &["--test", "bypass"])?;
    take(&root, &suite, &root.join("nodegate/bypass"))?;
    let unit_tests = test_program("gateway-daemon", &["--lib"])?;
    take(&root, &unit_tests, &root.join("nodegate/daemon-tests"))?;
    take(&root, &places::target()?.join("debug/nodegate"), &root.join("nodegate/nodegate"))?;
    // The suite compiles its ways when it starts; there is no compiler in the machine, so it does so here.
    shell::run(Command::new(&suite).arg("--list").stdout(Stdio::null()))?;
    fs::copy(places::target()?.join("tmp/ways"), root.join("nodegate/ways"))?;

    let modules = root.join("usr/lib/modules");
    shell::run(Command::new("cp").arg("-a").arg(kernel.modules()).arg(&modules))?;
    // Once here rather than at every load there, where the processor may be emulated.
    let unpack = "find \"$0\" -name '*.ko.xz' -exec \"$1\" unxz {} +";
    shell::run(Command::new("sh").args(["-c", unpack]).arg(&modules).arg(root.join("bin/busybox")))?;
    shell::run(
        Command::new(root.join("bin/busybox")).args(["depmod", "-b"]).arg(&root).arg(&kernel.version),
    )?;
    write_script(&root.join("init"), FIRST)?;
    let start = START.replace("MODULES", MODULES).replace("VERDICT", VERDICT);
    write_script(&root.join("start"), &start.replace("FILTER", &shell::quoted(filter.unwrap_or_default())))?;
    Ok(root)
}

/// Copies a program without its debug information, and the libraries that it is linked with.
fn take(root: &Path, program: &Path, place: &Path) -> Result<()> {
    fs::copy(program, place).with_context(|| format!("cannot copy {}", program.display()))?;
    // What cannot be stripped is copied as it is.
    let _ = shell::answer(Command::new("strip").arg(place));
    let linked = shell::answer(Command::new("ldd").arg(program)).unwrap_or_default();
    let libraries: BTreeSet<&str> = linked.split_whitespace().filter(|word| word.starts_with('/')).collect();
    for library in libraries {
        // `/lib` and `/usr/lib` are the same there.
        let below = library.trim_start_matches("/usr").trim_start_matches('/');
        let place = root.join("usr").join(below);
        if place.exists() {
            continue;
        }
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(library, &place).with_context(|| format!("cannot copy {library}"))?;
    }
    Ok(())
}

/// Builds a test program and says where it lies.
fn test_program(package: &str, which: &[&str]) -> Result<PathBuf> {
    let mut build = shell::cargo()?;
    build.args(["test", "--no-run", "--package", package]).args(which);
    eprintln!("  $ {}", shell::shown(&build));
    let output = build.stdout(Stdio::null()).stderr(Stdio::piped()).output().context("cannot start cargo")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Executable bypass/main.rs (target/debug/deps/bypass-0123456789abcdef)
    let path = said
        .lines()
        .filter(|line| line.trim_start().starts_with("Executable"))
        .find_map(|line| line.rsplit_once('(')?.1.strip_suffix(')').map(PathBuf::from));
    match path {
        Some(path) if output.status.success() => Ok(places::root()?.join(path)),
        _ => bail!("{package} does not build:\n{said}"),
    }
}

fn write_script(place: &Path, text: &str) -> Result<()> {
    fs::write(place, text)?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Packs the root directory as the kernel's first file system.
fn pack(root: &Path) -> Result<PathBuf> {
    let image = root.with_extension("cpio");
    let script = "cd \"$0\" && find . | busybox cpio -o -H newc > \"$1\" 2>/dev/null";
    shell::run(Command::new("sh").args(["-c", script]).arg(root).arg(&image))?;
    eprintln!("  {} ({} MiB)", image.display(), image.metadata()?.len() >> 20);
    Ok(image)
}

/// Boots, passes the serial line on, and adds up what the test runners say.
fn boot(kernel: &Kernel, image: &Path, guard: Guard) -> Result<()> {
    let started = Instant::now();
    let start = |processor: &[&str]| Machine::start(kernel, image, processor, guard);
    let mut machine = start(&["-accel", "kvm", "-cpu", "host,-arch-capabilities"])?;
    if !machine.is_up_within(ENOUGH_FOR_KVM) {
        eprintln!("  KVM does not run it here: the machine is emulated, which takes many times as long");
        drop(machine);
        machine = start(&["-accel", "tcg,thread=multi", "-cpu", "max"])?;
    }
    let (mut totals, mut verdict) = (Totals::default(), None);
    let mut shown = std::io::stdout().lock();
    for line in &machine.lines {
        totals.count(&line);
        if let Some((_, status)) = line.split_once(VERDICT) {
            verdict = status.trim().parse::<u32>().ok();
        }
        writeln!(shown, "{line}").context("cannot write the tests' output")?;
    }
    println!("\n{totals} on Linux {}, {} s", kernel.version, started.elapsed().as_secs());
    match verdict {
        Some(0) if totals.all_passed() => Ok(()),
        Some(_) => bail!("not every test passed"),
        None => bail!("the machine ended before the tests did"),
    }
}

/// A running machine; ended when dropped.
struct Machine {
    child: Child,
    lines: Receiver<String>,
}

impl Machine {
    fn start(kernel: &Kernel, image: &Path, processor: &[&str], guard: Guard) -> Result<Self> {
        let mut machine = Command::new("qemu-system-x86_64");
        machine.args(processor).args(["-m", "3072", "-smp", "2", "-nic", "none", "-no-reboot"]);
        machine.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"]);
        machine.arg(kernel.image()).arg("-initrd").arg(image);
        let modules = match guard {
            Guard::AsConfigured => "",
            Guard::Off => " lsm=landlock,yama",
        };
        machine.arg("-append").arg(format!("console=ttyS0 quiet panic=-1{modules}"));
        eprintln!("  $ {}", shell::shown(&machine));
        machine.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = machine.spawn().context("cannot start the machine")?;
        let output = child.stdout.take().context("the machine has no serial line")?;
        let (written, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if written.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Whether its first program runs before so much time has passed.
    fn is_up_within(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(UP) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first program. What the kernel unpacks cannot be left by pivot_root, which one of the ways does: everything
/// moves to a file system of its own.
const FIRST: &str = "#!/bin/busybox sh
echo 'machine: up'
busybox mount -t tmpfs -o size=85%,mode=755 root /new
for entry in bin dev etc lib lib64 nodegate proc root run sbin start sys tmp usr var; do
    busybox cp -a /$entry /new/
done
exec busybox switch_root /new /start
";

/// What a node has, and then the tests.
const START: &str = "#!/bin/busybox sh
export PATH=/bin HOME=/root RUST_BACKTRACE=1
busybox --install -s /busybox-applets 2>/dev/null
for applet in $(busybox --list); do
    [ -e /bin/$applet ] || busybox ln -s busybox /bin/$applet
done
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
chmod 1777 /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t securityfs security /sys/kernel/security 2>/dev/null
echo 0 > /proc/sys/kernel/printk
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
ip link set lo up
for module in MODULES; do
    modprobe -q $module || echo \"machine: no module $module\"
done
status=0
echo \"machine: security modules: $(cat /sys/kernel/security/lsm)\"
/nodegate/nodegate doctor
set -- FILTER
/nodegate/bypass --ways /nodegate/ways $1 || status=1
/nodegate/daemon-tests ${1:-intercept::} --test-threads 2 || status=1
echo \"VERDICT$status\"
poweroff -f
";
