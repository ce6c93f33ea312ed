/* Unix sockets of those who would do it for us. A process outside stands in for the real one: it listens at the real
 * path, in a mount namespace with fresh directories, and tells a target what it hears. */
#include "way.h"
#define ROW "Unix sockets: container runtimes, ssh-agent, relays, the daemon"

#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/un.h>

static void parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0755);
		*slash = '/';
	}
}

/* Lets a process outside listen at `path`, where only it and we can see it. */
static void served_at(const char *path)
{
	struct sockaddr_un target = { .sun_family = AF_UNIX }, name = { .sun_family = AF_UNIX };
	int out = socket(AF_UNIX, SOCK_STREAM, 0), server = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(target.sun_path, sizeof target.sun_path, "%s/near.sock", folder);
	if (connect(out, (void *)&target, sizeof target) < 0)
		setup("the target's socket");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		setup("a mount namespace");
	static const char *fresh[] = { "/run", "/var/lib", "/tmp" };
	for (size_t i = 0; i < sizeof fresh / sizeof *fresh; i++)
		if (mount("fresh", fresh[i], "tmpfs", 0, NULL) < 0)
			setup("a fresh directory");
	snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
	parents(name.sun_path);
	if (bind(server, (void *)&name, sizeof name) < 0 || listen(server, 8) < 0)
		setup("listening there");
	if (spawn() == 0) {
		char heard[64];
		int fd = accept(server, NULL, NULL);
		ssize_t length = read(fd, heard, sizeof heard);
		if (length > 0 && send(out, heard, (size_t)length, MSG_NOSIGNAL) > 0)
			shutdown(out, SHUT_WR);
		/* The target hangs up when it has it. */
		while (read(out, heard, sizeof heard) > 0)
			;
		_exit(0);
	}
	close(server);
	close(out);
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


WAY(unix_docker, OUTSIDE, "", "/var/run/docker.sock") { served_at("/var/run/docker.sock"); enter(); talk_to("/var/run/docker.sock"); }
WAY(unix_docker_run, OUTSIDE, "", "/run/docker.sock") { served_at("/run/docker.sock"); enter(); talk_to("/run/docker.sock"); }
WAY(unix_containerd, OUTSIDE, "", "/run/containerd/containerd.sock") { served_at("/run/containerd/containerd.sock"); enter(); talk_to("/run/containerd/containerd.sock"); }
WAY(unix_crio, OUTSIDE, "", "/run/crio/crio.sock") { served_at("/run/crio/crio.sock"); enter(); talk_to("/run/crio/crio.sock"); }
WAY(unix_podman, OUTSIDE, "", "/run/podman/podman.sock") { served_at("/run/podman/podman.sock"); enter(); talk_to("/run/podman/podman.sock"); }
WAY(unix_kubelet, OUTSIDE, "", "/var/lib/kubelet/pod-resources/kubelet.sock") { served_at("/var/lib/kubelet/pod-resources/kubelet.sock"); enter(); talk_to("/var/lib/kubelet/pod-resources/kubelet.sock"); }
WAY(unix_dbus, OUTSIDE, "", "/run/dbus/system_bus_socket") { served_at("/run/dbus/system_bus_socket"); enter(); talk_to("/run/dbus/system_bus_socket"); }
WAY(unix_nscd, OUTSIDE, "", "/var/run/nscd/socket (names resolved by another process)") { served_at("/var/run/nscd/socket"); enter(); talk_to("/var/run/nscd/socket"); }
WAY(unix_resolved, OUTSIDE, "", "/run/systemd/resolve/io.systemd.Resolve (names, by varlink)") { served_at("/run/systemd/resolve/io.systemd.Resolve"); enter(); talk_to("/run/systemd/resolve/io.systemd.Resolve"); }
WAY(unix_ssh_agent, OUTSIDE, "", "/tmp/ssh-…/agent.N, an ssh-agent") { served_at("/tmp/ssh-XXXXdb7f2a/agent.4711"); enter(); talk_to("/tmp/ssh-XXXXdb7f2a/agent.4711"); }

WAY(unix_docker_relative, OUTSIDE, "", "docker.sock by a relative path")
{
	served_at("/var/run/docker.sock");
	enter();
	if (chdir("/var/run") < 0)
		setup("chdir");
	talk_to("docker.sock");
}

WAY(unix_docker_dots, OUTSIDE, "", "docker.sock by a path with dots and doubled slashes")
{
	served_at("/var/run/docker.sock");
	enter();
	talk_to("/var//run/../run/./docker.sock");
}

WAY(unix_docker_proc, OUTSIDE, "", "docker.sock by /proc/self/root")
{
	served_at("/var/run/docker.sock");
	enter();
	talk_to("/proc/self/root/var/run/docker.sock");
}

WAY(unix_docker_link, OUTSIDE, "", "docker.sock by a symbolic link of another name")
{
	served_at("/var/run/docker.sock");
	enter();
	if (mkdir("/run/mine", 0755) < 0 || symlink("/var/run/docker.sock", "/run/mine/harmless") < 0)
		setup("a link");
	talk_to("/run/mine/harmless");
}

WAY(unix_docker_descriptor, OUTSIDE, "", "docker.sock by /proc/self/fd of an O_PATH descriptor")
{
	char path[64];
	served_at("/var/run/docker.sock");
	enter();
	int fd = open("/var/run/docker.sock", O_PATH);
	if (fd < 0)
		setup("O_PATH");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	talk_to(path);
}

WAY(unix_docker_elsewhere, OUTSIDE, "", "docker.sock mounted under a name that nobody knows")
{
	served_at("/var/run/docker.sock");
	enter();
	if (mkdir("/run/mine", 0755) < 0)
		setup("mkdir");
	int file = open("/run/mine/harmless", O_CREAT | O_RDONLY, 0600);
	if (file < 0 || mount("/var/run/docker.sock", "/run/mine/harmless", NULL, MS_BIND, NULL) < 0)
		setup("mounting the socket");
	talk_to("/run/mine/harmless");
}

WAY(unix_docker_nonblocking, OUTSIDE, "", "docker.sock by a non-blocking connect()")
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	served_at("/var/run/docker.sock");
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
