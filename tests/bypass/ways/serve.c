/* The targets of one network namespace. They answer on every protocol that this kernel has, print each token that
 * arrives, and hang up. With the word `sniff` they also look at every frame from outside: then a token counts
 * however it was wrapped, and so does the first packet of any connection. */
#include "way.h"

#include <ctype.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/tipc.h>
#include <linux/vm_sockets.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/un.h>

#define MOST 512
#define TOKEN_LENGTH 15

enum kind { LISTENS, TALKS, DATAGRAMS, FRAMES };

static struct pollfd sockets[MOST];
static enum kind kinds[MOST];
static const char *names[MOST];
static int used;

static void add(int fd, enum kind kind, const char *name)
{
	if (used == MOST) {
		close(fd);
		return;
	}
	sockets[used] = (struct pollfd){ .fd = fd, .events = POLLIN };
	kinds[used] = kind;
	names[used++] = name;
}

/* Binds a socket of this kind, if the kernel has it. Whether that worked. */
static bool open_target(int family, int type, int protocol, const void *address, socklen_t length, const char *name)
{
	int on = 1, off = 0, fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (type == SOCK_DCCP) {
		uint32_t service = htonl(42);
		setsockopt(fd, 269 /* SOL_DCCP */, 2 /* DCCP_SOCKOPT_SERVICE */, &service, sizeof service);
	}
	if (protocol == IPPROTO_TCP)
		setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &(int){ 16 }, sizeof(int));
	if (bind(fd, address, length) < 0) {
		close(fd);
		return false;
	}
	bool datagrams = type == SOCK_DGRAM || type == SOCK_RDM || protocol == IPPROTO_SCTP;
	if ((!datagrams || protocol == IPPROTO_SCTP) && listen(fd, 128) < 0) {
		close(fd);
		return false;
	}
	add(fd, datagrams ? DATAGRAMS : LISTENS, name);
	return true;
}

static void at_port(uint16_t port)
{
	struct address any = at("::", port);
	if (!open_target(AF_INET6, SOCK_STREAM, IPPROTO_TCP, &any.v6, any.length, "tcp") ||
	    !open_target(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, &any.v6, any.length, "udp")) {
		fprintf(stderr, "ways: cannot serve port %u: %s\n", port, strerror(errno));
		exit(1);
	}
	/* Not every kernel has the others. */
	open_target(AF_INET6, SOCK_DGRAM, 136 /* UDP-Lite */, &any.v6, any.length, "udplite");
	open_target(AF_INET6, SOCK_SEQPACKET, IPPROTO_SCTP, &any.v6, any.length, "sctp");
	open_target(AF_INET6, SOCK_DCCP, 33 /* DCCP */, &any.v6, any.length, "dccp");
}

/* A name that only this network namespace knows. */
static void at_abstract_name(uint16_t port)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "nodegate-ways-%u", port);
	open_target(AF_UNIX, SOCK_STREAM, 0, &name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length), "unix");
}

static void look(const uint8_t *bytes, ssize_t length, const char *name)
{
	for (ssize_t i = 0; i + TOKEN_LENGTH <= length; i++)
		if (memcmp(bytes + i, "ngt-", 4) == 0) {
			printf("token %.*s %s\n", TOKEN_LENGTH, bytes + i, name);
			i += TOKEN_LENGTH - 1;
		}
}

/* The first packet of whatever kind that comes from outside; neighbours that look for each other do not count. */
static void look_at_frame(const uint8_t *frame, ssize_t length, const struct sockaddr_ll *from)
{
	char to[INET6_ADDRSTRLEN] = "?";
	int protocol;
	const uint8_t *inner;
	if (from->sll_pkttype == PACKET_OUTGOING || from->sll_hatype == ARPHRD_LOOPBACK || length < 34)
		return;
	look(frame, length, "frame");
	uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);
	if (type == ETH_P_IP) {
		protocol = frame[23];
		inner = frame + 14 + 4 * (frame[14] & 15);
		inet_ntop(AF_INET, frame + 30, to, sizeof to);
	} else if (type == ETH_P_IPV6 && length >= 54) {
		protocol = frame[20];
		inner = frame + 54;
		inet_ntop(AF_INET6, frame + 38, to, sizeof to);
	} else {
		return;
	}
	if (protocol == 0 || protocol == IPPROTO_IGMP)
		return;
	if (protocol == IPPROTO_ICMPV6 && inner < frame + length && inner[0] >= 130)
		return;
	if (protocol == IPPROTO_TCP && (inner + 13 >= frame + length || (inner[13] & 0x12) != 0x02))
		return;
	printf("packet %d %s\n", protocol, to);
}

static void attend(int i)
{
	uint8_t bytes[9000];
	struct sockaddr_ll from;
	socklen_t length = sizeof from;
	if (kinds[i] == LISTENS) {
		int fd = accept4(sockets[i].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			printf("accepted %s\n", names[i]);
			add(fd, TALKS, names[i]);
		}
		return;
	}
	ssize_t count = recvfrom(sockets[i].fd, bytes, sizeof bytes, 0, (void *)&from, &length);
	if (kinds[i] == FRAMES) {
		if (count > 0)
			look_at_frame(bytes, count, &from);
		return;
	}
	if (count > 0)
		look(bytes, count, names[i]);
	/* PostgreSQL's SSLRequest has an answer without having been judged: `keep.c` asks it. */
	if (count == 8 && memcmp(bytes, "\0\0\0\10\4\322\26\57", 8) == 0)
		send(sockets[i].fd, "N", 1, MSG_NOSIGNAL);
	if (kinds[i] == DATAGRAMS || (count < 0 && errno == EAGAIN))
		return;
	/* A stream has said its word, and the one behind it waits for us to hang up. */
	close(sockets[i].fd);
	sockets[i].fd = -1;
}

int serve(int count, char **words)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	uint16_t port = (uint16_t)atoi(words[0]);
	at_port(port);
	at_abstract_name(port);
	for (int i = 1; i < count; i++) {
		struct sockaddr_un path = { .sun_family = AF_UNIX };
		if (strcmp(words[i], "sniff") == 0) {
			struct sockaddr_ll all = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
			int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
			if (fd < 0 || bind(fd, (void *)&all, sizeof all) < 0) {
				perror("ways: cannot look at frames");
				return 1;
			}
			add(fd, FRAMES, "frame");
		} else if (strcmp(words[i], "machine") == 0) {
			/* What knows no network namespaces. */
			struct sockaddr_vm any = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
			open_target(AF_VSOCK, SOCK_STREAM, 0, &any, sizeof any, "vsock");
		} else if (strcmp(words[i], "node") == 0) {
			struct sockaddr_tipc name = { .family = AF_TIPC, .addrtype = TIPC_ADDR_NAMESEQ,
				.scope = TIPC_NODE_SCOPE, .addr.nameseq = { 18888, port, port } };
			open_target(AF_TIPC, SOCK_RDM, 0, &name, sizeof name, "tipc");
		} else if (isdigit(words[i][0])) {
			at_port((uint16_t)atoi(words[i]));
		} else {
			snprintf(path.sun_path, sizeof path.sun_path, "%s", words[i]);
			if (!open_target(AF_UNIX, SOCK_STREAM, 0, &path, sizeof path, "unix")) {
				perror(words[i]);
				return 1;
			}
		}
	}
	printf("ready\n");
	for (;;) {
		if (poll(sockets, (nfds_t)used, -1) < 0)
			continue;
		for (int i = used - 1; i >= 0; i--)
			if (sockets[i].fd >= 0 && sockets[i].revents)
				attend(i);
		for (int i = 0; i < used; i++)
			if (sockets[i].fd < 0) {
				used--;
				sockets[i] = sockets[used];
				kinds[i] = kinds[used];
				names[i] = names[used];
				i--;
			}
	}
}
