/* One program with every way out in it:
 *   ways list                 every way, one a line
 *   ways try NAME             one attempt, described by the environment; prints one line
 *   ways serve PORT [WORD…]   the targets of one network namespace; prints a line for each arrival
 */
#include "way.h"

#include <ifaddrs.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

const char *token, *device, *folder, *far_netns;
uint16_t port;

int serve(int count, char **words);

static struct way *first, **last = &first;
static int cgroup = -1;
static pid_t reporter;

void add_way(struct way *way)
{
	*last = way;
	last = &way->next;
}

static const char *word(const char *name)
{
	const char *value = getenv(name);
	if (!value) {
		fprintf(stderr, "ways: %s is not set\n", name);
		exit(2);
	}
	return value;
}

/* --- what came of it ------------------------------------------------------------------------------------------ */

static _Noreturn void say(const char *what, const char *detail, int error)
{
	/* Only the process that the suite started speaks; its children end with a status of their own. */
	if (getpid() == reporter)
		printf("%s|%d|%s\n", what, error, detail);
	fflush(stdout);
	exit(strcmp(what, "sent") == 0 || strcmp(what, "works") == 0 ? 0 : 100);
}

void sent(void) { say("sent", "", 0); }
void refused(const char *step) { say("refused", step, errno); }
void absent(const char *step) { say("absent", step, errno); }
void setup(const char *step) { say("setup", step, errno); }
void made(const char *what) { say("made", what, 0); }
void works(void) { say("works", "", 0); }

void broken(const char *format, ...)
{
	char text[300];
	va_list words;
	va_start(words, format);
	vsnprintf(text, sizeof text, format, words);
	va_end(words);
	say("broken", text, 0);
}

/* --- addresses and sockets ------------------------------------------------------------------------------------ */

struct address at(const char *text, uint16_t to)
{
	struct address address = { 0 };
	char copy[64];
	snprintf(copy, sizeof copy, "%s", text);
	char *zone = strchr(copy, '%');
	if (zone)
		*zone++ = 0;
	if (inet_pton(AF_INET, copy, &address.v4.sin_addr) == 1) {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons(to);
		address.length = sizeof address.v4;
	} else if (inet_pton(AF_INET6, copy, &address.v6.sin6_addr) == 1) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons(to);
		address.v6.sin6_scope_id = zone ? if_nametoindex(zone) : 0;
		address.length = sizeof address.v6;
	} else {
		fprintf(stderr, "ways: %s is no address\n", text);
		exit(2);
	}
	return address;
}

struct address far4(void) { return at(word("NG_FAR4"), port); }
struct address far6(void) { return at(word("NG_FAR6"), port); }
struct address near4(void) { return at("127.0.0.1", port); }
struct address near6(void) { return at("::1", port); }

struct address far_mapped(void)
{
	char text[64];
	snprintf(text, sizeof text, "::ffff:%s", word("NG_FAR4"));
	return at(text, port);
}

struct address far_local(void)
{
	char text[64];
	snprintf(text, sizeof text, "%s%%%s", word("NG_LOCAL"), device);
	return at(text, port);
}

static bool is_absence(int error)
{
	return error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == ESOCKTNOSUPPORT || error == ENOSYS ||
	       error == ENOPROTOOPT || error == EOPNOTSUPP || error == EPROTOTYPE || error == ENODEV ||
	       error == EPFNOSUPPORT;
}

int make(int family, int type, int protocol, const char *what)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fd < 0 && is_absence(errno))
		absent(what);
	if (fd < 0)
		refused(what);
	return fd;
}

void dial(int fd, struct address to)
{
	if (connect(fd, &to.any, to.length) < 0)
		refused("connect");
}

void deliver(int fd)
{
	/* An error here is the other end's answer: it has hung up, which is no concern of ours. */
	if (send(fd, token, strlen(token), MSG_NOSIGNAL) < 0 && (errno == EPERM || errno == EACCES))
		refused("send");
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

void stream_to(struct address to)
{
	int fd = make(to.any.sa_family, SOCK_STREAM, 0, "a TCP socket");
	dial(fd, to);
	deliver(fd);
}

bool run(const char *format, ...)
{
	char line[1000], quiet[1100];
	va_list words;
	va_start(words, format);
	vsnprintf(line, sizeof line, format, words);
	va_end(words);
	snprintf(quiet, sizeof quiet, "{ %s ; } >/dev/null 2>&1", line);
	int status = system(quiet);
	if (status != 0)
		fprintf(stderr, "ways: `%s` ended with %d\n", line, status);
	return status == 0;
}

pid_t spawn(void)
{
	pid_t child = fork();
	if (child < 0)
		setup("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(15);
	}
	return child;
}

void try_as_child(int fd, struct address to)
{
	if (connect(fd, &to.any, to.length) < 0)
		_exit(errno);
	deliver(fd);
}

int child_error(pid_t child)
{
	int status;
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

void as_child(int error)
{
	if (error == 0)
		sent();
	errno = error;
	refused("connect");
}

void pass(int over, int fd)
{
	char byte = 0, space[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
				  .msg_controllen = sizeof space };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(rights), &fd, sizeof fd);
	if (sendmsg(over, &message, 0) != 1)
		refused("SCM_RIGHTS");
}

int take(int over)
{
	char byte, space[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
				  .msg_controllen = sizeof space };
	int fd = -1;
	if (recvmsg(over, &message, 0) != 1)
		refused("taking a descriptor");
	if (!CMSG_FIRSTHDR(&message)) {
		/* The message came, what was in it was kept back: no call has failed. */
		errno = ENODATA;
		refused("taking a descriptor");
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	return fd;
}

uint16_t checksum(const void *data, size_t length)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;
	for (size_t i = 0; i + 1 < length; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	if (length & 1)
		sum += (uint32_t)bytes[length - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

size_t datagram_packet(uint8_t *packet, const char *source)
{
	uint16_t payload = (uint16_t)strlen(token), total = (uint16_t)(20 + 8 + payload), sum, to = htons(port);
	uint16_t length = htons((uint16_t)(8 + payload)), all = htons(total);
	struct address from = at(source, 0), target = far4();
	memset(packet, 0, total);
	packet[0] = 0x45;
	memcpy(packet + 2, &all, 2);
	packet[8] = 64;
	packet[9] = IPPROTO_UDP;
	memcpy(packet + 12, &from.v4.sin_addr, 4);
	memcpy(packet + 16, &target.v4.sin_addr, 4);
	sum = checksum(packet, 20);
	memcpy(packet + 10, &sum, 2);
	packet[20] = 0x30;
	memcpy(packet + 22, &to, 2);
	memcpy(packet + 24, &length, 2); /* the UDP checksum may be left out */
	memcpy(packet + 28, token, payload);
	return total;
}

/* --- starting a way ------------------------------------------------------------------------------------------- */

static void drop(const char *privilege)
{
	static const struct { const char *name; int number; } known[] = {
		{ "CAP_NET_ADMIN", CAP_NET_ADMIN }, { "CAP_NET_RAW", CAP_NET_RAW },
		{ "CAP_SYS_ADMIN", CAP_SYS_ADMIN },
		{ "CAP_BPF", CAP_BPF }, { "CAP_BPF", CAP_SYS_ADMIN }, /* which stands in for it */
	};
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	if (!*privilege)
		return;
	if (strcmp(privilege, "root") == 0 || strcmp(privilege, "same user") == 0) {
		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			setup("becoming nobody");
		return;
	}
	bool found = false;
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (strcmp(known[i].name, privilege) != 0)
			continue;
		found = true;
		uint32_t bit = 1u << (known[i].number & 31);
		if (syscall(SYS_capget, &header, data) < 0 || prctl(PR_CAPBSET_DROP, known[i].number) < 0)
			setup("dropping a capability");
		data[known[i].number / 32].effective &= ~bit;
		data[known[i].number / 32].permitted &= ~bit;
		data[known[i].number / 32].inheritable &= ~bit;
		if (syscall(SYS_capset, &header, data) < 0)
			setup("dropping a capability");
	}
	if (!found) {
		fprintf(stderr, "ways: unknown privilege %s\n", privilege);
		exit(2);
	}
}

void enter(void)
{
	/* Its own cgroup may be captured meanwhile: the harness says when to go on. */
	const char *hold = getenv("NG_HOLD");
	if (hold && *hold) {
		char ready[300];
		snprintf(ready, sizeof ready, "%s.ready", hold);
		int fd = open(ready, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0)
			setup("saying that it holds");
		close(fd);
		while (access(hold, F_OK) != 0)
			usleep(5000);
	}
	/* 0 is whoever writes; the descriptor was opened while we still might. */
	if (cgroup >= 0 && write(cgroup, "0", 1) != 1)
		setup("moving to the captured cgroup");
	drop(getenv("NG_DROP") ? getenv("NG_DROP") : "");
}

void settle(void) { usleep(500000); }

static int try(const char *name)
{
	struct way *way = first;
	while (way && strcmp(way->name, name) != 0)
		way = way->next;
	if (!way) {
		fprintf(stderr, "ways: there is no way %s\n", name);
		return 2;
	}
	reporter = getpid();
	token = word("NG_TOKEN");
	port = (uint16_t)atoi(word("NG_PORT"));
	device = word("NG_DEVICE");
	folder = word("NG_FOLDER");
	far_netns = word("NG_FAR_NETNS");
	const char *into = getenv("NG_CGROUP"), *netns = getenv("NG_NETNS");
	signal(SIGPIPE, SIG_IGN);
	alarm(15);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, token); /* the kernel's record of the attempt is found by it */
	if (netns && *netns) {
		int fd = open(netns, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
			setup("entering the network namespace");
		close(fd);
	}
	const char *start = getenv("NG_START"); /* the cgroup to begin in, captured by and by */
	if (start && *start) {
		int fd = open(start, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			setup("moving to the first cgroup");
		close(fd);
	}
	if (into && *into) {
		char path[300];
		snprintf(path, sizeof path, "%s/cgroup.procs", into);
		cgroup = open(path, O_WRONLY | O_CLOEXEC);
		if (cgroup < 0)
			setup("opening the captured cgroup");
	}
	if (!(way->flags & OUTSIDE))
		enter();
	way->try();
	setup("the way has no end");
}

int main(int count, char **words)
{
	if (count == 2 && strcmp(words[1], "list") == 0) {
		for (struct way *way = first; way; way = way->next)
			printf("%s|%s|%d|%s|%s\n", way->row, way->name, way->flags, way->needs, way->title);
		return 0;
	}
	if (count == 3 && strcmp(words[1], "try") == 0)
		return try(words[2]);
	if (count >= 3 && strcmp(words[1], "serve") == 0)
		return serve(count - 2, words + 2);
	fprintf(stderr, "usage: ways list | try NAME | serve PORT [WORD...]\n");
	return 2;
}
