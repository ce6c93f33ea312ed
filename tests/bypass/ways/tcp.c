/* Every spelling of a TCP destination. */
#include "way.h"
#define ROW "TCP: any port, family, spelling"

static struct address spelled(const char *text) { return at(text, port); }

WAY(tcp_v4, PLAIN, "", "connect() to another host, IPv4") { stream_to(far4()); }
WAY(tcp_v6, PLAIN, "", "connect() to another host, IPv6") { stream_to(far6()); }
WAY(tcp_mapped, PLAIN, "", "connect() to ::ffff:a.b.c.d") { stream_to(far_mapped()); }
WAY(tcp_link_local, PLAIN, "", "connect() to fe80::…%device") { stream_to(far_local()); }
WAY(tcp_loopback, PLAIN, "", "connect() to 127.0.0.1") { stream_to(near4()); }
WAY(tcp_loopback_other, PLAIN, "", "connect() to 127.9.9.9") { stream_to(spelled("127.9.9.9")); }
WAY(tcp_loopback_v6, PLAIN, "", "connect() to ::1") { stream_to(near6()); }
WAY(tcp_loopback_mapped, PLAIN, "", "connect() to ::ffff:127.0.0.1") { stream_to(spelled("::ffff:127.0.0.1")); }
WAY(tcp_zero, PLAIN, "", "connect() to 0.0.0.0") { stream_to(spelled("0.0.0.0")); }
WAY(tcp_zero_v6, PLAIN, "", "connect() to ::") { stream_to(spelled("::")); }
WAY(tcp_zero_mapped, PLAIN, "", "connect() to ::ffff:0.0.0.0") { stream_to(spelled("::ffff:0.0.0.0")); }

static _Noreturn void to_port(uint16_t other)
{
	struct address to = far4();
	to.v4.sin_port = htons(other);
	stream_to(to);
}

WAY(tcp_port_1, PLAIN, "", "connect() to port 1") { to_port(1); }
WAY(tcp_port_22, PLAIN, "", "connect() to port 22 (ssh)") { to_port(22); }
WAY(tcp_port_53, PLAIN, "", "connect() to port 53 (DNS over TCP to any server)") { to_port(53); }
WAY(tcp_port_80, PLAIN, "", "connect() to port 80 (HTTP)") { to_port(80); }
WAY(tcp_port_443, PLAIN, "", "connect() to port 443 (HTTPS, DoH)") { to_port(443); }
WAY(tcp_port_853, PLAIN, "", "connect() to port 853 (DoT)") { to_port(853); }
WAY(tcp_port_last, PLAIN, "", "connect() to port 65535") { to_port(65535); }
