/* Telling of requests one by one, for `unionfs trace`: what each was about and how it ended.
 *
 * While nobody traces there is nothing of this but a test of trace_on. Otherwise what a request says
 * is noted when it is read, and becomes a record when it is answered; Python takes the records before
 * they are too many, and before the nodes in them are forgotten or moved (unionfs.fuse.tracer). Those
 * that do not fit are counted and given up: nobody waits for a tracer.
 *
 * Not told are requests that nobody answers, and those that a tracer makes by tracing.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECORDS 2048
#define HEAP (1 << 18) /* bytes of names */
#define NAME 255 /* bytes that are told of one */
#define READERS 8 /* unionfs.fuse.tracer */
#define OWN "user.unionfs.trace." /* unionfs.fuse.told */
#define FMODE_EXEC 0x20 /* among the flags of OPEN; include/linux/fs.h of the kernel */

int trace_on;

struct pending {
	uint64_t unique;
	int probe; /* asks how large an attribute is */
	struct record record;
	char names[2 * NAME];
};

static struct pending *pending;
static int pending_count;
static struct record *records;
static size_t record_count;
static char *heap;
static size_t heap_used;
static uint32_t heap_taken; /* before what is in it, modulo 2^32 */
static uint64_t lost;

static uint32_t readers[READERS];
static size_t reader_count;

static uint64_t clock_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* Note the name at *from* behind those there are; return what follows it, NULL where none ends. */
static const char *note_name(struct pending *new, const char *from, const char *end, uint8_t *size)
{
	struct record *record = &new->record;
	const char *stop = from && from < end ? memchr(from, 0, (size_t)(end - from)) : NULL;
	size_t length;

	if (stop == NULL)
		return NULL;
	length = (size_t)(stop - from);
	*size = (uint8_t)(length < NAME ? length : NAME);
	memcpy(new->names + (size == &record->other_size ? record->first_size : 0), from, *size);
	return stop + 1;
}

/* A request about a name, which follows *offset* bytes of others; what has it is not known yet. */
static void note_entry(struct pending *new, const char *body, const char *end, size_t offset)
{
	new->record.shown = 0;
	note_name(new, body + offset, end, &new->record.first_size);
}

static void note_rename(struct pending *new, const char *body, const char *end, size_t offset)
{
	const char *next = note_name(new, body + offset, end, &new->record.first_size);

	memcpy(&new->record.second, body, sizeof(new->record.second)); /* first in both forms */
	new->record.shown = 0;
	note_name(new, next, end, &new->record.other_size);
}

static void note_link(struct pending *new, const char *body, const char *end)
{
	struct record *record = &new->record;

	record->second = record->node;
	memcpy(&record->node, body, sizeof(record->node)); /* fuse_link_in.oldnodeid */
	record->shown = record->node;
	note_name(new, body + sizeof(struct fuse_link_in), end, &record->other_size);
}

/* Requests about names; 0: it is none of these. */
static int note_names(struct pending *new, const char *body, const char *end)
{
	switch (new->record.opcode) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_SYMLINK:
		note_entry(new, body, end, 0);
		return 1;
	case FUSE_MKNOD:
		note_entry(new, body, end, sizeof(struct fuse_mknod_in));
		return 1;
	case FUSE_MKDIR:
		note_entry(new, body, end, sizeof(struct fuse_mkdir_in));
		return 1;
	case FUSE_CREATE:
		note_entry(new, body, end, sizeof(struct fuse_create_in));
		return 1;
	case FUSE_RENAME:
		note_rename(new, body, end, sizeof(struct fuse_rename_in));
		return 1;
	case FUSE_RENAME2:
		note_rename(new, body, end, sizeof(struct fuse_rename2_in));
		return 1;
	case FUSE_LINK:
		note_link(new, body, end);
		return 1;
	}
	return 0;
}

static void note_body(struct pending *new, const void *body, size_t size)
{
	struct record *record = &new->record;
	union {
		struct fuse_read_in read; /* of writes, too, the offset comes second */
		struct fuse_getxattr_in xattr;
		struct fuse_lseek_in seek;
		struct fuse_fallocate_in room;
		struct fuse_copy_file_range_in copy;
	} in;

	memset(&in, 0, sizeof(in));
	memcpy(&in, body, size < sizeof(in) ? size : sizeof(in));
	switch (record->opcode) {
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		record->offset = in.read.offset;
		break;
	case FUSE_LSEEK:
		record->offset = in.seek.offset;
		break;
	case FUSE_FALLOCATE:
		record->offset = in.room.offset;
		record->size = in.room.length;
		break;
	case FUSE_COPY_FILE_RANGE:
		record->offset = in.copy.off_in;
		record->second = in.copy.nodeid_out;
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		new->probe = in.xattr.size == 0;
		break;
	case FUSE_STATFS: /* about no file, though it names one */
		record->node = record->shown = 0;
		break;
	case TMPFILE:
		record->shown = 0;
		break;
	}
}

static int is_reader(uint32_t pid)
{
	for (size_t i = 0; i < reader_count; i++)
		if (readers[i] == pid)
			return 1;
	return 0;
}

/* Whether the kernel asks this on the way to executing a program. */
static int executes(const struct fuse_in_header *head, size_t size)
{
	const char *body = (const char *)(head + 1);
	size_t rest = size - sizeof(*head);

	if (head->opcode == FUSE_OPEN)
		return rest >= sizeof(struct fuse_open_in) &&
		       ((const struct fuse_open_in *)body)->flags & FMODE_EXEC;
	return head->opcode == FUSE_GETXATTR &&
	       rest >= sizeof(struct fuse_getxattr_in) + sizeof(CAPABILITY) &&
	       memcmp(body + sizeof(struct fuse_getxattr_in), CAPABILITY, sizeof(CAPABILITY)) == 0;
}

static int is_told(const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1) + sizeof(struct fuse_getxattr_in);
	size_t wanted = sizeof(*head) + sizeof(struct fuse_getxattr_in) + sizeof(OWN);

	switch (head->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_NOTIFY_REPLY:
	case FUSE_INIT:
	case FUSE_DESTROY:
		return 0;
	case FUSE_GETXATTR:
		return size < wanted || memcmp(name, OWN, sizeof(OWN) - 1) != 0;
	case FUSE_GETATTR: /* the kernel's, to see whether it may ask for an attribute */
		return head->nodeid != FUSE_ROOT_ID || !is_reader(head->pid);
	}
	return head->opcode < OPCODES;
}

void trace_begin(const struct fuse_in_header *head, size_t size, uint64_t now_ns)
{
	const char *body = (const char *)(head + 1);
	struct pending *new;

	if (!is_told(head, size))
		return;
	if (pending_count == IN_FLIGHT) {
		lost++;
		return;
	}
	new = &pending[pending_count++];
	new->unique = head->unique;
	new->probe = 0;
	memset(&new->record, 0, sizeof(new->record));
	new->record.opcode = (uint8_t)head->opcode;
	new->record.node = new->record.shown = head->nodeid;
	new->record.pid = head->pid;
	if (!note_names(new, body, (const char *)head + size))
		note_body(new, body, size - sizeof(*head));
	new->record.start_ns = now_ns;
	command_asked(&new->record, executes(head, size));
}

/* What a reply without an error says. */
static void note_reply(struct pending *done, const void *body, size_t size)
{
	struct record *record = &done->record;

	switch (record->opcode) {
	case FUSE_LOOKUP:
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case TMPFILE:
		if (size >= sizeof(record->shown))
			memcpy(&record->shown, body, sizeof(record->shown)); /* fuse_entry_out.nodeid */
		if (record->shown == 0) /* there is none, and that is to be remembered */
			record->error = ENOENT;
		break;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		record->size = size;
		if (!done->probe)
			break;
		/* fallthrough */
	case FUSE_WRITE: /* fuse_write_out, fuse_getxattr_out: the size comes first */
	case FUSE_COPY_FILE_RANGE: {
		uint32_t said = 0;

		if (size >= sizeof(said))
			memcpy(&said, body, sizeof(said));
		record->size = said;
		break;
	}
	case FUSE_READ:
	case FUSE_READLINK:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		record->size = size;
		break;
	}
}

static void append(const struct pending *done)
{
	struct record *record = &records[record_count];
	size_t names = (size_t)done->record.first_size + done->record.other_size;

	if (record_count == RECORDS || names > HEAP - heap_used) {
		lost++;
		return;
	}
	*record = done->record;
	record->names_at = heap_taken + (uint32_t)heap_used;
	memcpy(heap + heap_used, done->names, names);
	heap_used += names;
	record_count++;
}

void trace_end(uint64_t unique, int error, const void *body, size_t size, int hooked)
{
	int at = pending_count - 1;
	struct pending *done;

	while (at >= 0 && pending[at].unique != unique) /* the latest is mostly the one */
		at--;
	if (at < 0)
		return;
	done = &pending[at];
	done->record.took_ns = clock_ns() - done->record.start_ns;
	done->record.error = error;
	done->record.hooked = (uint8_t)hooked;
	if (error)
		done->record.size = 0;
	else
		note_reply(done, body, size);
	command_answered(&done->record);
	append(done);
	if (at != --pending_count)
		*done = pending[pending_count];
}

static int make_room(void)
{
	pending = malloc(IN_FLIGHT * sizeof(*pending));
	records = malloc(RECORDS * sizeof(*records));
	heap = malloc(HEAP);
	return pending && records && heap ? 0 : -1;
}

static void stop(void)
{
	trace_on = 0;
	command_end();
	free(pending);
	free(records);
	free(heap);
	pending = NULL;
	records = NULL;
	heap = NULL;
	pending_count = 0;
	record_count = heap_used = lost = 0;
	heap_taken = 0;
}

int trace_for(const uint32_t *pids, size_t count)
{
	reader_count = count < READERS ? count : READERS;
	memcpy(readers, pids, reader_count * sizeof(*pids));
	if (count == 0 || (!trace_on && make_room() < 0)) {
		stop();
		return count ? -1 : 0;
	}
	trace_on = 1;
	return 0;
}

size_t trace_waiting(void)
{
	return record_count;
}

int trace_mentions(uint64_t node)
{
	for (size_t i = 0; i < record_count; i++) {
		const struct record *record = &records[i];

		if (record->node == node || record->second == node || record->shown == node)
			return 1;
	}
	return 0;
}

void trace_found(struct traced *found)
{
	*found = (struct traced){records, record_count, heap, heap_used, lost};
}

void trace_taken(void)
{
	heap_taken += (uint32_t)heap_used;
	record_count = heap_used = 0;
	lost = 0;
}
