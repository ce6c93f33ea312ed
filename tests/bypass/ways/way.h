/* What every way out has at hand. A way is one function that really tries to bring its token to a target; it ends
 * by saying what came of it. Whether the token arrived is for the target to say, never for the way.
 *
 * A way runs as often as it is asked to: outside capture, where it has to succeed (the control), and inside a
 * captured cgroup, where it must not. It does not know which of the two it is. */
#ifndef NODEGATE_WAY_H
#define NODEGATE_WAY_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a way waits for an answer. Long enough for a loaded machine; nothing is concluded from shorter times. */
#define PATIENCE_MS 4000

enum flags {
	PLAIN = 0,
	OPTIONAL = 1, /* kernels without the feature exist: a control that finds it absent is no failure */
	OUTSIDE = 2,  /* starts outside and calls enter() itself */
	PRIVATE = 4,  /* changes its network namespace: not to be run in the host's */
	KEEPS = 8,    /* not a way out but something that must keep working */
	FIRST = 16,   /* gets no further than a first packet: that one counts */
	MEDDLES = 32, /* may take the capture of its own cgroup apart, and gets one for itself */
};

struct way {
	const char *row;   /* the row of THREATS that it belongs to */
	const char *name;  /* unique */
	int flags;
	const char *needs; /* the privilege without which it must fail; "" for none. "root" and "same user" are tried without
			    * by becoming nobody, the latter against processes outside that stay root */
	const char *title; /* what it does, for the table */
	void (*try)(void);
	struct way *next;
};

void add_way(struct way *way);

/* Defines a way; the body of the function follows. ROW is defined by each file. */
#define WAY(name_, flags_, needs_, title_)                                                                \
	static void try_##name_(void);                                                                    \
	static struct way way_##name_ = { ROW, #name_, (flags_), (needs_), (title_), try_##name_, NULL }; \
	__attribute__((constructor)) static void add_##name_(void) { add_way(&way_##name_); }            \
	static void try_##name_(void)

/* What this run is about, from the environment. */
extern const char *token;     /* 15 characters */
extern uint16_t port;         /* the targets listen on it, everywhere */
extern const char *device;    /* leads to the far target */
extern const char *folder;    /* the suite's own directory */
extern const char *far_netns; /* the far target's network namespace, a file */

/* Moves this process to the cgroup under test, which a control does not have, and drops the privilege that it is to
 * be tried without. */
void enter(void);

/* Waits a little, for whoever looks at what a process brings along to be done with it. */
void settle(void);

/* Ends of a way. None of them returns. */
_Noreturn void sent(void);                     /* as far as the caller can tell, the token is on its way */
_Noreturn void refused(const char *step);      /* errno tells why */
_Noreturn void absent(const char *step);       /* this kernel cannot do that; errno tells why */
_Noreturn void setup(const char *step);        /* what should always work did not; errno tells why */
_Noreturn void made(const char *what);         /* open, though nothing was sent: what was to be had */
_Noreturn void works(void);                    /* KEEPS: as it should */
_Noreturn void broken(const char *format, ...) /* KEEPS: not as it should */
	__attribute__((format(printf, 1, 2)));

/* An address with its length. */
struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	};
	socklen_t length;
};

struct address at(const char *text, uint16_t port); /* IPv4, or IPv6 with an optional %device */
struct address far4(void);
struct address far6(void);
struct address far_mapped(void);
struct address far_local(void); /* link-local */
struct address near4(void);     /* loopback */
struct address near6(void);

/* socket(), or the end: `absent` for a kind that the kernel does not have. */
int make(int family, int type, int protocol, const char *what);
/* connect(), or the end. */
void dial(int fd, struct address to);
/* Sends the token on a connection, waits for the other end to hang up, and says `sent`. */
_Noreturn void deliver(int fd);
/* A whole attempt: socket, connect, deliver. */
_Noreturn void stream_to(struct address to);
/* Runs a program of the system quietly; whether it succeeded. */
bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* fork(); the child does not outlive its parent. */
pid_t spawn(void);
/* The end of a child that tries: it connects and delivers, or exits with the error. */
_Noreturn void try_as_child(int fd, struct address to);
/* Waits for such a child; 0, or its error. */
int child_error(pid_t child);
/* What such a child's attempt came to, as our own. */
_Noreturn void as_child(int error);
/* Passes a descriptor over a Unix socket, and takes one. */
void pass(int over, int fd);
int take(int over);
/* The one's-complement sum of IP. */
uint16_t checksum(const void *data, size_t length);
/* An IPv4 packet with a UDP datagram to the far target that carries the token; its length. */
size_t datagram_packet(uint8_t *packet, const char *source);

#endif
