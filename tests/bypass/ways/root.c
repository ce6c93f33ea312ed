/* What a privileged process can do to its own network and to the kernel side. Against root on the host nothing is
 * promised: each of these names the privilege that it takes, and is tried again without it. */
#include "way.h"
#define ROW "CAP_NET_ADMIN, netfilter, routing, bpf, bpffs, xattr"

#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <dirent.h>

WAY(nft_flush, PRIVATE, "", "netfilter rules flushed, then connect()")
{
	if (!run("nft flush ruleset")) {
		errno = EPERM;
		refused("nft");
	}
	stream_to(far4());
}

/* Connects and lets the netfilter rules of our own change where that goes. `port` is what we ask for; the daemon's
 * listener is whatever the kernel made of it, so the rule takes every loopback connection. */
WAY(nft_redirect, PRIVATE, "CAP_NET_ADMIN", "a DNAT rule that sends the daemon's connections to the target")
{
	const char *far = getenv("NG_FAR4");
	bool ruled = run("sysctl -qw net.ipv4.conf.all.route_localnet=1") &&
		     run("nft add table ip ways && nft 'add chain ip ways out { type nat hook output priority -100; }' && "
			 "nft 'add chain ip ways after { type nat hook postrouting priority 100; }' && "
			 "nft 'add rule ip ways out ip daddr 127.0.0.1 tcp dport != 0 dnat to %s:%u' && "
			 "nft 'add rule ip ways after ip daddr %s masquerade'", far, port, far);
	if (!ruled) {
		errno = EPERM;
		refused("nft");
	}
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address to = near4();
	to.v4.sin_port = htons(7); /* nobody listens there: only the rule can make it arrive */
	pid_t child = spawn();
	if (child == 0)
		try_as_child(fd, to);
	int error = child_error(child);
	run("nft delete table ip ways");
	as_child(error);
}

WAY(policy_routing, PRIVATE | FIRST, "CAP_NET_ADMIN", "routing rules that send loopback addresses to the device")
{
	bool ruled = run("sysctl -qw net.ipv4.conf.all.route_localnet=1") &&
		     run("ip route add 127.0.0.0/8 via %s dev %s table 77 && "
			 "ip rule add to 127.0.0.0/8 lookup 77 priority 10 && "
			 "ip rule add lookup local priority 20 && ip rule del priority 0", getenv("NG_FAR4"), device);
	if (!ruled) {
		errno = EPERM;
		refused("ip rule");
	}
	int fd = make(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, "a TCP socket");
	struct address to = near4();
	connect(fd, &to.any, to.length); /* the first packet is enough */
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, 300);
	run("ip rule add lookup local priority 0; ip rule del priority 20; ip rule del priority 10; "
	    "ip route flush table 77");
	sent();
}

/* With the loopback device's own addresses gone, one of the same network on another device decides where loopback
 * addresses lead; a neighbour that is everybody needs no answer. */
static void through_the_device(void)
{
	bool led = run("sysctl -qw net.ipv4.conf.all.route_localnet=1 && ip addr add 127.5.5.5/8 dev %s && "
		       "ip neigh replace 127.0.0.1 lladdr ff:ff:ff:ff:ff:ff dev %s", device, device);
	int error = errno;
	if (led) {
		int fd = make(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, "a TCP socket");
		struct address to = near4();
		connect(fd, &to.any, to.length);
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		poll(&wait, 1, 300);
	}
	run("ip neigh del 127.0.0.1 dev %s; ip addr del 127.5.5.5/8 dev %s; ip addr replace 127.0.0.1/8 dev lo; "
	    "ip addr del 198.18.253.1/24 dev lo", device, device);
	errno = error;
	if (!led)
		setup("a way to loopback addresses");
	sent();
}

WAY(loopback_emptied, PRIVATE | FIRST, "CAP_NET_ADMIN", "the loopback device's address deleted, its network put on another device")
{
	if (!run("ip addr del 127.0.0.1/8 dev lo")) {
		errno = EPERM;
		refused("ip addr");
	}
	through_the_device();
}

WAY(loopback_renumbered, PRIVATE | FIRST, "CAP_NET_ADMIN", "SIOCSIFADDR: another address for the loopback device, its network put on another")
{
	struct ifreq request = { .ifr_name = "lo" };
	struct address own = at("198.18.253.1", 0);
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	memcpy(&request.ifr_addr, &own.v4, sizeof own.v4);
	if (ioctl(fd, SIOCSIFADDR, &request) < 0)
		refused("SIOCSIFADDR");
	through_the_device();
}

WAY(traffic_control, PRIVATE | FIRST | OPTIONAL, "CAP_NET_ADMIN", "tc: what leaves on loopback is sent to the device instead")
{
	if (!run("tc qdisc add dev lo clsact && tc filter add dev lo egress protocol ip u32 match u32 0 0 "
		 "action mirred egress redirect dev %s", device)) {
		bool may = run("ip link set lo up");
		run("tc qdisc del dev lo clsact");
		errno = may ? EOPNOTSUPP : EPERM;
		if (may)
			absent("tc with u32 and mirred");
		refused("tc");
	}
	int fd = make(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, "a TCP socket");
	struct address to = near4();
	connect(fd, &to.any, to.length);
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, 300);
	run("tc qdisc del dev lo clsact");
	sent();
}

WAY(tunnel, PRIVATE, "CAP_NET_ADMIN", "a tun device: packets of our own making, forwarded by the kernel")
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	uint8_t packet[100];
	strcpy(request.ifr_name, "ways0");
	int fd = open("/dev/net/tun", O_RDWR);
	if (fd < 0)
		absent("/dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		refused("TUNSETIFF");
	if (!run("ip link set ways0 up && ip addr add 198.18.254.1/30 dev ways0 && "
		 "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ways0.rp_filter=0"))
		setup("the tun device");
	size_t length = datagram_packet(packet, "198.18.254.2");
	if (write(fd, packet, length) < 0)
		refused("write");
	usleep(50000);
	sent();
}

/* --- the kernel side itself ------------------------------------------------------------------------------------ */

static long bpf(int command, union bpf_attr *attributes, size_t size)
{
	return syscall(SYS_bpf, command, attributes, size);
}

/* The tail of bpf_attr differs between kernels; what is used here is at its beginning. */
#define ATTRIBUTES(...) (&(union bpf_attr){ __VA_ARGS__ }), sizeof(union bpf_attr)

/* The id of the cgroup under test, by which links name it. */
static uint64_t own_cgroup(void)
{
	struct stat facts;
	const char *own = getenv("NG_CGROUP");
	return own && *own && stat(own, &facts) == 0 ? facts.st_ino : 0;
}

WAY(links_detached, MEDDLES, "CAP_SYS_ADMIN", "bpf(): every link of the own cgroup detached by its id")
{
	uint64_t cgroup = own_cgroup();
	for (uint32_t id = 0; cgroup;) {
		union bpf_attr next = { .start_id = id };
		if (bpf(BPF_LINK_GET_NEXT_ID, &next, sizeof next) < 0) {
			if (errno != ENOENT)
				refused("BPF_LINK_GET_NEXT_ID");
			break;
		}
		id = next.next_id;
		int fd = (int)bpf(BPF_LINK_GET_FD_BY_ID, ATTRIBUTES(.link_id = id));
		if (fd < 0 && errno == EPERM)
			refused("BPF_LINK_GET_FD_BY_ID");
		if (fd < 0)
			continue;
		struct bpf_link_info info = { 0 };
		union bpf_attr ask = { .info = { .bpf_fd = (uint32_t)fd, .info_len = sizeof info,
						 .info = (uintptr_t)&info } };
		if (bpf(BPF_OBJ_GET_INFO_BY_FD, &ask, sizeof ask) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
		    info.cgroup.cgroup_id == cgroup)
			bpf(BPF_LINK_DETACH, ATTRIBUTES(.link_detach.link_fd = (uint32_t)fd));
		close(fd);
	}
	stream_to(far4());
}

WAY(pins_removed, MEDDLES, "root", "the pins of the own cgroup removed from bpffs")
{
	char path[400];
	snprintf(path, sizeof path, "%s/links/%llu", getenv("NG_PINS"), (unsigned long long)own_cgroup());
	DIR *pins = own_cgroup() ? opendir(path) : NULL;
	if (own_cgroup() && !pins)
		refused("opening the pins");
	bool any = pins;
	for (struct dirent *entry; pins && (entry = readdir(pins));) {
		char file[700];
		snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
		if (entry->d_name[0] != '.' && unlink(file) < 0)
			refused("unlink");
	}
	if (any)
		usleep(300000); /* the kernel lets go of them when it has time */
	stream_to(far4());
}

WAY(program_of_its_own, MEDDLES, "CAP_BPF", "a connect program of its own behind the daemon's, which sets the target again")
{
	const char *own = getenv("NG_CGROUP");
	struct address to = far4();
	if (own && *own) {
		struct bpf_insn program[] = {
			{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = (int)to.v4.sin_addr.s_addr },
			{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = 1, .src_reg = 2, .off = 4 /* user_ip4 */ },
			{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = to.v4.sin_port },
			{ .code = BPF_STX | BPF_MEM | BPF_W, .dst_reg = 1, .src_reg = 2, .off = 24 /* user_port */ },
			{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
			{ .code = BPF_JMP | BPF_EXIT },
		};
		int loaded = (int)bpf(BPF_PROG_LOAD, ATTRIBUTES(.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
			.expected_attach_type = BPF_CGROUP_INET4_CONNECT, .insns = (uintptr_t)program,
			.insn_cnt = 6, .license = (uintptr_t)"GPL"));
		int place = open(own, O_RDONLY | O_DIRECTORY);
		if (loaded < 0)
			refused("BPF_PROG_LOAD");
		if (bpf(BPF_PROG_ATTACH, ATTRIBUTES(.target_fd = (uint32_t)place, .attach_bpf_fd = (uint32_t)loaded,
			.attach_type = BPF_CGROUP_INET4_CONNECT, .attach_flags = BPF_F_ALLOW_MULTI)) < 0)
			refused("BPF_PROG_ATTACH");
		/* It goes again with us. */
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		int failed = connect(fd, &to.any, to.length), error = errno;
		bpf(BPF_PROG_DETACH, ATTRIBUTES(.target_fd = (uint32_t)place, .attach_bpf_fd = (uint32_t)loaded,
			.attach_type = BPF_CGROUP_INET4_CONNECT));
		errno = error;
		if (failed < 0)
			refused("connect");
		deliver(fd);
	}
	stream_to(to);
}

WAY(bpffs_unmounted, PLAIN, "CAP_SYS_ADMIN", "bpffs and cgroupfs unmounted in a mount namespace of its own")
{
	if (unshare(CLONE_NEWNS) < 0)
		refused("unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		setup("private mounts");
	umount2("/sys/fs/bpf", MNT_DETACH);
	umount2("/sys/fs/cgroup/unified", MNT_DETACH);
	umount2("/sys/fs/cgroup", MNT_DETACH);
	stream_to(far4());
}

WAY(label_removed, MEDDLES, "root", "the label taken off the own cgroup's directory")
{
	const char *own = getenv("NG_CGROUP");
	if (own && *own && removexattr(own, "user.nodegate.identity") < 0 && errno != ENODATA)
		refused("removexattr");
	usleep(300000); /* whoever follows labels has time to */
	stream_to(far4());
}

WAY(label_changed, MEDDLES, "root", "another label on the own cgroup's directory")
{
	const char *own = getenv("NG_CGROUP");
	if (own && *own && setxattr(own, "user.nodegate.identity", "innocent", 8, 0) < 0)
		refused("setxattr");
	usleep(300000);
	stream_to(far4());
}
