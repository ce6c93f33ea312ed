/* Unix sockets of those who would do it for us. The suite's own sockets stand in for the real ones, mounted at the
 * real paths in a mount namespace of the way's own, as a pod sees them when its node's are mounted into it. */
#include "way.h"
#define ROW "Unix sockets: container runtimes, ssh-agent, relays, the daemon"

#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Where a helper listens for tokens: <folder>/near.sock. */
static void helper(char *path, size_t size) { snprintf(path, size, "%s/near.sock", folder); }

static void parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
}

/* Makes the helper appear at `path`. Nobody else sees it. */
static void mounted_at(const char *path)
{
	char from[300], to[300];
	helper(from, sizeof from);
	snprintf(to, sizeof to, "%s", path);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		setup("a mount namespace");
	/* Fresh directories over those of the system, except where the helper itself lies. */
	static const char *fresh[] = { "/run", "/var/lib" };
	for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++)
		if (mount("fresh", fresh[i], "tmpfs", 0, NULL) < 0)
			setup("a fresh directory");
	parents(to);
	int file = open(to, O_CREAT | O_RDONLY, 0600);
	if (file < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0)
		setup("mounting the socket");
	close(file);
}

static _Noreturn void talk_to(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = make(AF_UNIX, SOCK_STREAM, 0, "a Unix socket");
	snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
	if (connect(fd, (void *)&to, sizeof to) < 0)
		refused("connect");
	deliver(fd);
}


WAY(unix_docker, OUTSIDE, "", "/var/run/docker.sock") { mounted_at("/var/run/docker.sock"); enter(); talk_to("/var/run/docker.sock"); }
WAY(unix_docker_run, OUTSIDE, "", "/run/docker.sock") { mounted_at("/run/docker.sock"); enter(); talk_to("/run/docker.sock"); }
WAY(unix_containerd, OUTSIDE, "", "/run/containerd/containerd.sock") { mounted_at("/run/containerd/containerd.sock"); enter(); talk_to("/run/containerd/containerd.sock"); }
WAY(unix_crio, OUTSIDE, "", "/run/crio/crio.sock") { mounted_at("/run/crio/crio.sock"); enter(); talk_to("/run/crio/crio.sock"); }
WAY(unix_podman, OUTSIDE, "", "/run/podman/podman.sock") { mounted_at("/run/podman/podman.sock"); enter(); talk_to("/run/podman/podman.sock"); }
WAY(unix_kubelet, OUTSIDE, "", "/var/lib/kubelet/pod-resources/kubelet.sock") { mounted_at("/var/lib/kubelet/pod-resources/kubelet.sock"); enter(); talk_to("/var/lib/kubelet/pod-resources/kubelet.sock"); }
WAY(unix_dbus, OUTSIDE, "", "/run/dbus/system_bus_socket") { mounted_at("/run/dbus/system_bus_socket"); enter(); talk_to("/run/dbus/system_bus_socket"); }
WAY(unix_nscd, OUTSIDE, "", "/var/run/nscd/socket (names resolved by another process)") { mounted_at("/var/run/nscd/socket"); enter(); talk_to("/var/run/nscd/socket"); }
WAY(unix_resolved, OUTSIDE, "", "/run/systemd/resolve/io.systemd.Resolve (names, by varlink)") { mounted_at("/run/systemd/resolve/io.systemd.Resolve"); enter(); talk_to("/run/systemd/resolve/io.systemd.Resolve"); }
WAY(unix_ssh_agent, OUTSIDE, "", "/tmp/ssh-…/agent.N, an ssh-agent")
{
	char from[300], to[300];
	helper(from, sizeof from);
	mounted_at("/run/unused");
	if (mount("fresh", "/tmp", "tmpfs", 0, NULL) < 0)
		setup("a fresh /tmp");
	/* The helper is reached through the mount made before. */
	snprintf(to, sizeof to, "/tmp/ssh-XXXXdb7f2a/agent.4711");
	parents(to);
	int file = open(to, O_CREAT | O_RDONLY, 0600);
	if (file < 0 || mount("/run/unused", to, NULL, MS_BIND, NULL) < 0)
		setup("mounting the socket");
	enter();
	talk_to(to);
}

WAY(unix_docker_relative, OUTSIDE, "", "docker.sock by a relative path")
{
	mounted_at("/var/run/docker.sock");
	enter();
	if (chdir("/var/run") < 0)
		setup("chdir");
	talk_to("docker.sock");
}

WAY(unix_docker_dots, OUTSIDE, "", "docker.sock by a path with dots and doubled slashes")
{
	mounted_at("/var/run/docker.sock");
	enter();
	talk_to("/var//run/../run/./docker.sock");
}

WAY(unix_docker_proc, OUTSIDE, "", "docker.sock by /proc/self/root")
{
	mounted_at("/var/run/docker.sock");
	enter();
	talk_to("/proc/self/root/var/run/docker.sock");
}

WAY(unix_docker_link, OUTSIDE, "", "docker.sock by a symbolic link of another name")
{
	mounted_at("/var/run/docker.sock");
	enter();
	if (mkdir("/run/mine", 0755) < 0 || symlink("/var/run/docker.sock", "/run/mine/harmless") < 0)
		setup("a link");
	talk_to("/run/mine/harmless");
}

WAY(unix_docker_descriptor, OUTSIDE, "", "docker.sock by /proc/self/fd of an O_PATH descriptor")
{
	char path[64];
	mounted_at("/var/run/docker.sock");
	enter();
	int fd = open("/var/run/docker.sock", O_PATH);
	if (fd < 0)
		setup("O_PATH");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	talk_to(path);
}

WAY(unix_docker_elsewhere, OUTSIDE, "", "docker.sock mounted under a name that nobody knows")
{
	mounted_at("/run/some/other/name");
	enter();
	talk_to("/run/some/other/name");
}

WAY(unix_docker_nonblocking, OUTSIDE, "", "docker.sock by a non-blocking connect()")
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	mounted_at("/var/run/docker.sock");
	enter();
	int fd = make(AF_UNIX, SOCK_STREAM, 0, "a Unix socket");
	snprintf(to.sun_path, sizeof to.sun_path, "/var/run/docker.sock");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (connect(fd, (void *)&to, sizeof to) < 0)
		refused("connect");
	deliver(fd);
}

WAY(unix_abstract, PLAIN, "", "an abstract socket of a helper outside (the network namespace's own names)")
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = make(AF_UNIX, SOCK_STREAM, 0, "a Unix socket");
	int length = snprintf(to.sun_path + 1, sizeof to.sun_path - 1, "nodegate-ways-%u", port);
	if (connect(fd, (void *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) < 0)
		refused("connect");
	deliver(fd);
}

#undef ROW
#define ROW "the agent talks to the admin API, the metrics"

/* Asks the daemon; `made` if it answers with anything but a refusal. */
static _Noreturn void ask(const char *request)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char line[400], answer[200] = "";
	int fd = make(AF_UNIX, SOCK_STREAM, 0, "a Unix socket");
	snprintf(to.sun_path, sizeof to.sun_path, "%s", getenv("NG_ADMIN"));
	if (connect(fd, (void *)&to, sizeof to) < 0)
		refused("connect");
	snprintf(line, sizeof line, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", request);
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		refused("send");
	ssize_t length = read(fd, answer, sizeof answer - 1);
	if (length < 12) {
		errno = ECONNRESET;
		refused("the answer");
	}
	answer[12] = 0;
	if (strcmp(answer + 9, "403") == 0) {
		errno = EACCES;
		refused("HTTP 403");
	}
	made(answer);
}

WAY(admin_status, PLAIN, "", "GET /v1/status on the daemon's socket") { ask("GET /v1/status"); }
WAY(admin_captures, PLAIN, "", "GET /v1/captures on the daemon's socket") { ask("GET /v1/captures"); }
WAY(admin_run, PLAIN, "", "POST /v1/runs on the daemon's socket") { ask("POST /v1/runs"); }

WAY(admin_release, PLAIN, "", "DELETE /v1/captures/<own cgroup> on the daemon's socket, then connect()")
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char line[400], answer[200];
	struct stat facts;
	const char *own = getenv("NG_CGROUP");
	int fd = make(AF_UNIX, SOCK_STREAM, 0, "a Unix socket");
	snprintf(to.sun_path, sizeof to.sun_path, "%s", getenv("NG_ADMIN"));
	if (own && *own && stat(own, &facts) == 0 && connect(fd, (void *)&to, sizeof to) == 0) {
		snprintf(line, sizeof line, "DELETE /v1/captures/%llu HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
			 (unsigned long long)facts.st_ino);
		send(fd, line, strlen(line), MSG_NOSIGNAL);
		while (read(fd, answer, sizeof answer) > 0)
			;
	}
	stream_to(far4());
}
