/* Requests that pyfuse3 does not know, carried by requests that it does.
 *
 * pyfuse3 gives libfuse no handler for these, so libfuse would answer ENOSYS. A request is turned in
 * place, before libfuse sees it, into one whose reply has the same form:
 *   - FALLOCATE, LSEEK, COPY_FILE_RANGE and IOCTL become GETXATTR of the attribute CARRIER on the
 *     same node. Its reply is bytes, or an errno. What was asked is kept until the next request, for
 *     Python to fetch when its handler begins; an attribute of that name that a program asks for is
 *     told from these by there being nothing to fetch;
 *   - TMPFILE becomes CREATE, with a mark;
 *   - SETXATTR loses its flags, which pyfuse3 would carry out by asking first. Python fetches them;
 *   - SETATTR is as it was, but that its times are "now" is kept, of which pyfuse3 makes a time.
 */
#include "_native.h"

#include <linux/fuse.h>
#include <string.h>

#define CARRIER "unionfs.carried" /* unionfs.fuse.native.CARRIER */
#define ANSWER_MAX 4096

static struct {
	uint32_t opcode; /* 0: the request is none of these */
	size_t size;
	char body[256];
} carried;
static uint32_t setxattr_flags;
static int tmpfile_asked;
static int touch_asked;

static size_t as_getxattr(struct fuse_in_header *head, size_t size, size_t room)
{
	struct fuse_getxattr_in in = {.size = ANSWER_MAX};
	size_t body = size - sizeof(*head);

	if (body > sizeof(carried.body) || room < sizeof(*head) + sizeof(in) + sizeof(CARRIER))
		return size; /* libfuse answers ENOSYS */
	carried.opcode = head->opcode;
	carried.size = body;
	memcpy(carried.body, head + 1, body);
	memcpy(head + 1, &in, sizeof(in));
	memcpy((char *)(head + 1) + sizeof(in), CARRIER, sizeof(CARRIER));
	head->opcode = FUSE_GETXATTR;
	head->len = (uint32_t)(sizeof(*head) + sizeof(in) + sizeof(CARRIER));
	return head->len;
}

size_t carry(struct fuse_in_header *head, size_t size, size_t room)
{
	carried.opcode = 0;
	tmpfile_asked = 0;
	setxattr_flags = 0;
	touch_asked = 0;
	switch (head->opcode) {
	case FUSE_FALLOCATE:
	case FUSE_LSEEK:
	case FUSE_COPY_FILE_RANGE:
	case FUSE_IOCTL:
		return as_getxattr(head, size, room);
	case TMPFILE:
		tmpfile_asked = 1;
		head->opcode = FUSE_CREATE;
		break;
	case FUSE_SETXATTR:
		if (size >= sizeof(*head) + FUSE_COMPAT_SETXATTR_IN_SIZE) {
			struct fuse_setxattr_in *in = (struct fuse_setxattr_in *)(head + 1);

			setxattr_flags = in->flags;
			in->flags = 0;
		}
		break;
	case FUSE_SETATTR:
		if (size >= sizeof(*head) + sizeof(struct fuse_setattr_in)) {
			const struct fuse_setattr_in *in = (const void *)(head + 1);
			const uint32_t now = FATTR_ATIME_NOW | FATTR_MTIME_NOW;

			touch_asked = (in->valid & now) == now;
		}
		break;
	}
	return size;
}

uint32_t carried_request(const void **body, size_t *size)
{
	*body = carried.body;
	*size = carried.size;
	return carried.opcode;
}

uint32_t carried_flags(void)
{
	return setxattr_flags;
}

int carried_tmpfile(void)
{
	return tmpfile_asked;
}

int carried_touch(void)
{
	return touch_asked;
}
