/* Which files there are in lent directories (_lent.c): lookups and listings. */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DOTS 2

/* As unionfs.fuse.listing.Foresight, which says why. */
#define SHARE 4
#define SAMPLE 32
#define MEMORY 512
#define SMALL 512
static size_t listed, wanted, turn;

/* Say what the kernel is told of a file, which is read by the extension if it is a small one. */
static void tell(const struct lent *child, struct fuse_entry_out *out)
{
	memset(out, 0, sizeof(*out));
	out->nodeid = child->node;
	out->entry_valid = out->attr_valid = FOREVER;
	out->attr = child->attr;
	if (!S_ISREG(child->attr.mode))
		return;
	out->generation = (uint64_t)LOWER << 32 | child->layer; /* lower_told() takes it out again */
	lower_told(child->parent->node, child->name, strlen(child->name), out);
}

/* Give a directory the links that it shows, which an index knows with what it holds; -1: it does not. */
static int count_links(struct lent *dir)
{
	if (lent_rows != NULL && listing_of(dir) == NULL)
		return -1;
	if (lent_one_link || dir->several || (dir->listing != NULL && dir->listing->is_merged))
		dir->attr.nlink = 1;
	return 0;
}

/* Look a name up for the kernel, which gets a reference when the caller says so. */
static enum found enter(struct lent *dir, const char *name, const struct entry *entry,
			struct fuse_entry_out *out, struct lent **child)
{
	struct seen_as seen = {.layer = dir->layer};
	enum found found = lent_look_up(dir, name, entry, &seen);

	if (found != SHOWN)
		return found;
	if (!S_ISDIR(seen.attr.mode) && seen.attr.nlink > 1)
		return PYTHONS;
	seen.attr.ino = lent_number(lent_layer(seen.layer), seen.attr.ino);
	*child = lent_below(dir, name, &seen);
	if (*child == NULL)
		return PYTHONS;
	(*child)->unprotected = seen.unprotected;
	if (S_ISDIR(seen.attr.mode) && count_links(*child) < 0) {
		lent_settle(*child);
		*child = NULL;
		return PYTHONS;
	}
	tell(*child, out);
	return SHOWN;
}

/* The same of an entry whose number is known: a file that the kernel has is not looked at. */
static enum found enter_again(struct lent *dir, const struct entry *entry, uint64_t node,
			      struct fuse_entry_out *out, struct lent **child)
{
	const char *name = dir->listing->names + entry->name_at;
	struct lent *known = lent_find(node);

	if (known == NULL || known->parent != dir || strcmp(known->name, name) != 0)
		return enter(dir, name, entry, out, child);
	*child = known;
	tell(known, out);
	return SHOWN;
}

static struct lent *directory(uint64_t node)
{
	struct lent *dir = lent_find(node);

	return dir != NULL && (dir->parent == NULL || S_ISDIR(dir->attr.mode)) ? dir : NULL;
}

static int is_name(const char *name, size_t size)
{
	size_t length = strnlen(name, size);

	return length < size && length <= NAME_MAX && strcmp(name, ".") && strcmp(name, "..");
}

int lent_answer_lookup(int session, const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1);
	struct lent *dir = directory(head->nodeid), *child;
	struct fuse_entry_out out;
	int is_new;

	if (dir == NULL || lent_layer(dir->layer) == NULL || !is_name(name, size - sizeof(*head)))
		return 0;
	switch (enter(dir, name, NULL, &out, &child)) {
	case PYTHONS:
		return 0;
	case ABSENT:
		memset(&out, 0, sizeof(out));
		out.entry_valid = FOREVER;
		return answer_with(session, head, 0, &out, sizeof(out));
	case SHOWN:
		break;
	}
	is_new = child->count == 0;
	answer_with(session, head, 0, &out, sizeof(out));
	child->count += answer_was_taken();
	if (is_new && dir->is_listed && !S_ISDIR(out.attr.mode))
		wanted++;
	lent_settle(child);
	return 1;
}

void lent_wanted(void)
{
	wanted++;
}

static int names_only(const struct lent *dir)
{
	if (dir->listing->count <= SMALL && dir->known_files)
		return 0;
	turn++;
	return wanted * SHARE <= listed || turn % SAMPLE == 0;
}

static void note_listed(size_t count)
{
	listed += count;
	if (listed > MEMORY) {
		listed /= 2;
		wanted /= 2;
	}
}

/* A reply that is being made: entries, and what the kernel gets references to by it. */
static char *reply;
static size_t reply_room;
static struct lent **given;
static size_t given_room, given_count;

static int make_room(size_t size, size_t entries)
{
	if (size > reply_room) {
		char *more = realloc(reply, size);

		if (more == NULL)
			return -1;
		reply = more;
		reply_room = size;
	}
	if (entries > given_room) {
		void *more = realloc(given, entries * sizeof(*given));

		if (more == NULL)
			return -1;
		given = more;
		given_room = entries;
	}
	return 0;
}

/* Add an entry, with what the kernel is told of it (READDIRPLUS) or NULL; returns its size. */
static size_t put(char *at, size_t room, uint64_t position, uint64_t ino, uint32_t kind,
		  const char *name, size_t length, const struct fuse_entry_out *out, int plus)
{
	size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
	size_t used = before + offsetof(struct fuse_dirent, name) + length;
	size_t size = FUSE_DIRENT_ALIGN(used);
	struct fuse_dirent *entry = (struct fuse_dirent *)(void *)(at + before);

	if (size > room)
		return 0;
	if (out != NULL)
		memcpy(at, out, before);
	else
		memset(at, 0, before);
	entry->ino = ino;
	entry->off = position;
	entry->namelen = (uint32_t)length;
	entry->type = kind;
	memcpy(entry->name, name, length);
	memset(at + used, 0, size - used);
	return size;
}

static uint64_t above(const struct lent *dir)
{
	return dir->parent != NULL ? dir->parent->node : dir->above;
}

/* Add the entry at an index of the listing; 0: there is no room for it, or as *found says. */
static size_t put_child(struct lent *dir, size_t index, char *at, size_t room, int plus,
			int bare, enum found *found)
{
	const struct entry *entry = &dir->listing->entries[index];
	const char *name = dir->listing->names + entry->name_at;
	uint64_t number = lent_number(lent_layer(entry->layer), entry->ino);
	struct fuse_entry_out out;
	struct lent *child = NULL;
	size_t size;

	if (plus && (entry->kind == DT_DIR || !bare)) {
		*found = enter_again(dir, entry, number, &out, &child);
		if (*found == PYTHONS && entry->kind != DT_DIR)
			*found = SHOWN; /* by name only, since it has several */
		if (*found != SHOWN)
			return 0;
	}
	size = put(at, room, index + DOTS + 1, number, entry->kind, name, entry->length,
		   child != NULL ? &out : NULL, plus);
	if (child != NULL && size) {
		child->count++;
		given[given_count++] = child;
	} else if (child != NULL) {
		lent_settle(child);
	}
	return size;
}

/* Let the kernel not have what the reply would have given it. */
static void take_again(void)
{
	for (size_t i = 0; i < given_count; i++) {
		given[i]->count--;
		lent_settle(given[i]);
	}
}

/* Fill the reply from a position on; returns its size, -1: it is for Python to make. */
static ssize_t list(struct lent *dir, uint64_t from, size_t room, int plus)
{
	size_t used = 0, size, count = dir->listing->count, bare_count = 0;
	int bare = plus && names_only(dir);
	enum found found = SHOWN;

	given_count = 0;
	for (uint64_t at = from; at < count + DOTS; at++) {
		if (at < DOTS)
			size = put(reply + used, room - used, at + 1,
				   number_shown(at ? above(dir) : dir->node), DT_DIR, "..", at + 1,
				   NULL, plus);
		else
			size = put_child(dir, at - DOTS, reply + used, room - used, plus, bare,
					 &found);
		if (found == PYTHONS) {
			take_again();
			return -1;
		}
		if (size == 0 && found == SHOWN)
			break;
		found = SHOWN; /* what is absent was removed behind our back */
		used += size;
		bare_count += bare && at >= DOTS && dir->listing->entries[at - DOTS].kind != DT_DIR;
	}
	note_listed(bare_count);
	return (ssize_t)used;
}

int lent_answer_list(int session, const struct fuse_in_header *head, size_t size)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	struct lent *dir = directory(head->nodeid);
	const struct listing *listing;
	ssize_t used;

	if (dir == NULL || size < sizeof(*head) + sizeof(*in) || (listing = listing_of(dir)) == NULL)
		return 0;
	dir->is_listed = 1;
	if (in->offset >= listing->count + DOTS)
		return answer_with(session, head, 0, NULL, 0);
	if (make_room(in->size, listing->count) < 0)
		return 0;
	used = list(dir, in->offset, in->size, head->opcode == FUSE_READDIRPLUS);
	if (used < 0)
		return 0;
	answer_with(session, head, 0, reply, (size_t)used);
	if (!answer_was_taken())
		take_again();
	if (in->offset == 0)
		next_listed(head->nodeid);
	return 1;
}
