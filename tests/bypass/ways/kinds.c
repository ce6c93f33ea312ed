/* Sockets that are neither TCP nor UDP. */
#include "way.h"
#define ROW "MPTCP, SCTP, UDP-Lite, DCCP, SMC, vsock, exotic families"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <linux/tipc.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define PROTOCOL_MPTCP 262
#define PROTOCOL_DCCP 33
#define PROTOCOL_UDPLITE 136
#define PROTOCOL_L2TP 115
#define SCTP_CONNECTX 110 /* SCTP_SOCKOPT_CONNECTX, linux/sctp.h */

WAY(mptcp, OPTIONAL, "", "MPTCP: connect()")
{
	int fd = make(AF_INET, SOCK_STREAM, PROTOCOL_MPTCP, "an MPTCP socket");
	dial(fd, far4());
	deliver(fd);
}

WAY(mptcp_v6, OPTIONAL, "", "MPTCP: connect(), IPv6")
{
	int fd = make(AF_INET6, SOCK_STREAM, PROTOCOL_MPTCP, "an MPTCP socket");
	dial(fd, far6());
	deliver(fd);
}

WAY(mptcp_fastopen, OPTIONAL, "", "MPTCP: sendto(MSG_FASTOPEN)")
{
	int fd = make(AF_INET, SOCK_STREAM, PROTOCOL_MPTCP, "an MPTCP socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, to.length) < 0) {
		if (errno == EOPNOTSUPP || errno == EINVAL || errno == EPIPE || errno == ENOTCONN)
			absent("MSG_FASTOPEN on MPTCP");
		refused("sendto");
	}
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

WAY(sctp_connect, OPTIONAL, "", "SCTP: connect()")
{
	int fd = make(AF_INET, SOCK_STREAM, IPPROTO_SCTP, "an SCTP socket");
	dial(fd, far4());
	deliver(fd);
}

WAY(sctp_connectx, OPTIONAL, "", "SCTP: sctp_connectx()")
{
	int fd = make(AF_INET, SOCK_STREAM, IPPROTO_SCTP, "an SCTP socket");
	struct address to = far4();
	if (setsockopt(fd, IPPROTO_SCTP, SCTP_CONNECTX, &to.v4, to.length) < 0)
		refused("sctp_connectx");
	deliver(fd);
}

WAY(sctp_implicit, OPTIONAL, "", "SCTP: sendto() that connects by itself")
{
	int fd = make(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP, "an SCTP socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(sctp_v6, OPTIONAL, "", "SCTP: connect(), IPv6")
{
	int fd = make(AF_INET6, SOCK_STREAM, IPPROTO_SCTP, "an SCTP socket");
	dial(fd, far6());
	deliver(fd);
}

WAY(udplite, OPTIONAL, "", "UDP-Lite: sendto()")
{
	int fd = make(AF_INET, SOCK_DGRAM, PROTOCOL_UDPLITE, "a UDP-Lite socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(udplite_v6, OPTIONAL, "", "UDP-Lite: connect() and send(), IPv6")
{
	int fd = make(AF_INET6, SOCK_DGRAM, PROTOCOL_UDPLITE, "a UDP-Lite socket");
	dial(fd, far6());
	if (send(fd, token, strlen(token), 0) < 0)
		refused("send");
	sent();
}

WAY(dccp, OPTIONAL, "", "DCCP: connect()")
{
	int fd = make(AF_INET, SOCK_DCCP, PROTOCOL_DCCP, "a DCCP socket");
	uint32_t service = htonl(42);
	setsockopt(fd, 269 /* SOL_DCCP */, 2 /* DCCP_SOCKOPT_SERVICE */, &service, sizeof service);
	dial(fd, far4());
	deliver(fd);
}

WAY(l2tp, OPTIONAL, "", "L2TP over IP: sendto()")
{
	/* struct sockaddr_l2tpip: the connection id takes the place of the padding. */
	struct { uint16_t family, unused; uint32_t address, connection; uint8_t padding[4]; } to = { .family = AF_INET };
	int fd = make(AF_INET, SOCK_DGRAM, PROTOCOL_L2TP, "an L2TP socket");
	to.address = far4().v4.sin_addr.s_addr;
	to.connection = 7;
	if (sendto(fd, token, strlen(token), 0, (void *)&to, sizeof to) < 0)
		refused("sendto");
	sent();
}

WAY(smc, OPTIONAL, "", "SMC: connect()")
{
	int fd = make(AF_SMC, SOCK_STREAM, 0, "an SMC socket");
	dial(fd, far4());
	deliver(fd);
}

WAY(smc_v6, OPTIONAL, "", "SMC: connect(), IPv6")
{
	int fd = make(AF_SMC, SOCK_STREAM, 1, "an SMC socket");
	dial(fd, far6());
	deliver(fd);
}

WAY(vsock, OPTIONAL, "", "vsock: connect() to this machine")
{
	int fd = make(AF_VSOCK, SOCK_STREAM, 0, "a vsock socket");
	/* Without its loopback, this would be a question to the hypervisor. */
	if (access("/sys/module/vsock_loopback", F_OK) < 0) {
		errno = ENODEV;
		absent("vsock's loopback");
	}
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = port };
	if (connect(fd, (void *)&to, sizeof to) < 0)
		refused("connect");
	deliver(fd);
}

WAY(vsock_made, OPTIONAL, "", "vsock: a socket that could talk to the hypervisor")
{
	int fd = make(AF_VSOCK, SOCK_STREAM, 0, "a vsock socket");
	close(fd);
	made("a vsock socket");
}

WAY(tipc, OPTIONAL, "", "TIPC: sendto() of a service of this node")
{
	int fd = make(AF_TIPC, SOCK_RDM, 0, "a TIPC socket");
	struct sockaddr_tipc to = { .family = AF_TIPC, .addrtype = TIPC_ADDR_NAME,
				    .addr.name.name = { 18888, port } };
	if (sendto(fd, token, strlen(token), 0, (void *)&to, sizeof to) < 0)
		refused("sendto");
	sent();
}

static const struct { int number; const char *name; } families[] = {
	{ 3, "AX25" }, { 4, "IPX" }, { 5, "APPLETALK" }, { 6, "NETROM" }, { 8, "ATMPVC" }, { 9, "X25" },
	{ 11, "ROSE" }, { 12, "DECnet" }, { 15, "KEY" }, { 19, "ECONET" }, { 20, "ATMSVC" }, { 21, "RDS" },
	{ 22, "SNA" }, { 23, "IRDA" }, { 24, "PPPOX" }, { 25, "WANPIPE" }, { 26, "LLC" }, { 27, "IB" }, { 28, "MPLS" },
	{ 29, "CAN" }, { 31, "BLUETOOTH" }, { 32, "IUCV" }, { 33, "RXRPC" }, { 34, "ISDN" },
	{ 35, "PHONET" }, { 36, "IEEE802154" }, { 37, "CAIF" }, { 39, "NFC" }, { 41, "KCM" }, { 42, "QIPCRTR" },
	{ 45, "MCTP" },
};

/* Families that have no way of their own here: whatever socket can be made counts. Unix, netlink and ALG are left
 * out: every program needs the first two, and the third talks to nobody. */
WAY(other_families, OPTIONAL, "", "a socket of any other family (AX25 to MCTP, 31 of them)")
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM };
	char found[300] = "";
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		for (size_t j = 0; j < sizeof types / sizeof *types; j++) {
			/* PF_KEY wants its version as the protocol. */
			int fd = socket(families[i].number, types[j], families[i].number == 15 ? 2 : 0);
			if (fd < 0)
				continue;
			close(fd);
			snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", *found ? ", " : "",
				 families[i].name);
			break;
		}
	if (*found)
		made(found);
	errno = EAFNOSUPPORT;
	absent("any of them");
}

#undef ROW
#define ROW "raw IP, ping and packet sockets"

WAY(raw, PLAIN, "CAP_NET_RAW", "raw IPv4, a protocol of its own")
{
	int fd = make(AF_INET, SOCK_RAW, 253, "a raw socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(raw_header, PLAIN, "CAP_NET_RAW", "raw IPv4 with its own header (IPPROTO_RAW)")
{
	uint8_t packet[100];
	size_t length = datagram_packet(packet, getenv("NG_OWN4"));
	int fd = make(AF_INET, SOCK_RAW, IPPROTO_RAW, "a raw socket");
	struct address to = far4();
	if (sendto(fd, packet, length, 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(raw_tcp, PLAIN, "CAP_NET_RAW", "raw IPv4 that says that it is TCP")
{
	int fd = make(AF_INET, SOCK_RAW, IPPROTO_TCP, "a raw socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(raw_v6, PLAIN, "CAP_NET_RAW", "raw IPv6")
{
	int fd = make(AF_INET6, SOCK_RAW, 253, "a raw socket");
	struct address to = far6();
	to.v6.sin6_port = 0;
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(raw_icmp, PLAIN, "CAP_NET_RAW", "raw ICMP")
{
	struct { struct icmphdr header; char data[16]; } echo = { .header.type = ICMP_ECHO };
	int fd = make(AF_INET, SOCK_RAW, IPPROTO_ICMP, "a raw socket");
	struct address to = far4();
	memcpy(echo.data, token, strlen(token));
	echo.header.checksum = checksum(&echo, sizeof echo);
	if (sendto(fd, &echo, sizeof echo, 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

/* The suite lets every group have ping sockets, in the namespaces of its own. */
WAY(ping, PRIVATE, "", "a ping socket, the data of an echo request")
{
	struct { struct icmphdr header; char data[16]; } echo = { .header.type = ICMP_ECHO };
	int fd = make(AF_INET, SOCK_DGRAM, IPPROTO_ICMP, "a ping socket");
	struct address to = far4();
	memcpy(echo.data, token, strlen(token));
	if (sendto(fd, &echo, sizeof echo, 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(ping_v6, PRIVATE, "", "a ping socket, IPv6, connected")
{
	struct { struct icmp6_hdr header; char data[16]; } echo = { .header.icmp6_type = ICMP6_ECHO_REQUEST };
	int fd = make(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, "a ping socket");
	dial(fd, far6());
	memcpy(echo.data, token, strlen(token));
	if (send(fd, &echo, sizeof echo, 0) < 0)
		refused("send");
	sent();
}

/* A whole frame for the far target; the hardware address need not be right for a sniffer, but broadcast is. */
static size_t frame(uint8_t *bytes)
{
	memset(bytes, 0xff, 6);
	memset(bytes + 6, 2, 6);
	bytes[12] = ETH_P_IP >> 8;
	bytes[13] = ETH_P_IP & 255;
	return 14 + datagram_packet(bytes + 14, getenv("NG_OWN4"));
}

WAY(packet_raw, PLAIN, "CAP_NET_RAW", "a packet socket, whole frames")
{
	uint8_t bytes[100];
	size_t length = frame(bytes);
	int fd = make(AF_PACKET, SOCK_RAW, 0, "a packet socket");
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device) };
	if (sendto(fd, bytes, length, 0, (void *)&to, sizeof to) < 0)
		refused("sendto");
	sent();
}

WAY(packet_datagram, PLAIN, "CAP_NET_RAW", "a packet socket, frames without their heads")
{
	uint8_t bytes[100];
	size_t length = datagram_packet(bytes, getenv("NG_OWN4"));
	int fd = make(AF_PACKET, SOCK_DGRAM, 0, "a packet socket");
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6,
				  .sll_ifindex = (int)if_nametoindex(device) };
	memset(to.sll_addr, 0xff, 6);
	if (sendto(fd, bytes, length, 0, (void *)&to, sizeof to) < 0)
		refused("sendto");
	sent();
}

WAY(packet_before, OUTSIDE, "", "a packet socket that was made before capture")
{
	uint8_t bytes[100];
	size_t length = frame(bytes);
	int fd = make(AF_PACKET, SOCK_RAW, 0, "a packet socket");
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(device) };
	enter();
	settle();
	if (sendto(fd, bytes, length, 0, (void *)&to, sizeof to) < 0)
		refused("sendto");
	sent();
}

WAY(xdp, OPTIONAL, "CAP_NET_RAW", "an AF_XDP socket, frames from shared memory")
{
	enum { FRAMES = 16, FRAME = 2048 };
	int fd = make(AF_XDP, SOCK_RAW, 0, "an AF_XDP socket"), entries = FRAMES;
	uint8_t *memory = mmap(NULL, FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct xdp_umem_reg umem = { .addr = (uintptr_t)memory, .len = FRAMES * FRAME, .chunk_size = FRAME };
	struct xdp_mmap_offsets offsets;
	if (memory == MAP_FAILED)
		setup("memory");
	if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) < 0)
		refused("XDP_UMEM_REG");
	if (setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof entries) < 0 ||
	    setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries, sizeof entries) < 0 ||
	    setsockopt(fd, SOL_XDP, XDP_TX_RING, &entries, sizeof entries) < 0 ||
	    getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &(socklen_t){ sizeof offsets }) < 0)
		refused("its rings");
	uint8_t *ring = mmap(NULL, offsets.tx.desc + FRAMES * sizeof(struct xdp_desc), PROT_READ | PROT_WRITE,
			     MAP_SHARED, fd, XDP_PGOFF_TX_RING);
	struct sockaddr_xdp to = { .sxdp_family = AF_XDP, .sxdp_ifindex = if_nametoindex(device),
				   .sxdp_flags = XDP_COPY };
	if (ring == MAP_FAILED)
		setup("mapping a ring");
	if (bind(fd, (void *)&to, sizeof to) < 0)
		refused("bind");
	struct xdp_desc *slot = (void *)(ring + offsets.tx.desc);
	*slot = (struct xdp_desc){ .addr = 0, .len = (uint32_t)frame(memory) };
	__atomic_store_n((uint32_t *)(ring + offsets.tx.producer), 1, __ATOMIC_SEQ_CST);
	if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY)
		refused("sendto");
	usleep(20000);
	sent();
}
