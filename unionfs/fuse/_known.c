/* Answers that are known already, given without Python.
 *
 *   - GETATTR. The kernel asks again after every read of a file and listing of a directory (the access
 *     time may have changed) and gets what it was told last, as it would from Python, which keeps
 *     attributes until something changes them. Here the requests themselves say what may have changed:
 *     one that changes a node counts until its reply is on its way. Directories are forgotten with
 *     every change of anything, since a copy-up changes those above; everything with a change of
 *     names, whose files the message does not tell.
 *   - the end of a listing, which the kernel asks for after the last piece: Python says with that piece
 *     that it was the last. It does not last beyond a change of names, as directories do not.
 *   - GETXATTR of security.capability, which the kernel asks for before changing a file's owner or
 *     content. A file that was made here, or that was found to have none, has none until it is set.
 *   - IOCTL that asks whether a file is a terminal, as isatty(3) does. None is.
 *
 * All are direct-mapped caches: a later node takes the place of an earlier one.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define PLACES 4096 /* powers of two */
#define ENDS 256
#define EVERYTHING 0
#define DIRECTORIES 1 /* the root's number, and a directory */

struct known {
	uint64_t node; /* 0: none */
	uint64_t era;
	struct fuse_attr_out out;
};

struct end {
	uint64_t node; /* 0: none */
	uint64_t era;
	uint64_t position;
};

static struct known files[PLACES];
static struct known dirs[PLACES];
static struct end ends[ENDS];
static uint64_t without_capability[PLACES];
static uint64_t era = 1; /* of everything: what is from an earlier one is forgotten */
static uint64_t dir_era = 1;

static struct {
	uint64_t unique;
	uint64_t node; /* or EVERYTHING, or DIRECTORIES */
} changing[IN_FLIGHT];
static int changing_count;
static int changing_lost; /* more than fit: nothing is known until the mount's end */

static struct { /* the request read last, whose reply may be worth remembering */
	uint64_t unique;
	uint64_t node;
	uint32_t opcode;
	int about_capability;
} last;

static size_t place_of(uint64_t node)
{
	return (spread(node) >> 40) & (PLACES - 1);
}

static void forget(uint64_t node)
{
	size_t place = place_of(node);

	if (files[place].node == node)
		files[place].node = 0;
	if (dirs[place].node == node)
		dirs[place].node = 0;
	xattrless_forget(node);
	lower_forget(node);
}

static void forget_for_good(uint64_t node)
{
	forget(node);
	if (ends[node & (ENDS - 1)].node == node)
		ends[node & (ENDS - 1)].node = 0;
	absent_forget(node);
	removing_forget(node);
	without_capability[place_of(node)] = 0;
	dirs_forget(node);
}

static void forget_changed(uint64_t node)
{
	dir_era++;
	if (node == EVERYTHING)
		era++;
	else
		forget(node);
}

/* Return the command of an IOCTL; 0: it is none. */
static uint32_t ioctl_command(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_ioctl_in *in = (const struct fuse_ioctl_in *)(head + 1);

	return head->opcode == FUSE_IOCTL && size >= sizeof(*head) + sizeof(*in) ? in->cmd : 0;
}

static int only_asks(uint32_t command)
{
	return command == TCGETS || command == FS_IOC_GETFLAGS || command == FS_IOC_FSGETXATTR;
}

/* An OPEN, of sessions with handles, copies up what it opens for writing, and may truncate. */
static int opens_to_write(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_open_in *in = (const struct fuse_open_in *)(head + 1);

	return size < sizeof(*head) + sizeof(*in) || (in->flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY;
}

/* Whether a request changes anything: *node*, or what the two above stand for. */
static int changes(const struct fuse_in_header *head, size_t size, uint64_t *node)
{
	*node = head->nodeid;
	switch (head->opcode) {
	case FUSE_INIT:
	case FUSE_LOOKUP:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_GETATTR:
	case FUSE_READLINK:
	case FUSE_STATFS:
	case FUSE_READ:
	case FUSE_RELEASE:
	case FUSE_FSYNC:
	case FUSE_FLUSH:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
	case FUSE_ACCESS:
	case FUSE_LSEEK:
	case FUSE_INTERRUPT:
		return 0;
	case FUSE_OPEN:
		return opens_to_write(head, size);
	case FUSE_IOCTL:
		*node = EVERYTHING;
		return !only_asks(ioctl_command(head, size));
	case FUSE_WRITE:
	case FUSE_SETATTR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_FALLOCATE:
		return 1;
	case FUSE_CREATE:
	case FUSE_MKDIR:
	case FUSE_MKNOD:
	case FUSE_SYMLINK:
	case TMPFILE:
		*node = DIRECTORIES;
		return 1;
	}
	*node = EVERYTHING;
	return 1;
}

static void forget_all_told(const struct fuse_in_header *head, size_t size)
{
	const struct fuse_batch_forget_in *in = (const void *)(head + 1);
	const struct fuse_forget_one *one = (const void *)(in + 1);
	size_t room = size - sizeof(*head);

	if (head->opcode == FUSE_FORGET) {
		forget_for_good(head->nodeid);
		return;
	}
	for (uint32_t i = 0; room >= sizeof(*in) && i < in->count; i++) {
		if (sizeof(*in) + (i + 1) * sizeof(*one) > room)
			return;
		forget_for_good(one[i].nodeid);
	}
}

void known_request(const struct fuse_in_header *head, size_t size)
{
	uint64_t node;

	last.unique = head->unique;
	last.node = head->nodeid;
	last.opcode = head->opcode;
	last.about_capability = 0;
	if (head->opcode == FUSE_FORGET || head->opcode == FUSE_BATCH_FORGET)
		forget_all_told(head, size);
	if (!changes(head, size, &node))
		return;
	if (head->opcode != FUSE_UNLINK && head->opcode != FUSE_RMDIR)
		removing_end();
	if (head->opcode == FUSE_SETXATTR)
		without_capability[place_of(head->nodeid)] = 0;
	forget_changed(node);
	if (changing_count == IN_FLIGHT) {
		changing_lost = 1;
		return;
	}
	changing[changing_count].unique = head->unique;
	changing[changing_count++].node = node;
}

int known_may_change(uint64_t node, int is_dir)
{
	if (changing_lost || (is_dir && changing_count))
		return 1;
	for (int i = 0; i < changing_count; i++)
		if (changing[i].node == node || changing[i].node == EVERYTHING)
			return 1;
	return 0;
}

int known_changes(void)
{
	return changing_lost ? IN_FLIGHT : changing_count;
}

uint64_t known_era(int is_dir)
{
	return is_dir ? dir_era : era;
}

static void remember(uint64_t node, uint64_t valid, uint32_t valid_nsec,
		     const struct fuse_attr *attr)
{
	int is_dir = S_ISDIR(attr->mode);
	struct known *known = is_dir ? &dirs[place_of(node)] : &files[place_of(node)];

	if (node == 0 || known_may_change(node, is_dir))
		return;
	if (valid == 0 && valid_nsec == 0) /* it changes without a request (unionfs.fuse.passing) */
		return;
	if (is_dir)
		lent_told(node, attr);
	known->node = node;
	known->era = known_era(is_dir);
	memset(&known->out, 0, sizeof(known->out));
	known->out.attr_valid = valid;
	known->out.attr_valid_nsec = valid_nsec;
	known->out.attr = *attr;
}

static void remember_reply(const struct fuse_out_header *head, const void *body, size_t size)
{
	const struct fuse_entry_out *entry = body;
	const struct fuse_attr_out *out = body;

	if (last.about_capability && head->error == -ENODATA && !known_may_change(last.node, 0))
		without_capability[place_of(last.node)] = last.node;
	if (head->error)
		return;
	if (last.opcode == FUSE_LOOKUP && size >= sizeof(*entry))
		remember(entry->nodeid, entry->attr_valid, entry->attr_valid_nsec, &entry->attr);
	else if (last.opcode == FUSE_GETATTR && size >= sizeof(*out))
		remember(last.node, out->attr_valid, out->attr_valid_nsec, &out->attr);
	else if (last.opcode == FUSE_CREATE && size >= sizeof(*entry))
		without_capability[place_of(entry->nodeid)] = entry->nodeid;
}

void known_done(uint64_t unique)
{
	for (int i = 0; i < changing_count; i++) {
		if (changing[i].unique != unique)
			continue;
		forget_changed(changing[i].node);
		changing[i] = changing[--changing_count];
		return;
	}
}

void known_reply(const struct fuse_out_header *head, const void *body, size_t size)
{
	known_done(head->unique);
	if (head->unique == last.unique)
		remember_reply(head, body, size);
}

void known_listed(const struct fuse_entry_out *entry)
{
	remember(entry->nodeid, entry->attr_valid, entry->attr_valid_nsec, &entry->attr);
}

void known_end(uint64_t node, uint64_t position)
{
	struct end *end = &ends[node & (ENDS - 1)];

	end->node = changing_count || changing_lost ? 0 : node;
	end->era = dir_era;
	end->position = position;
}

int known_answer_end(int session, const struct fuse_in_header *head, size_t size)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	const struct end *end = &ends[head->nodeid & (ENDS - 1)];

	if (size < sizeof(*head) + sizeof(*in) || end->node != head->nodeid ||
	    end->era != dir_era || in->offset != end->position || changing_count)
		return 0;
	return answer_with(session, head, 0, NULL, 0);
}

/* For what no request tells: files that are found elsewhere from now on. */
void known_forget(void)
{
	forget_changed(EVERYTHING);
	dirs_unshare();
	removing_end();
	lower_unshare();
}

static int answer_as_before(int session, const struct fuse_in_header *head,
			    const struct known *known, uint64_t now)
{
	if (known->node != head->nodeid || known->era != now ||
	    known_may_change(head->nodeid, S_ISDIR(known->out.attr.mode)))
		return 0;
	return answer_with(session, head, 0, &known->out, sizeof(known->out));
}

int known_answer_getattr(int session, const struct fuse_in_header *head)
{
	size_t place = place_of(head->nodeid);

	return dirs_answer(session, head) ||
	       answer_as_before(session, head, &files[place], era) ||
	       answer_as_before(session, head, &dirs[place], dir_era);
}

int known_answer_ioctl(int session, const struct fuse_in_header *head, size_t size)
{
	if (ioctl_command(head, size) != TCGETS)
		return 0;
	return answer_with(session, head, ENOTTY, NULL, 0);
}

int known_answer_getxattr(int session, const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1) + sizeof(struct fuse_getxattr_in);
	size_t wanted = sizeof(*head) + sizeof(struct fuse_getxattr_in) + sizeof(CAPABILITY);

	if (size < wanted || memcmp(name, CAPABILITY, sizeof(CAPABILITY)) != 0)
		return 0;
	last.about_capability = 1;
	if (without_capability[place_of(head->nodeid)] != head->nodeid)
		return 0;
	return answer_with(session, head, ENODATA, NULL, 0);
}
