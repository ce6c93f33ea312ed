/* Sockets and processes that come from outside of capture, or go there. */
#include "way.h"
#define ROW "connections opened before; sockets passed in; moved processes"

#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

WAY(made_before, OUTSIDE, "", "a TCP socket made before capture, connected after")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	enter();
	dial(fd, far4());
	deliver(fd);
}

WAY(opened_before, OUTSIDE, "", "a TCP connection opened before capture, used after")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	dial(fd, far4());
	enter();
	settle();
	deliver(fd);
}

WAY(reconnected, OUTSIDE, "", "a TCP socket made and used before capture, connected anew after")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	dial(fd, near4());
	enter();
	connect(fd, &none, sizeof none);
	dial(fd, far4());
	deliver(fd);
}

WAY(udp_made_before, OUTSIDE, "", "a UDP socket made before capture, sendto() after")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = far4();
	enter();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(udp_connected_before, OUTSIDE, "", "a UDP socket connected before capture, send() after")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	dial(fd, far4());
	enter();
	settle();
	if (send(fd, token, strlen(token), 0) < 0)
		refused("send");
	sent();
}

WAY(raw_made_before, OUTSIDE, "", "a raw socket made before capture, sendto() after")
{
	int fd = make(AF_INET, SOCK_RAW, 253, "a raw socket");
	struct address to = far4();
	enter();
	settle();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(opened_before_kept, OUTSIDE, "", "a TCP connection opened before capture, in the hands of another program after")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	char number[16];
	dial(fd, far4());
	fcntl(fd, F_SETFD, 0);
	snprintf(number, sizeof number, "%d", fd);
	enter();
	settle();
	if (!run("printf %%s %s >&%s", token, number)) {
		errno = EIO;
		refused("write");
	}
	sent();
}

WAY(raw_handed_on, OUTSIDE, "", "a raw socket made before capture, in the hands of children that make children")
{
	int fd = make(AF_INET, SOCK_RAW, 253, "a raw socket");
	struct address to = far4();
	enter();
	pid_t child = fork();
	if (child < 0)
		setup("fork");
	if (child > 0) {
		settle();
		settle();
		sent();
	}
	/* Whoever is looked at has had a child by then. */
	for (int i = 0; i < 100 && child == 0; i++) {
		usleep(5000);
		child = fork();
	}
	if (child == 0)
		sendto(fd, token, strlen(token), 0, &to.any, to.length);
	_exit(0);
}

WAY(mptcp_made_before, OUTSIDE | OPTIONAL, "", "an MPTCP socket made before capture, connected after")
{
	int fd = make(AF_INET, SOCK_STREAM, 262, "an MPTCP socket");
	enter();
	dial(fd, far4());
	deliver(fd);
}

WAY(sctp_made_before, OUTSIDE | OPTIONAL, "", "an SCTP socket made before capture, connected after")
{
	int fd = make(AF_INET, SOCK_STREAM, IPPROTO_SCTP, "an SCTP socket");
	enter();
	settle();
	dial(fd, far4());
	deliver(fd);
}

/* Lets a process that stays outside run `outside` and pass on the socket that it returns. */
static int from_outside(int (*outside)(void))
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		setup("a socket pair");
	pid_t helper = spawn();
	if (helper == 0) {
		char byte;
		ssize_t told = read(ends[1], &byte, 1); /* pass it on only after the other has entered */
		if (told == 1)
			pass(ends[1], outside());
		pause();
		_exit(0);
	}
	enter();
	if (write(ends[0], "", 1) != 1)
		setup("telling the helper");
	int fd = take(ends[0]);
	kill(helper, SIGKILL);
	return fd;
}

static int new_stream(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static int new_datagrams(void) { return socket(AF_INET, SOCK_DGRAM, 0); }

static int connected_stream(void)
{
	struct address to = far4();
	int fd = new_stream();
	return connect(fd, &to.any, to.length) == 0 ? fd : -1;
}

static int connected_datagrams(void)
{
	struct address to = far4();
	int fd = new_datagrams();
	return connect(fd, &to.any, to.length) == 0 ? fd : -1;
}

WAY(passed_unconnected, OUTSIDE, "", "SCM_RIGHTS: a TCP socket from outside, connected inside")
{
	int fd = from_outside(new_stream);
	dial(fd, far4());
	deliver(fd);
}

WAY(passed_connected, OUTSIDE, "", "SCM_RIGHTS: a TCP connection from outside, used inside")
{
	deliver(from_outside(connected_stream));
}

WAY(passed_udp, OUTSIDE, "", "SCM_RIGHTS: a UDP socket from outside, sendto() inside")
{
	int fd = from_outside(new_datagrams);
	struct address to = far4();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(passed_udp_connected, OUTSIDE, "", "SCM_RIGHTS: a connected UDP socket from outside, send() inside")
{
	int fd = from_outside(connected_datagrams);
	if (send(fd, token, strlen(token), 0) < 0)
		refused("send");
	sent();
}

WAY(passed_fastopen, OUTSIDE, "", "SCM_RIGHTS: a TCP socket from outside, sendto(MSG_FASTOPEN) inside")
{
	int fd = from_outside(new_stream);
	struct address to = far4();
	if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, to.length) < 0)
		refused("sendto");
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

WAY(inherited, OUTSIDE, "", "a TCP socket of a parent outside, connected by its child inside")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address to = far4();
	pid_t child = spawn();
	if (child == 0) {
		enter();
		try_as_child(fd, to);
	}
	as_child(child_error(child));
}

WAY(inherited_connection, OUTSIDE, "", "a TCP connection of a parent outside, used by its child inside")
{
	int fd = connected_stream();
	pid_t child = spawn();
	if (fd < 0)
		setup("connect");
	if (child == 0) {
		enter();
		settle();
		deliver(fd);
	}
	waitpid(child, NULL, 0);
	sent();
}

WAY(cloned_into, OUTSIDE | OPTIONAL, "", "a TCP connection of a parent outside, used by a child made inside (CLONE_INTO_CGROUP)")
{
	const char *own = getenv("NG_CGROUP");
	int fd = connected_stream(), into = -1;
	if (fd < 0)
		setup("connect");
	struct clone_args asked = { .exit_signal = SIGCHLD };
	if (own && *own) {
		into = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (into < 0)
			setup("opening the captured cgroup");
		asked.flags = CLONE_INTO_CGROUP;
		asked.cgroup = (uint64_t)into;
	}
	pid_t child = (pid_t)syscall(SYS_clone3, &asked, sizeof asked);
	if (child < 0)
		absent("clone3");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		settle();
		deliver(fd);
	}
	waitpid(child, NULL, 0);
	sent();
}

/* A process outside, of the same user, with an open connection. */
static pid_t outsider(int *fd)
{
	*fd = connected_stream();
	pid_t helper = spawn();
	if (helper == 0) {
		pause();
		_exit(0);
	}
	return helper;
}

WAY(pidfd_getfd, OUTSIDE, "same user", "pidfd_getfd(): taking the connection of a process of the same user outside")
{
	int fd, taken;
	pid_t helper = outsider(&fd);
	close(fd);
	enter();
	int handle = (int)syscall(SYS_pidfd_open, helper, 0);
	taken = (int)syscall(SYS_pidfd_getfd, handle, fd, 0);
	int error = errno;
	kill(helper, SIGKILL);
	errno = error;
	if (taken < 0)
		refused("pidfd_getfd");
	deliver(taken);
}

#ifdef __x86_64__
#include <sys/user.h>

/* What the process outside is made to run. */
static void leak(void)
{
	struct address to = far4();
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, &to.any, to.length) == 0)
		send(fd, token, strlen(token), MSG_NOSIGNAL);
	_exit(0);
}

WAY(ptrace, OUTSIDE, "same user", "ptrace(): making a process of the same user outside connect")
{
	struct user_regs_struct registers;
	pid_t helper = spawn();
	if (helper == 0) {
		for (;;)
			pause();
	}
	enter();
	if (ptrace(PTRACE_ATTACH, helper, 0, 0) < 0)
		refused("PTRACE_ATTACH");
	waitpid(helper, NULL, __WALL);
	if (ptrace(PTRACE_GETREGS, helper, 0, &registers) < 0)
		refused("PTRACE_GETREGS");
	registers.rip = (uintptr_t)leak;
	registers.rsp = ((registers.rsp - 4096) & ~15ull) - 8;
	registers.orig_rax = (unsigned long long)-1; /* no restart of pause() */
	if (ptrace(PTRACE_SETREGS, helper, 0, &registers) < 0 || ptrace(PTRACE_DETACH, helper, 0, 0) < 0)
		refused("PTRACE_SETREGS");
	waitpid(helper, NULL, 0);
	sent();
}
#endif

/* The process outside leaks when it is told so. */
static volatile int told_to_leak;

static void leak_when_told(void)
{
	while (!told_to_leak)
		usleep(1000);
	struct address to = far4();
	int fd = new_stream();
	if (connect(fd, &to.any, to.length) == 0)
		send(fd, token, strlen(token), MSG_NOSIGNAL);
	_exit(0);
}

WAY(memory_written, OUTSIDE, "same user", "process_vm_writev(): changing what a process of the same user outside does")
{
	int yes = 1;
	pid_t helper = spawn();
	if (helper == 0)
		leak_when_told();
	enter();
	struct iovec from = { &yes, sizeof yes }, to = { (void *)&told_to_leak, sizeof yes };
	if (process_vm_writev(helper, &from, 1, &to, 1, 0) < 0)
		refused("process_vm_writev");
	waitpid(helper, NULL, 0);
	sent();
}

WAY(memory_file, OUTSIDE, "same user", "/proc/<pid>/mem: changing what a process of the same user outside does")
{
	int yes = 1;
	char path[40];
	pid_t helper = spawn();
	if (helper == 0)
		leak_when_told();
	enter();
	snprintf(path, sizeof path, "/proc/%d/mem", helper);
	int memory = open(path, O_RDWR);
	if (memory < 0)
		refused("opening the memory");
	if (pwrite(memory, &yes, sizeof yes, (off_t)(uintptr_t)&told_to_leak) != sizeof yes)
		refused("writing the memory");
	waitpid(helper, NULL, 0);
	sent();
}

/* The list of processes of a cgroup outside, open to be written; a file that leads nowhere where there is none. */
static int list_outside(void)
{
	const char *own = getenv("NG_CGROUP");
	char path[400] = "/dev/null";
	if (own && *own)
		snprintf(path, sizeof path, "%s/../cgroup.procs", own);
	return open(path, O_WRONLY | O_CLOEXEC);
}

WAY(moved_out, PLAIN, "root", "a process that writes itself into another cgroup (root on the cgroup file system)")
{
	int list = list_outside();
	if (list < 0)
		refused("opening the parent's cgroup.procs");
	if (write(list, "0", 1) != 1)
		refused("leaving the cgroup");
	stream_to(far4());
}

WAY(cloned_out, OUTSIDE | OPTIONAL, "root", "a child made in another cgroup (CLONE_INTO_CGROUP), as root on the cgroup file system")
{
	const char *own = getenv("NG_CGROUP");
	struct clone_args asked = { .exit_signal = SIGCHLD };
	enter();
	if (own && *own) {
		char path[400];
		snprintf(path, sizeof path, "%s/..", own);
		int into = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (into < 0)
			setup("opening the parent");
		asked.flags = CLONE_INTO_CGROUP;
		asked.cgroup = (uint64_t)into;
	}
	pid_t child = (pid_t)syscall(SYS_clone3, &asked, sizeof asked);
	if (child < 0 && errno == ENOSYS)
		absent("clone3");
	if (child < 0)
		refused("clone3");
	if (child == 0) {
		struct address to = far4();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int fd = new_stream();
		try_as_child(fd, to);
	}
	as_child(child_error(child));
}

WAY(passed_list, OUTSIDE, "", "SCM_RIGHTS: another cgroup's list of processes, opened outside, written inside")
{
	int list = from_outside(list_outside);
	if (write(list, "0", 1) != 1)
		refused("leaving the cgroup");
	stream_to(far4());
}

WAY(moved_out_with_socket, OUTSIDE, "", "a socket made inside, connected by a process that was moved out")
{
	/* The mover is root outside, so this is no escape by itself: but the socket must not become free. */
	int told[2], done[2];
	char byte;
	if (pipe(told) < 0 || pipe(done) < 0)
		setup("pipes");
	pid_t mover = spawn();
	if (mover == 0) {
		char number[16];
		int length = snprintf(number, sizeof number, "%d", getppid()), list = list_outside();
		bool moved = read(told[0], &byte, 1) == 1 && write(list, number, (size_t)length) == length;
		_exit(moved && write(done[1], "", 1) == 1 ? 0 : 1);
	}
	close(done[1]);
	enter();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (write(told[1], "", 1) != 1 || read(done[0], &byte, 1) != 1)
		setup("moving out");
	dial(fd, far4());
	deliver(fd);
}
