/* Datagrams, connected and not, and names asked of whoever answers. */
#include "way.h"
#define ROW "UDP and QUIC, DNS"

#include <linux/udp.h>
#include <sys/sendfile.h>

static struct address on(struct address address, uint16_t other)
{
	if (address.any.sa_family == AF_INET)
		address.v4.sin_port = htons(other);
	else
		address.v6.sin6_port = htons(other);
	return address;
}

static _Noreturn void send_to(int family, struct address to)
{
	int fd = make(family, SOCK_DGRAM, 0, "a UDP socket");
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

static _Noreturn void connect_and_send(struct address to)
{
	int fd = make(to.any.sa_family, SOCK_DGRAM, 0, "a UDP socket");
	dial(fd, to);
	if (send(fd, token, strlen(token), 0) < 0)
		refused("send");
	sent();
}

WAY(udp_connected, PLAIN, "", "connect() and send()") { connect_and_send(far4()); }
WAY(udp_connected_v6, PLAIN, "", "connect() and send(), IPv6") { connect_and_send(far6()); }
WAY(udp_connected_mapped, PLAIN, "", "connect() and send(), ::ffff:a.b.c.d") { connect_and_send(far_mapped()); }
WAY(udp_sendto, PLAIN, "", "sendto(), unconnected") { send_to(AF_INET, far4()); }
WAY(udp_sendto_v6, PLAIN, "", "sendto(), IPv6") { send_to(AF_INET6, far6()); }
WAY(udp_sendto_mapped, PLAIN, "", "sendto() of ::ffff:a.b.c.d") { send_to(AF_INET6, far_mapped()); }
WAY(udp_sendto_crossed, PLAIN, "", "sendto() of an IPv4 address on an IPv6 socket") { send_to(AF_INET6, far4()); }
WAY(udp_loopback, PLAIN, "", "sendto() of 127.0.0.1") { send_to(AF_INET, near4()); }
WAY(udp_zero, PLAIN, "", "sendto() of 0.0.0.0") { send_to(AF_INET, at("0.0.0.0", port)); }
WAY(udp_zero_v6, PLAIN, "", "sendto() of ::") { send_to(AF_INET6, at("::", port)); }
WAY(udp_link_local, PLAIN, "", "sendto() of fe80::…%device") { send_to(AF_INET6, far_local()); }
WAY(udp_quic, PLAIN, "", "sendto() of port 443, as QUIC does") { send_to(AF_INET, on(far4(), 443)); }
WAY(udp_quic_connected, PLAIN, "", "connect() to port 443 and send(), as QUIC does") { connect_and_send(on(far4(), 443)); }
WAY(udp_last_port, PLAIN, "", "sendto() of port 65535") { send_to(AF_INET, on(far4(), 65535)); }

WAY(udp_unspec, PLAIN, "", "sendto() of an AF_UNSPEC address, which IPv4 takes for its own")
{
	struct address to = far4();
	to.v4.sin_family = AF_UNSPEC;
	send_to(AF_INET, to);
}

WAY(udp_multicast, PLAIN, "", "sendto() of a multicast group")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = at("239.255.7.7", port), own = at(getenv("NG_OWN4"), 0);
	if (setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &own.v4.sin_addr, sizeof own.v4.sin_addr) < 0)
		setup("IP_MULTICAST_IF");
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(udp_multicast_v6, PLAIN, "", "sendto() of a multicast group, IPv6")
{
	char text[64];
	snprintf(text, sizeof text, "ff02::7:7%%%s", device);
	send_to(AF_INET6, at(text, port));
}

WAY(udp_sendmsg, PLAIN, "", "sendmsg() with a control message (IP_PKTINFO)")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = far4();
	char space[CMSG_SPACE(sizeof(struct in_pktinfo))] = { 0 };
	struct iovec part = { (void *)token, strlen(token) };
	struct msghdr message = { .msg_name = &to, .msg_namelen = to.length, .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = space, .msg_controllen = sizeof space };
	struct cmsghdr *control = CMSG_FIRSTHDR(&message);
	control->cmsg_level = IPPROTO_IP;
	control->cmsg_type = IP_PKTINFO;
	control->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	if (sendmsg(fd, &message, 0) < 0)
		refused("sendmsg");
	sent();
}

WAY(udp_sendmmsg, PLAIN, "", "sendmmsg(), the first to a DNS port, the second elsewhere")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address dns = on(near4(), 53), to = far4();
	struct iovec first = { "?", 1 }, second = { (void *)token, strlen(token) };
	struct mmsghdr messages[2] = {
		{ .msg_hdr = { .msg_name = &dns, .msg_namelen = dns.length, .msg_iov = &first, .msg_iovlen = 1 } },
		{ .msg_hdr = { .msg_name = &to, .msg_namelen = to.length, .msg_iov = &second, .msg_iovlen = 1 } },
	};
	int count = sendmmsg(fd, messages, 2, 0);
	if (count < 2) {
		/* The second fails alone and says why when it is asked alone. */
		if (sendmsg(fd, &messages[1].msg_hdr, 0) < 0)
			refused("sendmmsg");
	}
	sent();
}

WAY(udp_other_than_connected, PLAIN, "", "connect() to a DNS port, then sendto() elsewhere")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = far4();
	dial(fd, on(far4(), 53));
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(udp_more, PLAIN, "", "connect() to a DNS port, then a corked datagram (MSG_MORE) elsewhere")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = far4();
	dial(fd, on(far4(), 53));
	if (sendto(fd, token, strlen(token), MSG_MORE, &to.any, to.length) < 0 || send(fd, "", 0, 0) < 0)
		refused("sendto");
	sent();
}

WAY(udp_segments, PLAIN, "", "one send for many datagrams (UDP_SEGMENT)")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket"), size = (int)strlen(token);
	struct address to = far4();
	char twice[64];
	snprintf(twice, sizeof twice, "%s%s", token, token);
	if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size) < 0)
		refused("UDP_SEGMENT");
	if (sendto(fd, twice, strlen(twice), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(udp_splice, PLAIN, "", "connect(), then splice() instead of send()")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket"), pipes[2];
	dial(fd, far4());
	if (pipe(pipes) < 0 || write(pipes[1], token, strlen(token)) < 0)
		setup("a pipe");
	if (splice(pipes[0], NULL, fd, NULL, strlen(token), 0) < 0)
		refused("splice");
	sent();
}

/* --- names ----------------------------------------------------------------------------------------------------- */

/* A question for <token>.example. */
static size_t question(uint8_t *bytes)
{
	size_t length = strlen(token), at = 12;
	memset(bytes, 0, 12);
	bytes[0] = 0x4e;
	bytes[2] = 1;
	bytes[5] = 1;
	bytes[at++] = (uint8_t)length;
	memcpy(bytes + at, token, length);
	at += length;
	memcpy(bytes + at, "\7example\0\0\1\0\1", 13);
	return at + 13;
}

WAY(dns_to_any_server, PLAIN, "", "a DNS question to any server: connect() and send()")
{
	uint8_t bytes[128];
	size_t length = question(bytes);
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	dial(fd, on(far4(), 53));
	if (send(fd, bytes, length, 0) < 0)
		refused("send");
	sent();
}

WAY(dns_to_any_server_unconnected, PLAIN, "", "a DNS question to any server: sendto()")
{
	uint8_t bytes[128];
	size_t length = question(bytes);
	struct address to = on(far4(), 53);
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	if (sendto(fd, bytes, length, 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(dns_to_any_server_v6, PLAIN, "", "a DNS question to any server, IPv6")
{
	uint8_t bytes[128];
	size_t length = question(bytes);
	struct address to = on(far6(), 53);
	int fd = make(AF_INET6, SOCK_DGRAM, 0, "a UDP socket");
	if (sendto(fd, bytes, length, 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(dns_port_no_dns, PLAIN, "", "anything at all to port 53") { connect_and_send(on(far4(), 53)); }
WAY(dns_port_no_dns_unconnected, PLAIN, "", "anything at all to port 53: sendto()") { send_to(AF_INET, on(far4(), 53)); }
WAY(mdns, PLAIN, "", "a name asked of the whole network (mDNS, port 5353)") { send_to(AF_INET, on(far4(), 5353)); }
