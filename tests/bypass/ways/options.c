/* Socket options that promise a way of their own. */
#include "way.h"
#define ROW "SO_MARK, SO_BINDTODEVICE, transparent and freely bound sockets"

#include <net/if.h>

static int with(int level, int option, const void *value, socklen_t length, const char *name)
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (setsockopt(fd, level, option, value, length) < 0)
		refused(name);
	return fd;
}

WAY(mark, PLAIN, "CAP_NET_ADMIN", "SO_MARK, as proxies mark what they exempt")
{
	uint32_t marks[] = { 1, 0x1337, 0x539, 0xffffffff };
	int fd = -1;
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		if (fd >= 0)
			close(fd);
		fd = with(SOL_SOCKET, SO_MARK, &marks[i], sizeof marks[i], "SO_MARK");
		dial(fd, far4());
		if (i + 1 < sizeof marks / sizeof *marks)
			send(fd, token, strlen(token), MSG_NOSIGNAL);
	}
	deliver(fd);
}

WAY(to_device, PLAIN, "", "SO_BINDTODEVICE")
{
	int fd = with(SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1, "SO_BINDTODEVICE");
	dial(fd, far4());
	deliver(fd);
}

WAY(to_device_v6, PLAIN, "", "SO_BINDTODEVICE, IPv6")
{
	int fd = make(AF_INET6, SOCK_STREAM, 0, "a TCP socket");
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1) < 0)
		refused("SO_BINDTODEVICE");
	dial(fd, far6());
	deliver(fd);
}

WAY(to_device_udp, PLAIN, "", "SO_BINDTODEVICE, UDP")
{
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	struct address to = far4();
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device) + 1) < 0)
		refused("SO_BINDTODEVICE");
	if (sendto(fd, token, strlen(token), 0, &to.any, to.length) < 0)
		refused("sendto");
	sent();
}

WAY(transparent, PLAIN, "CAP_NET_ADMIN", "IP_TRANSPARENT")
{
	int fd = with(IPPROTO_IP, IP_TRANSPARENT, &(int){ 1 }, sizeof(int), "IP_TRANSPARENT");
	dial(fd, far4());
	deliver(fd);
}

WAY(free_bind, PLAIN, "", "IP_FREEBIND")
{
	int fd = with(IPPROTO_IP, IP_FREEBIND, &(int){ 1 }, sizeof(int), "IP_FREEBIND");
	dial(fd, far4());
	deliver(fd);
}

WAY(unicast_interface, PLAIN, "", "IP_UNICAST_IF")
{
	uint32_t index = htonl(if_nametoindex(device));
	int fd = with(IPPROTO_IP, IP_UNICAST_IF, &index, sizeof index, "IP_UNICAST_IF");
	dial(fd, far4());
	deliver(fd);
}

WAY(no_route, PLAIN, "", "SO_DONTROUTE")
{
	int fd = with(SOL_SOCKET, SO_DONTROUTE, &(int){ 1 }, sizeof(int), "SO_DONTROUTE");
	dial(fd, far4());
	deliver(fd);
}
