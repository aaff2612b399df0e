/* What a lent directory (_lent.c) holds, as its layers have it.
 *
 * Where several have it, they are merged as unionfs.union.tree does it, in the same order: the topmost
 * that has a name shows it. A directory goes on in those below, down to the first that has a whiteout
 * of the name, or anything else by that name. AUFS's whiteouts count for what is below their layer.
 */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAST 1024 /* bytes of names, and places of the table: a power of two */

struct seen { /* a name, in the layers so far; open addressing, and half of the places are free */
	uint32_t name_at; /* and 1; 0: a free place */
	uint32_t entry;	  /* and 1; 0: it is not shown */
	unsigned closed;  /* the first layer that lets nothing of those below be seen; 0: none */
};

static struct reading { /* for the moment */
	const struct lent *dir;
	struct listing *listing;
	size_t used, room; /* bytes of names */
	unsigned layer;
	int fd;
	struct seen *seen; /* of several layers */
	size_t places, count;
} now;

static int is_whiteout(const char *name)
{
	struct stat st;

	return fstatat(now.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == 0;
}

/* Keep a name; returns where it is among the names, -1: no memory. */
static long keep(const char *name)
{
	size_t size = strlen(name) + 1, at = now.used;

	if (now.used + size > now.room) {
		char *more = realloc(now.listing->names, now.room ? 2 * now.room : LEAST);

		if (more == NULL)
			return -1;
		now.listing->names = more;
		now.room = now.room ? 2 * now.room : LEAST;
	}
	memcpy(now.listing->names + at, name, size);
	now.used += size;
	return (long)at;
}

/* Make room for one more entry; -1: no memory. */
static int make_room(void)
{
	struct listing *listing = now.listing;
	size_t n = listing->count, room = n ? 2 * n : 1;
	void *more;

	if (n & (n - 1)) /* it is full at each power of two */
		return 0;
	more = realloc(listing->entries, room * sizeof(*listing->entries));
	if (more == NULL)
		return -1;
	listing->entries = more;
	if (now.dir->several == 0)
		return 0;
	more = realloc(listing->several, room * sizeof(*listing->several));
	if (more == NULL)
		return -1;
	listing->several = more;
	return 0;
}

/* Add an entry, whose name is kept. */
static int add(const struct dirent64 *found, long name_at)
{
	struct listing *listing = now.listing;

	if (name_at < 0 || make_room() < 0)
		return -1;
	if (now.dir->several)
		listing->several[listing->count] = LAYER_BIT(now.layer);
	listing->entries[listing->count++] = (struct entry){
		.ino = found->d_ino,
		.name_at = (uint32_t)name_at,
		.layer = (uint16_t)now.layer,
		.kind = found->d_type,
		.length = (uint8_t)strlen(found->d_name),
	};
	return 0;
}

static struct seen *place_of(const char *name)
{
	size_t at = listing_hash(name) & (now.places - 1);

	while (now.seen[at].name_at &&
	       strcmp(now.listing->names + now.seen[at].name_at - 1, name) != 0)
		at = (at + 1) & (now.places - 1);
	return &now.seen[at];
}

static int make_places(void)
{
	struct seen *old = now.seen;
	size_t count = now.places;

	if (now.count < now.places / 2)
		return 0;
	now.seen = calloc(count ? 2 * count : LEAST, sizeof(*now.seen));
	if (now.seen == NULL) {
		now.seen = old;
		return -1;
	}
	now.places = count ? 2 * count : LEAST;
	for (size_t i = 0; i < count; i++)
		if (old[i].name_at)
			*place_of(now.listing->names + old[i].name_at - 1) = old[i];
	free(old);
	return 0;
}

/* Return what is known of a name; NULL: no memory. */
static struct seen *see(const char *name)
{
	struct seen *seen;
	long at;

	if (make_places() < 0)
		return NULL;
	seen = place_of(name);
	if (seen->name_at)
		return seen;
	at = keep(name);
	if (at < 0)
		return NULL;
	seen->name_at = (uint32_t)at + 1;
	now.count++;
	return seen;
}

/* Let nothing of a name be seen from the layers below. */
static int hide(const char *name)
{
	struct seen *seen = see(name);

	if (seen == NULL)
		return -1;
	if (seen->closed == 0)
		seen->closed = now.layer;
	return 0;
}

/* Add a name of one of several layers, unless one above hides it. */
static int merge(const struct dirent64 *found)
{
	struct seen *seen = see(found->d_name);

	if (seen == NULL)
		return -1;
	if (seen->closed && seen->closed < now.layer)
		return 0;
	if (found->d_type != DT_DIR)
		seen->closed = now.layer;
	if (seen->entry == 0) {
		if (add(found, (long)seen->name_at - 1) < 0)
			return -1;
		seen->entry = (uint32_t)now.listing->count;
	} else if (found->d_type == DT_DIR) {
		now.listing->several[seen->entry - 1] |= LAYER_BIT(now.layer);
	}
	return 0;
}

/* Take in what a layer's directory has; -1: it cannot be lent, or there is no memory. */
static int take(const struct dirent64 *found)
{
	const char *name = found->d_name;
	int hides = now.dir->several != 0;

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (found->d_ino <= 1 || found->d_ino > INODE || found->d_type == DT_UNKNOWN)
		return -1;
	if (listing_is_aufs_mark(now.layer, name))
		return hides && strncmp(name, AUFS_META, strlen(AUFS_META))
			       ? hide(name + strlen(AUFS_MARK))
			       : 0;
	if (found->d_type == DT_CHR && is_whiteout(name))
		return hides ? hide(name) : 0;
	return hides ? merge(found) : add(found, keep(name));
}

static int read_layer(unsigned layer)
{
	_Alignas(struct dirent64) char buffer[1 << 15];
	struct stat st;
	long got;

	now.layer = layer;
	now.fd = lent_open(now.dir, layer);
	if (now.fd < 0 || lseek(now.fd, 0, SEEK_SET) < 0)
		return -1;
	if (now.dir->several &&
	    (fstat(now.fd, &st) < 0 || st.st_dev != lent_layer(layer)->device))
		return -1; /* a subvolume of btrfs, whose files have the numbers of others */
	while ((got = syscall(SYS_getdents64, now.fd, buffer, sizeof(buffer))) > 0)
		for (long at = 0; at < got;) {
			const struct dirent64 *found = (const void *)(buffer + at);

			if (take(found) < 0)
				return -1;
			at += found->d_reclen;
		}
	return got == 0 ? 0 : -1;
}

int merging_read(const struct lent *dir, struct listing *listing)
{
	int result = 0;

	now = (struct reading){.dir = dir, .listing = listing};
	if (dir->several == 0)
		return read_layer(dir->layer);
	for (unsigned layer = 0; layer < LAYER_BITS && result == 0; layer++)
		if (dir->several & LAYER_BIT(layer))
			result = read_layer(layer);
	free(now.seen);
	return result;
}
