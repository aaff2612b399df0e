/* Passthrough (Linux 6.9): the kernel reads and writes a file by itself, without a request.
 *
 * Which files, unionfs.fuse.passing says. Python has the kernel number a descriptor
 * (FUSE_DEV_IOC_BACKING_OPEN) and puts the number into the upper bits of the handle with which it
 * answers OPEN or CREATE (unionfs.fuse.files); here it becomes what the reply says. pyfuse3 and
 * libfuse before 3.17 know nothing of all that. What is used of linux/fuse.h is younger than the
 * headers of Debian 12, and defined here.
 */
#include "_native.h"

#include <linux/capability.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BACKING_SHIFT 40 /* unionfs.fuse.files */
#define INIT_EXT (1U << 30)
#define PASSTHROUGH2 (1U << 5) /* FUSE_PASSTHROUGH, of the upper half of the flags */
#define FLAGS2_AT 32 /* in struct fuse_init_out */
#define STACK_DEPTH_AT 36
#define OFFERED2_AT 16 /* in struct fuse_init_in */
#define STACK_DEPTH 1 /* layers on a stacked filesystem go cached, and overlayfs can be put on us */
#define OPEN_PASSTHROUGH (1U << 7)
#define OPEN_NOFLUSH (1U << 5)

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

static int wanted;
static struct opening {
	uint64_t unique;
	size_t at; /* where struct fuse_open_out is in the body of its answer */
} opening[IN_FLIGHT]; /* requests under way that open a file */
static int opening_count;

void passing_wanted(void)
{
	wanted = 1;
}

void passing_init(struct fuse_init_out *out, const struct fuse_init_in *offered)
{
	uint32_t flags2, depth = STACK_DEPTH;

	if (!wanted || !(offered->flags & INIT_EXT))
		return;
	memcpy(&flags2, (const char *)offered + OFFERED2_AT, sizeof(flags2));
	if (!(flags2 & PASSTHROUGH2))
		return;
	out->flags |= INIT_EXT;
	memcpy(&flags2, (char *)out + FLAGS2_AT, sizeof(flags2));
	flags2 |= PASSTHROUGH2;
	memcpy((char *)out + FLAGS2_AT, &flags2, sizeof(flags2));
	memcpy((char *)out + STACK_DEPTH_AT, &depth, sizeof(depth));
}

/* More than fit cannot be under way: pyfuse3 has fewer workers. */
void passing_request(const struct fuse_in_header *head)
{
	size_t at = 0;

	switch (head->opcode) {
	case FUSE_CREATE:
	case TMPFILE:
		at = sizeof(struct fuse_entry_out);
		break;
	case FUSE_OPEN:
		break;
	default:
		return;
	}
	if (wanted && opening_count < IN_FLIGHT)
		opening[opening_count++] = (struct opening){head->unique, at};
}

void passing_reply(const struct fuse_out_header *head, void *body, size_t size)
{
	for (int i = 0; i < opening_count; i++) {
		struct fuse_open_out *out;
		size_t at = opening[i].at;
		int32_t backing;

		if (opening[i].unique != head->unique)
			continue;
		opening[i] = opening[--opening_count];
		if (head->error || size < at + sizeof(*out))
			return;
		out = (struct fuse_open_out *)((char *)body + at);
		backing = (int32_t)(out->fh >> BACKING_SHIFT);
		if (backing == 0)
			return;
		out->open_flags = OPEN_PASSTHROUGH | OPEN_NOFLUSH; /* it takes no other with it */
		memcpy((char *)out + offsetof(struct fuse_open_out, padding), &backing,
		       sizeof(backing));
		return;
	}
}

/* The kernel goes on with the capabilities that this thread has now (fs/fuse/passthrough.c). With
 * CAP_FSETID, what a stranger writes would leave set-id bits that the file was given meanwhile.
 */
static int numbered(int session, int fd)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct mine[_LINUX_CAPABILITY_U32S_3], less[_LINUX_CAPABILITY_U32S_3];
	struct backing_map map = {.fd = fd};
	int backing;

	if (syscall(SYS_capget, &head, mine) != 0)
		return -1;
	memcpy(less, mine, sizeof(less));
	less[CAP_TO_INDEX(CAP_FSETID)].effective &= ~CAP_TO_MASK(CAP_FSETID);
	if (syscall(SYS_capset, &head, less) != 0)
		return -1;
	backing = ioctl(session, BACKING_OPEN, &map);
	syscall(SYS_capset, &head, mine);
	return backing;
}

int passing_back(int session, int fd)
{
	int backing = numbered(session, fd);

	if (backing >= 1 << (64 - BACKING_SHIFT - 1)) { /* does not fit a handle */
		passing_unback(session, backing);
		return 0;
	}
	return backing > 0 ? backing : 0;
}

void passing_unback(int session, int backing)
{
	uint32_t number = (uint32_t)backing;

	ioctl(session, BACKING_CLOSE, &number);
}
