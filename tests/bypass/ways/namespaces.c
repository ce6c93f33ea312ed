/* Namespaces, containers within the container, and cgroups below. */
#include "way.h"
#define ROW "other namespaces, child containers, cgroups below"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

WAY(cgroup_namespace, PLAIN, "", "a new cgroup namespace, then connect()")
{
	if (unshare(CLONE_NEWCGROUP) < 0)
		refused("unshare");
	stream_to(far4());
}

WAY(user_namespace, PLAIN, "", "a new user namespace (root in it), then connect()")
{
	if (unshare(CLONE_NEWUSER) < 0)
		refused("unshare");
	stream_to(far4());
}

WAY(user_network_namespace, PLAIN, "", "a new user and network namespace, with a socket of the old one")
{
	/* The socket stays in the namespace where it was made, whoever holds it. */
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		refused("unshare");
	dial(fd, far4());
	deliver(fd);
}

WAY(pid_namespace, PLAIN, "", "a new pid and mount namespace, then connect() by its first process")
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		refused("unshare");
	pid_t child = spawn();
	if (child == 0) {
		struct address to = far4();
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		try_as_child(fd, to);
	}
	as_child(child_error(child));
}

/* A network namespace of our own with a cable to the far target. */
static void own_network(void)
{
	char place[64];
	snprintf(place, sizeof place, "/proc/%d/fd", getpid());
	int target = open(far_netns, O_RDONLY);
	if (unshare(CLONE_NEWNET) < 0)
		refused("unshare");
	if (target < 0 ||
	    !run("ip link add out0 type veth peer name in%d netns %s && ip link set lo up && ip link set out0 up && "
		 "ip addr add 198.18.255.1/30 dev out0",
		 getpid() & 0xffff, strrchr(far_netns, '/') + 1))
		setup("a cable to the target");
	if (!run("ip -n %s addr add 198.18.255.2/30 dev in%d && ip -n %s link set in%d up",
		 strrchr(far_netns, '/') + 1, getpid() & 0xffff, strrchr(far_netns, '/') + 1, getpid() & 0xffff))
		setup("the target's end of the cable");
	close(target);
}

WAY(own_network_namespace, PLAIN, "CAP_SYS_ADMIN", "a network namespace of its own with a cable out: connect()")
{
	own_network();
	stream_to(at("198.18.255.2", port));
}

WAY(own_network_namespace_udp, PLAIN, "CAP_SYS_ADMIN", "a network namespace of its own with a cable out: UDP")
{
	own_network();
	struct address to = at("198.18.255.2", port);
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(entered_network_namespace, PLAIN, "CAP_SYS_ADMIN", "setns() into the target's network namespace: connect()")
{
	int fd = open(far_netns, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		refused("setns");
	stream_to(far4());
}

WAY(entered_network_namespace_twice, PLAIN, "CAP_SYS_ADMIN", "setns(): connect() until the daemon listens there")
{
	int fd = open(far_netns, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		refused("setns");
	struct address to = far4();
	for (int i = 0; i < 40; i++) {
		int attempt = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
		if (connect(attempt, &to.any, to.length) == 0)
			deliver(attempt);
		close(attempt);
		usleep(50000);
	}
	refused("connect");
}

WAY(cgroup_below, PLAIN, "", "a cgroup below (root on the cgroup file system), then connect()")
{
	const char *own = getenv("NG_CGROUP");
	if (own && *own) {
		char path[400];
		snprintf(path, sizeof path, "%s/below", own);
		mkdir(path, 0755);
		strcat(path, "/cgroup.procs");
		int procs = open(path, O_WRONLY);
		if (procs < 0 || write(procs, "0", 1) != 1)
			refused("moving below");
	}
	stream_to(far4());
}

WAY(cgroup_below_namespace, PLAIN, "", "a cgroup below, made the root of a new cgroup namespace")
{
	const char *own = getenv("NG_CGROUP");
	if (own && *own) {
		char path[400];
		snprintf(path, sizeof path, "%s/below", own);
		mkdir(path, 0755);
		strcat(path, "/cgroup.procs");
		int procs = open(path, O_WRONLY);
		if (procs < 0 || write(procs, "0", 1) != 1)
			refused("moving below");
	}
	if (unshare(CLONE_NEWCGROUP | CLONE_NEWNS | CLONE_NEWPID) < 0)
		refused("unshare");
	stream_to(far4());
}

WAY(child_container, PLAIN, "CAP_SYS_ADMIN", "a container of its own: all namespaces, a new root (pivot_root), then connect()")
{
	char root[300];
	snprintf(root, sizeof root, "%s/root-%d", folder, getpid());
	struct address to = far4();
	if (mkdir(root, 0755) < 0)
		setup("mkdir");
	if (unshare(CLONE_NEWCGROUP | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		refused("unshare");
	pid_t child = spawn();
	if (child == 0) {
		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount(root, root, NULL, MS_BIND, NULL) < 0 || chdir(root) < 0 ||
		    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
			_exit(EINVAL);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		try_as_child(fd, to);
	}
	int error = child_error(child);
	rmdir(root);
	as_child(error);
}

WAY(changed_root, PLAIN, "", "chroot(), then connect()")
{
	struct address to = far4();
	if (chroot(folder) < 0)
		refused("chroot");
	stream_to(to);
}
