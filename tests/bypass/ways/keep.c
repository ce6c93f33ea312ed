/* What must keep working for a captured process, with and without the daemon's favour. */
#include "way.h"
#define ROW "must keep working"

#include <ifaddrs.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>

/* PostgreSQL's SSLRequest: a target answers it with `N`, the daemon with `S` before it has judged anything. */
static const char question[8] = { 0, 0, 0, 8, 4, (char)0xd2, 0x16, 0x2f };

static int opened(struct address to)
{
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, &to.any, to.length) < 0)
		broken("connect: %s", strerror(errno));
	return fd;
}

static bool is_answer(char byte)
{
	return byte == 'N' || byte == 'S';
}

/* Whether the other end answers the question. */
static bool answered(int fd)
{
	char answer = 0;
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	return send(fd, question, sizeof question, MSG_NOSIGNAL) == sizeof question && poll(&wait, 1, PATIENCE_MS) == 1 &&
	       read(fd, &answer, 1) == 1 && is_answer(answer);
}

static bool same(struct address one, struct address other)
{
	if (one.any.sa_family != other.any.sa_family)
		return false;
	if (one.any.sa_family == AF_INET)
		return one.v4.sin_port == other.v4.sin_port && one.v4.sin_addr.s_addr == other.v4.sin_addr.s_addr;
	return one.v6.sin6_port == other.v6.sin6_port &&
	       memcmp(&one.v6.sin6_addr, &other.v6.sin6_addr, sizeof one.v6.sin6_addr) == 0;
}

static void peer_is(struct address to)
{
	struct address peer = { .length = sizeof peer.v6 };
	int fd = opened(to);
	if (getpeername(fd, &peer.any, &peer.length) < 0)
		broken("getpeername: %s", strerror(errno));
	if (!same(peer, to))
		broken("getpeername shows another address");
	works();
}

WAY(peer_name, KEEPS, "", "getpeername() shows the address asked for") { peer_is(far4()); }
WAY(peer_name_v6, KEEPS, "", "getpeername() shows the address asked for, IPv6") { peer_is(far6()); }
WAY(peer_name_mapped, KEEPS, "", "getpeername() shows the address asked for, ::ffff:a.b.c.d") { peer_is(far_mapped()); }

WAY(own_name, KEEPS, "", "getsockname() shows an address of this host towards the target")
{
	struct address own = { .length = sizeof own.v6 }, expected = at(getenv("NG_OWN4"), 0);
	int fd = opened(far4());
	getsockname(fd, &own.any, &own.length);
	if (own.v4.sin_addr.s_addr != expected.v4.sin_addr.s_addr)
		broken("getsockname shows %s", inet_ntoa(own.v4.sin_addr));
	works();
}

WAY(bound_source, KEEPS, "", "a bound source address and port stay as bound")
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	struct address own = at(getenv("NG_OWN4"), 0), seen = { .length = sizeof seen.v6 }, to = far4();
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &own.any, own.length) < 0)
		broken("bind: %s", strerror(errno));
	own.length = sizeof own.v6;
	getsockname(fd, &own.any, &own.length);
	if (connect(fd, &to.any, to.length) < 0)
		broken("connect: %s", strerror(errno));
	getsockname(fd, &seen.any, &seen.length);
	if (!same(own, seen))
		broken("getsockname shows another address than the bound one");
	if (!answered(fd))
		broken("no answer");
	works();
}

WAY(reset_at_once, KEEPS, "", "a target that is not there ends in an error at once, not in a hang")
{
	struct address to = far4();
	char byte;
	to.v4.sin_port = htons(9);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, &to.any, to.length) < 0)
		works();
	send(fd, question, sizeof question, MSG_NOSIGNAL);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	/* Captured, the daemon speaks the client's protocol to say no; what counts is that it says something. */
	if (poll(&wait, 1, PATIENCE_MS) != 1)
		broken("nothing within %d ms", PATIENCE_MS);
	read(fd, &byte, 1);
	works();
}

WAY(silent_client, KEEPS, "", "a client that waits for the server's greeting from a target that is not there")
{
	struct address to = far4();
	to.v4.sin_port = htons(9);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, &to.any, to.length) < 0)
		works();
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	if (poll(&wait, 1, PATIENCE_MS) != 1)
		broken("nothing within %d ms", PATIENCE_MS);
	works();
}

WAY(probe_closed, KEEPS, "", "nc -z, wait-for-it: a closed port does not look open")
{
	struct address to = far4();
	to.v4.sin_port = htons(9);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, &to.any, to.length) < 0)
		works();
	broken("connect() succeeds");
}

WAY(dead_v6, KEEPS, "", "Happy Eyeballs: an IPv6 target that does not exist fails, and IPv4 is tried")
{
	struct address dead = at("fd00:6e67::dead", port);
	char byte;
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	if (connect(fd, &dead.any, dead.length) == 0) {
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		send(fd, question, sizeof question, MSG_NOSIGNAL);
		if (poll(&wait, 1, PATIENCE_MS) != 1)
			broken("nothing within %d ms", PATIENCE_MS);
		/* Its `S` is an answer, and so is a reset; the session that follows is refused. */
		read(fd, &byte, 1);
	}
	if (!answered(opened(far4())))
		broken("no answer on IPv4");
	works();
}

WAY(half_closed, KEEPS, "", "half-close: the answer comes after shutdown(SHUT_WR)")
{
	int fd = opened(far4());
	char answer = 0;
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	send(fd, question, sizeof question, MSG_NOSIGNAL);
	shutdown(fd, SHUT_WR);
	if (poll(&wait, 1, PATIENCE_MS) != 1 || read(fd, &answer, 1) != 1 || !is_answer(answer))
		broken("no answer");
	works();
}

WAY(many_short, KEEPS, "", "three hundred short connections in a row")
{
	for (int i = 0; i < 300; i++) {
		struct address to = far4();
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, &to.any, to.length) < 0)
			broken("connection %d: %s", i, strerror(errno));
		close(fd);
	}
	works();
}

WAY(passed_inside, KEEPS, "", "a connection passed between two captured processes")
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		setup("a socket pair");
	if (spawn() == 0) {
		pass(ends[1], opened(far4()));
		_exit(0);
	}
	if (!answered(take(ends[0])))
		broken("no answer");
	works();
}

WAY(forked, KEEPS, "", "a connection used by a child, after fork()")
{
	int fd = opened(far4()), status;
	pid_t child = spawn();
	if (child == 0)
		_exit(answered(fd) ? 0 : 1);
	waitpid(child, &status, 0);
	if (status != 0)
		broken("no answer");
	works();
}

WAY(executed, KEEPS, "", "a connection kept over exec()")
{
	int fd = opened(far4());
	char script[200];
	fcntl(fd, F_SETFD, 0);
	snprintf(script, sizeof script, "printf '\\0\\0\\0\\010\\004\\322\\026\\057' >&%d; head -c 1 <&%d | grep -q '[NS]'", fd, fd);
	if (system(script) != 0)
		broken("no answer");
	works();
}

WAY(own_server, KEEPS, "", "a loopback server of the same workload")
{
	int server = socket(AF_INET, SOCK_STREAM, 0);
	struct address own = at("127.0.0.1", 0);
	char byte = 0;
	if (bind(server, &own.any, own.length) < 0 || listen(server, 8) < 0)
		setup("a server");
	getsockname(server, &own.any, &own.length);
	if (spawn() == 0) {
		char asked[8];
		int fd = accept(server, NULL, NULL);
		if (read(fd, asked, sizeof asked) == sizeof asked)
			send(fd, "N", 1, MSG_NOSIGNAL);
		_exit(0);
	}
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, &own.any, own.length) < 0)
		broken("connect: %s", strerror(errno));
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	send(fd, question, sizeof question, MSG_NOSIGNAL);
	if (poll(&wait, 1, PATIENCE_MS) != 1 || read(fd, &byte, 1) != 1 || byte != 'N')
		broken("the server is not reached");
	/* Whoever answers `N` hangs up behind it. */
	if (poll(&wait, 1, PATIENCE_MS) != 1 || read(fd, &byte, 1) != 0)
		broken("somebody else answers");
	works();
}

WAY(own_datagrams, KEEPS, "", "a datagram to a loopback socket of the same workload")
{
	int one = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
	struct address own = at("127.0.0.1", 0);
	char byte = 0;
	if (bind(one, &own.any, own.length) < 0)
		setup("bind");
	getsockname(one, &own.any, &own.length);
	if (sendto(other, "x", 1, 0, &own.any, own.length) < 0)
		broken("sendto: %s", strerror(errno));
	struct pollfd wait = { .fd = one, .events = POLLIN };
	if (poll(&wait, 1, PATIENCE_MS) != 1 || read(one, &byte, 1) != 1 || byte != 'x')
		broken("nothing arrives");
	works();
}

WAY(own_unix, KEEPS, "", "a Unix socket of the same workload")
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int server = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(name.sun_path, sizeof name.sun_path, "%s/own-%d.sock", folder, getpid());
	if (bind(server, (void *)&name, sizeof name) < 0 || listen(server, 8) < 0)
		setup("a server");
	int failed = connect(fd, (void *)&name, sizeof name), error = errno;
	unlink(name.sun_path);
	if (failed < 0)
		broken("connect: %s", strerror(error));
	works();
}

WAY(interfaces, KEEPS, "", "netlink: interfaces and addresses can be listed")
{
	struct ifaddrs *all;
	if (getifaddrs(&all) < 0)
		broken("getifaddrs: %s", strerror(errno));
	works();
}

WAY(own_network, KEEPS, "", "a user and network namespace of its own: devices, addresses, routes, a tun device")
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI, .ifr_name = "own0" };
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		broken("unshare: %s", strerror(errno));
	int map = open("/proc/self/uid_map", O_WRONLY);
	if (map < 0 || write(map, "0 0 1", 5) != 5)
		setup("being root in it");
	int tunnel = open("/dev/net/tun", O_RDWR);
	if (tunnel >= 0 && ioctl(tunnel, TUNSETIFF, &request) < 0)
		broken("TUNSETIFF: %s", strerror(errno));
	if (!run("ip link set lo up && ip addr add 198.18.252.1/32 dev lo && ip route add 198.18.252.4/30 dev lo && "
		 "ip rule add to 198.18.252.8/30 lookup main"))
		broken("ip");
	works();
}

WAY(traced_child, KEEPS, "", "a debugger: ptrace() and the memory of a child of one's own")
{
	static volatile int value = 1;
	int two = 2, status;
	pid_t child = spawn();
	if (child == 0) {
		while (value != 2)
			usleep(1000);
		_exit(0);
	}
	if (ptrace(PTRACE_ATTACH, child, 0, 0) < 0)
		broken("PTRACE_ATTACH: %s", strerror(errno));
	waitpid(child, NULL, __WALL);
	struct iovec from = { &two, sizeof two }, to = { (void *)&value, sizeof two };
	if (process_vm_writev(child, &from, 1, &to, 1, 0) < 0)
		broken("process_vm_writev: %s", strerror(errno));
	if (ptrace(PTRACE_DETACH, child, 0, 0) < 0)
		broken("PTRACE_DETACH: %s", strerror(errno));
	if (waitpid(child, &status, 0) < 0 || status != 0)
		broken("the child ended with %d", status);
	works();
}

WAY(inspected, KEEPS | OUTSIDE, "", "ps: facts about processes outside can be read")
{
	char path[40], text[400];
	pid_t helper = spawn();
	if (helper == 0) {
		pause();
		_exit(0);
	}
	enter();
	snprintf(path, sizeof path, "/proc/%d/maps", helper);
	int maps = open(path, O_RDONLY);
	if (maps < 0 || read(maps, text, sizeof text) <= 0)
		broken("%s: %s", path, strerror(errno));
	works();
}

/* A cgroup below our own that is gone after us; false where we have none. */
static bool below(char *path, size_t length)
{
	const char *own = getenv("NG_CGROUP");
	if (!own || !*own)
		return false;
	snprintf(path, length, "%s/kept-%d", own, getpid());
	if (mkdir(path, 0755) < 0)
		broken("mkdir: %s", strerror(errno));
	return true;
}

WAY(cgroups_below, KEEPS, "", "a cgroup below is made and entered, as container runtimes do")
{
	char path[400], file[430];
	int status;
	if (!below(path, sizeof path))
		works();
	pid_t child = spawn();
	if (child == 0) {
		snprintf(file, sizeof file, "%s/cgroup.procs", path);
		int list = open(file, O_WRONLY);
		_exit(list >= 0 && write(list, "0", 1) == 1 ? 0 : errno);
	}
	waitpid(child, &status, 0);
	rmdir(path);
	if (status != 0)
		broken("entering it: %s", strerror(WEXITSTATUS(status)));
	works();
}

WAY(device_program, KEEPS, "", "a BPF program that keeps devices from a cgroup below, as container runtimes attach")
{
	char path[400];
	struct bpf_insn program[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program, .insn_cnt = 2,
				.license = (uintptr_t)"GPL" };
	int loaded = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
	if (loaded < 0)
		broken("BPF_PROG_LOAD: %s", strerror(errno));
	if (!below(path, sizeof path))
		works();
	int place = open(path, O_RDONLY | O_DIRECTORY);
	union bpf_attr attach = { .target_fd = (uint32_t)place, .attach_bpf_fd = (uint32_t)loaded,
				  .attach_type = BPF_CGROUP_DEVICE };
	int failed = (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), error = errno;
	rmdir(path);
	if (failed < 0)
		broken("BPF_PROG_ATTACH: %s", strerror(error));
	works();
}

WAY(serves, KEEPS | OUTSIDE, "", "a captured server is reached from outside (a probe, a port-forward)")
{
	struct address own = at(getenv("NG_OWN4"), 0);
	int told[2], status;
	if (pipe(told) < 0)
		setup("a pipe");
	pid_t outside = spawn();
	if (outside == 0) {
		struct address to;
		int far = open(far_netns, O_RDONLY);
		char byte = 0;
		if (read(told[0], &to, sizeof to) != sizeof to || far < 0 || setns(far, CLONE_NEWNET) < 0)
			_exit(1);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, &to.any, to.length) < 0 || read(fd, &byte, 1) != 1)
			_exit(2);
		_exit(byte == 'N' ? 0 : 3);
	}
	enter();
	int server = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(server, &own.any, own.length) < 0 || listen(server, 8) < 0)
		broken("listen: %s", strerror(errno));
	getsockname(server, &own.any, &own.length);
	if (write(told[1], &own, sizeof own) != sizeof own)
		setup("telling the helper");
	struct pollfd wait = { .fd = server, .events = POLLIN };
	if (poll(&wait, 1, PATIENCE_MS) != 1)
		broken("nobody arrives");
	int fd = accept(server, NULL, NULL);
	send(fd, "N", 1, MSG_NOSIGNAL);
	waitpid(outside, &status, 0);
	if (status != 0)
		broken("the answer does not arrive");
	works();
}

WAY(starter_keeps, OUTSIDE | KEEPS, "", "who starts a program in a captured cgroup keeps a connection of its own")
{
	int fd = opened(far4());
	pid_t child = spawn();
	if (child == 0) {
		enter();
		usleep(20000); /* until then it has its parent's descriptors */
		execl("/bin/sh", "sh", "-c", "sleep 1", (char *)NULL);
		_exit(127);
	}
	settle();
	if (!answered(fd))
		broken("it was ended");
	works();
}
