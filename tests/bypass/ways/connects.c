/* Every manner of connecting a TCP socket. */
#include "way.h"
#define ROW "TCP: Fast Open, io_uring, non-blocking, repeated, bound"

#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/syscall.h>

WAY(fastopen_sendto, PLAIN, "", "sendto(MSG_FASTOPEN), no connect()")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address to = far4();
	if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, to.length) < 0)
		refused("sendto");
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

WAY(fastopen_sendto_v6, PLAIN, "", "sendto(MSG_FASTOPEN), IPv6")
{
	int fd = make(AF_INET6, SOCK_STREAM, 0, "a TCP socket");
	struct address to = far6();
	if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, to.length) < 0)
		refused("sendto");
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

WAY(fastopen_sendmmsg, PLAIN, "", "sendmmsg(MSG_FASTOPEN)")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address to = far4();
	struct iovec part = { (void *)token, strlen(token) };
	struct mmsghdr messages = { .msg_hdr = { .msg_name = &to, .msg_namelen = to.length, .msg_iov = &part,
						 .msg_iovlen = 1 } };
	if (sendmmsg(fd, &messages, 1, MSG_FASTOPEN | MSG_NOSIGNAL) < 0)
		refused("sendmmsg");
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	poll(&wait, 1, PATIENCE_MS);
	sent();
}

WAY(fastopen_connect, PLAIN, "", "TCP_FASTOPEN_CONNECT, the SYN leaves with the first write")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket"), on = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on) < 0)
		refused("TCP_FASTOPEN_CONNECT");
	dial(fd, far4());
	deliver(fd);
}

WAY(fastopen_cookie, PLAIN, "", "Fast Open again, with the cookie of a first connection")
{
	struct address to = far4();
	for (int i = 0; i < 2; i++) {
		int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
		if (sendto(fd, token, strlen(token), MSG_FASTOPEN | MSG_NOSIGNAL, &to.any, to.length) < 0)
			refused("sendto");
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		poll(&wait, 1, PATIENCE_MS);
		close(fd);
	}
	sent();
}

WAY(nonblocking, PLAIN, "", "non-blocking connect(), then poll()")
{
	int fd = make(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, "a TCP socket");
	struct address to = far4();
	if (connect(fd, &to.any, to.length) < 0 && errno != EINPROGRESS)
		refused("connect");
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	poll(&wait, 1, PATIENCE_MS);
	int error = 0;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){ sizeof error });
	if (error) {
		errno = error;
		refused("SO_ERROR");
	}
	deliver(fd);
}

WAY(repeated, PLAIN, "", "connect() again on a socket whose first connect() failed")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address closed = far4(), to = far4();
	closed.v4.sin_port = htons(9); /* nobody listens there */
	connect(fd, &closed.any, closed.length);
	/* Captured, the first one is answered by the daemon: let go of it as a program would after an error. */
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	connect(fd, &none, sizeof none);
	dial(fd, to);
	deliver(fd);
}

WAY(repeated_at_once, PLAIN, "", "non-blocking connect() to one place, then at once to another")
{
	int fd = make(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, "a TCP socket");
	struct address closed = far4(), to = far4();
	closed.v4.sin_port = htons(9);
	connect(fd, &closed.any, closed.length);
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	for (int i = 0; i < 20; i++) {
		if (connect(fd, &to.any, to.length) == 0 || errno == EISCONN)
			deliver(fd);
		if (errno == EPERM || errno == EACCES)
			break;
		poll(&wait, 1, 50);
	}
	refused("connect");
}

WAY(unspec, PLAIN, "", "AF_UNSPEC lets a connected socket go, then connect() elsewhere")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	dial(fd, near4());
	if (connect(fd, &none, sizeof none) < 0)
		refused("AF_UNSPEC");
	dial(fd, far4());
	deliver(fd);
}

WAY(bound_port, PLAIN, "", "connect() from a port that was bound first")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket"), on = 1;
	struct address any = at("0.0.0.0", 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, &any.any, any.length) < 0)
		refused("bind");
	dial(fd, far4());
	deliver(fd);
}

WAY(bound_address, PLAIN, "", "connect() from an address that was bound first")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	struct address own = at(getenv("NG_OWN4"), 0);
	if (bind(fd, &own.any, own.length) < 0)
		refused("bind");
	dial(fd, far4());
	deliver(fd);
}

WAY(reuse_port, PLAIN, "", "two sockets on one port (SO_REUSEPORT), both connect()")
{
	struct address own = at("0.0.0.0", 0);
	int fds[2], on = 1;
	for (int i = 0; i < 2; i++) {
		fds[i] = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
		if (setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ||
		    setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
		    bind(fds[i], &own.any, own.length) < 0)
			refused("bind");
		own.length = sizeof own.v4;
		getsockname(fds[i], &own.any, &own.length);
	}
	dial(fds[0], far4());
	struct address near = near4();
	connect(fds[1], &near.any, near.length);
	deliver(fds[0]);
}

WAY(time_wait, PLAIN, "", "the very port of a connection that is in TIME_WAIT, for the next one")
{
	struct address own = at("0.0.0.0", 0);
	int on = 1;
	for (int i = 0; i < 2; i++) {
		int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		if (bind(fd, &own.any, own.length) < 0)
			refused("bind");
		own.length = sizeof own.v4;
		getsockname(fd, &own.any, &own.length);
		struct address to = far4();
		/* The kernel gives an end of its own away again after a second. */
		for (int tries = 0; connect(fd, &to.any, to.length) < 0; tries++) {
			if (errno != EADDRNOTAVAIL || tries == 30)
				refused("connect");
			usleep(100000);
		}
		if (i == 1)
			deliver(fd);
		/* Whoever closes first keeps the end in TIME_WAIT. */
		shutdown(fd, SHUT_WR);
		struct pollfd wait = { .fd = fd, .events = POLLIN };
		poll(&wait, 1, PATIENCE_MS);
		close(fd);
	}
}

WAY(repair, PLAIN, "CAP_NET_ADMIN", "TCP_REPAIR: a connection that is established without a SYN")
{
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket"), on = TCP_REPAIR_ON;
	int off = TCP_REPAIR_OFF_NO_WP; /* a probe would be answered with a reset, before we can send */
	struct address own = at(getenv("NG_OWN4"), 0);
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0)
		refused("TCP_REPAIR");
	if (bind(fd, &own.any, own.length) < 0)
		refused("bind");
	dial(fd, far4());
	struct tcp_repair_window window = { .snd_wnd = 65535, .max_window = 65535, .rcv_wnd = 65535 };
	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &window, sizeof window);
	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof off);
	deliver(fd);
}

/* --- io_uring, by its system calls ----------------------------------------------------------------------------- */

struct ring {
	int fd;
	struct io_uring_params shape;
	uint8_t *queue;
	struct io_uring_sqe *entries;
};

static struct ring ring_with(unsigned flags)
{
	struct ring ring = { .shape = { .flags = flags, .sq_thread_idle = 2000 } };
	ring.fd = (int)syscall(SYS_io_uring_setup, 4, &ring.shape);
	if (ring.fd < 0 && (errno == ENOSYS || errno == EPERM))
		absent("io_uring_setup");
	if (ring.fd < 0)
		setup("io_uring_setup");
	size_t queue = ring.shape.sq_off.array + ring.shape.sq_entries * sizeof(uint32_t);
	size_t done = ring.shape.cq_off.cqes + ring.shape.cq_entries * sizeof(struct io_uring_cqe);
	/* Kernels from 5.4 on map both queues at once. */
	ring.queue = mmap(NULL, queue > done ? queue : done, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd,
			  IORING_OFF_SQ_RING);
	ring.entries = mmap(NULL, ring.shape.sq_entries * sizeof *ring.entries, PROT_READ | PROT_WRITE, MAP_SHARED,
			    ring.fd, IORING_OFF_SQES);
	if (ring.queue == MAP_FAILED || ring.entries == MAP_FAILED)
		setup("mapping the ring");
	return ring;
}

/* Submits one entry and waits for its result, in errno's terms. */
static int submitted(struct ring *ring, struct io_uring_sqe entry)
{
	uint32_t *tail = (void *)(ring->queue + ring->shape.sq_off.tail);
	uint32_t *order = (void *)(ring->queue + ring->shape.sq_off.array);
	uint32_t *head = (void *)(ring->queue + ring->shape.cq_off.head);
	uint32_t *ready = (void *)(ring->queue + ring->shape.cq_off.tail);
	uint32_t *state = (void *)(ring->queue + ring->shape.sq_off.flags);
	unsigned flags = IORING_ENTER_GETEVENTS;
	uint32_t slot = *tail & (ring->shape.sq_entries - 1);
	ring->entries[slot] = entry;
	order[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_SEQ_CST);
	if (ring->shape.flags & IORING_SETUP_SQPOLL &&
	    __atomic_load_n(state, __ATOMIC_SEQ_CST) & IORING_SQ_NEED_WAKEUP)
		flags |= IORING_ENTER_SQ_WAKEUP;
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, flags, NULL, 0) < 0)
		setup("io_uring_enter");
	while (__atomic_load_n(ready, __ATOMIC_SEQ_CST) == *head)
		usleep(1000);
	struct io_uring_cqe *done = (void *)(ring->queue + ring->shape.cq_off.cqes);
	int result = done[*head & (ring->shape.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_SEQ_CST);
	if (result < 0) {
		errno = -result;
		return -1;
	}
	return result;
}

static int ring_connect(struct ring *ring, int fd, struct address *to)
{
	return submitted(ring, (struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .fd = fd,
						      .addr = (uintptr_t)to, .off = to->length });
}

static int ring_sendmsg(struct ring *ring, int fd, struct address *to, unsigned flags)
{
	struct iovec part = { (void *)token, strlen(token) };
	struct msghdr message = { .msg_name = to, .msg_namelen = to->length, .msg_iov = &part, .msg_iovlen = 1 };
	return submitted(ring, (struct io_uring_sqe){ .opcode = IORING_OP_SENDMSG, .fd = fd,
						      .addr = (uintptr_t)&message, .len = 1, .msg_flags = flags });
}

WAY(uring_connect, PLAIN, "", "io_uring: IORING_OP_CONNECT")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (ring_connect(&ring, fd, &to) < 0)
		refused("IORING_OP_CONNECT");
	deliver(fd);
}

WAY(uring_async, PLAIN, "", "io_uring: connect in one of its worker threads (IOSQE_ASYNC)")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (submitted(&ring, (struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .flags = IOSQE_ASYNC, .fd = fd,
						    .addr = (uintptr_t)&to, .off = to.length }) < 0)
		refused("IORING_OP_CONNECT");
	deliver(fd);
}

WAY(uring_poller, PLAIN, "", "io_uring: connect by its kernel thread (SQPOLL)")
{
	struct ring ring = ring_with(IORING_SETUP_SQPOLL);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (ring_connect(&ring, fd, &to) < 0)
		refused("IORING_OP_CONNECT");
	deliver(fd);
}

WAY(uring_poller_before, OUTSIDE, "", "io_uring: a kernel thread (SQPOLL) that was started before capture")
{
	struct ring ring = ring_with(IORING_SETUP_SQPOLL);
	struct address to = far4();
	enter();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	if (ring_connect(&ring, fd, &to) < 0)
		refused("IORING_OP_CONNECT");
	deliver(fd);
}

WAY(uring_socket, OPTIONAL, "", "io_uring: socket (IORING_OP_SOCKET) and connect, no socket() at all")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = submitted(&ring, (struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET,
							 .off = SOCK_STREAM });
	if (fd < 0)
		absent("IORING_OP_SOCKET");
	if (ring_connect(&ring, fd, &to) < 0)
		refused("IORING_OP_CONNECT");
	deliver(fd);
}

WAY(uring_fastopen, PLAIN, "", "io_uring: sendmsg with MSG_FASTOPEN")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_STREAM, 0, "a TCP socket");
	/* The ring does not wait for the handshake: what did not fit into the SYN is sent again. */
	if (ring_sendmsg(&ring, fd, &to, MSG_FASTOPEN | MSG_NOSIGNAL) < 0 && errno != EINPROGRESS)
		refused("IORING_OP_SENDMSG");
	struct pollfd wait = { .fd = fd, .events = POLLOUT };
	poll(&wait, 1, PATIENCE_MS);
	deliver(fd);
}

#undef ROW
#define ROW "UDP and QUIC, DNS"

WAY(udp_uring, PLAIN, "", "io_uring: sendmsg on a UDP socket")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	if (ring_sendmsg(&ring, fd, &to, 0) < 0)
		refused("IORING_OP_SENDMSG");
	sent();
}

WAY(udp_uring_connect, PLAIN, "", "io_uring: connect on a UDP socket, then write")
{
	struct ring ring = ring_with(0);
	struct address to = far4();
	int fd = make(AF_INET, SOCK_DGRAM, 0, "a UDP socket");
	if (ring_connect(&ring, fd, &to) < 0)
		refused("IORING_OP_CONNECT");
	if (write(fd, token, strlen(token)) < 0)
		refused("write");
	sent();
}
