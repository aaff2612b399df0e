/* What handlers want to know of the request read last, and pyfuse3 does not tell them. */
#include "_native.h"

#include <linux/fuse.h>

static uint32_t caller[3]; /* user, group and process */
static int kill_privileges;
static int mapped;

static int asks_to_kill(const struct fuse_in_header *head, size_t size)
{
	const void *body = head + 1;
	size_t rest = size - sizeof(*head);

	switch (head->opcode) {
	case FUSE_WRITE:
		return rest >= sizeof(struct fuse_write_in) &&
		       ((const struct fuse_write_in *)body)->write_flags & FUSE_WRITE_KILL_SUIDGID;
	case FUSE_SETATTR:
		return rest >= sizeof(struct fuse_setattr_in) &&
		       ((const struct fuse_setattr_in *)body)->valid & FATTR_KILL_SUIDGID;
	case FUSE_OPEN:
		return rest >= sizeof(struct fuse_open_in) &&
		       ((const struct fuse_open_in *)body)->open_flags & FUSE_OPEN_KILL_SUIDGID;
	}
	return 0;
}

static int is_mapped(const struct fuse_in_header *head, size_t size)
{
	return head->opcode == FUSE_WRITE &&
	       size >= sizeof(*head) + sizeof(struct fuse_write_in) &&
	       ((const struct fuse_write_in *)(head + 1))->write_flags & FUSE_WRITE_CACHE;
}

void asked_for(const struct fuse_in_header *head, size_t size)
{
	caller[0] = head->uid;
	caller[1] = head->gid;
	caller[2] = head->pid;
	kill_privileges = asks_to_kill(head, size);
	mapped = is_mapped(head, size);
}

void asked_by(uint32_t *uid, uint32_t *gid, uint32_t *pid)
{
	*uid = caller[0];
	*gid = caller[1];
	*pid = caller[2];
}

int asked_to_kill_privileges(void)
{
	return kill_privileges;
}

int asked_for_mapped(void)
{
	return mapped;
}
