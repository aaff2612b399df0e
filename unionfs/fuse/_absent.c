/* Names that are not there, said without Python.
 *
 * Python shares the names of a directory; what is not among them is absent, until a request that
 * makes names comes: its name is added when it arrives, whatever becomes of it. A name that is gone
 * stays, and Python is asked. So the set holds more names than there are, never fewer, and "not in
 * it" is certain. It keeps a number of 64 bits for each name, which mixes the directory's number in:
 * two that happen to be equal only make Python be asked once more.
 *
 * The set is emptied when it is full, but not while a request that makes names is under way: its
 * name may not be among those that Python shares next.
 */
#include "_native.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#define NAMES (1 << 18) /* places, each of 8 bytes; a power of two */
#define FULL (NAMES / 2)
#define DIRS 4096 /* a power of two */

static uint64_t *names; /* open addressing; 0: free */
static size_t name_count;
static uint64_t dirs[DIRS]; /* whose names are all in the set; a later one takes a place */
static uint64_t asked[DIRS]; /* whose absent names Python was asked about */

static uint64_t making[IN_FLIGHT]; /* unique of requests under way that make names */
static int making_count;
static int making_lost; /* more than fit: nothing is emptied any more */

static size_t place_of_dir(uint64_t node)
{
	return (spread(node) >> 40) & (DIRS - 1);
}

/* FNV-1a, ended as in MurmurHash3, so that all bits of it count. */
static uint64_t number_of(uint64_t node, const char *name, size_t length)
{
	uint64_t number = 0xCBF29CE484222325ULL ^ spread(node);

	for (size_t i = 0; i < length; i++)
		number = (number ^ (unsigned char)name[i]) * 0x100000001B3ULL;
	number = (number ^ (number >> 33)) * 0xFF51AFD7ED558CCDULL;
	number ^= number >> 33;
	return number ? number : 1;
}

static uint64_t *place_of_name(uint64_t number)
{
	size_t at = (size_t)number & (NAMES - 1);

	while (names[at] && names[at] != number)
		at = (at + 1) & (NAMES - 1);
	return &names[at];
}

static void forget_all(void)
{
	memset(names, 0, NAMES * sizeof(*names));
	memset(dirs, 0, sizeof(dirs));
	name_count = 0;
}

/* Where there is no room for it, nothing is said of any directory any more. */
static void add(uint64_t node, const char *name, size_t length)
{
	uint64_t *place;

	if (names == NULL)
		return; /* nothing has been shared, and nothing is until there is a set */
	if (name_count >= FULL) {
		memset(dirs, 0, sizeof(dirs));
		return;
	}
	place = place_of_name(number_of(node, name, length));
	name_count += *place == 0;
	*place = number_of(node, name, length);
}

/* Return the name (of *length* bytes) at *offset* of a request's body; NULL: there is none. */
static const char *name_at(const struct fuse_in_header *head, size_t size, size_t offset,
			   size_t *length)
{
	const char *name = (const char *)(head + 1) + offset;
	const char *end;

	if (size <= sizeof(*head) + offset)
		return NULL;
	end = memchr(name, 0, size - sizeof(*head) - offset);
	if (end == NULL)
		return NULL;
	*length = (size_t)(end - name);
	return name;
}

static void add_made(uint64_t node, const struct fuse_in_header *head, size_t size, size_t offset)
{
	size_t length;
	const char *name = name_at(head, size, offset, &length);

	if (name != NULL)
		add(node, name, length);
}

static void add_renamed(const struct fuse_in_header *head, size_t size, size_t offset)
{
	size_t length;
	const char *old = name_at(head, size, offset, &length);
	uint64_t newdir = *(const uint64_t *)(const void *)(head + 1); /* first in both forms */

	if (old == NULL)
		return;
	add(head->nodeid, old, length); /* RENAME_EXCHANGE */
	add_made(newdir, head, size, offset + length + 1);
}

/* Add the name that a request makes; return whether it is such a request. */
static int add_of(const struct fuse_in_header *head, size_t size)
{
	switch (head->opcode) {
	case FUSE_CREATE:
		add_made(head->nodeid, head, size, sizeof(struct fuse_create_in));
		return 1;
	case FUSE_MKNOD:
		add_made(head->nodeid, head, size, sizeof(struct fuse_mknod_in));
		return 1;
	case FUSE_MKDIR:
		add_made(head->nodeid, head, size, sizeof(struct fuse_mkdir_in));
		return 1;
	case FUSE_SYMLINK:
		add_made(head->nodeid, head, size, 0);
		return 1;
	case FUSE_LINK:
		add_made(head->nodeid, head, size, sizeof(struct fuse_link_in));
		return 1;
	case FUSE_RENAME:
		add_renamed(head, size, sizeof(struct fuse_rename_in));
		return 1;
	case FUSE_RENAME2:
		add_renamed(head, size, sizeof(struct fuse_rename2_in));
		return 1;
	}
	return 0;
}

void absent_request(const struct fuse_in_header *head, size_t size)
{
	if (!add_of(head, size))
		return;
	if (making_count == IN_FLIGHT) {
		making_lost = 1;
		return;
	}
	making[making_count++] = head->unique;
}

void absent_done(uint64_t unique)
{
	for (int i = 0; i < making_count; i++) {
		if (making[i] != unique)
			continue;
		making[i] = making[--making_count];
		return;
	}
}

void absent_forget(uint64_t node)
{
	size_t place = place_of_dir(node);

	if (dirs[place] == node)
		dirs[place] = 0;
}

int absent_wanted(uint64_t node)
{
	size_t place = place_of_dir(node);
	int again = asked[place] == node;

	asked[place] = node;
	return again && dirs[place] != node;
}

/* Return whether there is room for *count* names more, made by emptying the set if need be. */
static int has_room(size_t count)
{
	if (names != NULL && name_count + count <= FULL)
		return 1;
	if (count > FULL || making_count || making_lost)
		return 0;
	if (names == NULL)
		names = calloc(NAMES, sizeof(*names));
	else
		forget_all();
	return names != NULL;
}

void absent_share(uint64_t node, const char *all, size_t size, size_t count)
{
	const char *end = all + size;

	if (!has_room(count))
		return;
	while (all < end) {
		size_t length = strnlen(all, (size_t)(end - all));

		add(node, all, length);
		all += length + 1;
	}
	dirs[place_of_dir(node)] = node;
}

int absent_answer(int session, const struct fuse_in_header *head, size_t size)
{
	static const struct fuse_entry_out nothing = {.entry_valid = FOREVER};
	size_t length;
	const char *name;

	if (names == NULL || dirs[place_of_dir(head->nodeid)] != head->nodeid)
		return 0;
	name = name_at(head, size, 0, &length);
	if (name == NULL || length > 255 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    *place_of_name(number_of(head->nodeid, name, length)))
		return 0;
	return answer_with(session, head, 0, &nothing, sizeof(nothing));
}
