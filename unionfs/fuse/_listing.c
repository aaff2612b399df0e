/* What a lent directory (_lent.c) holds: as its layers have it (_merging.c), or as the merged index of
 * all lowers says.
 *
 * A row of the index (unionfs.union.merged, which says what is in it) is kept whole, and looked at
 * where it is: neither names nor attributes take a system call then.
 */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000 /* ns */

/* As the index has it, little-endian: unionfs.union.merged, _HEAD and _STAT. */
struct row_head {
	uint16_t depth;
	uint8_t is_opaque;
	uint32_t count;
} __attribute__((packed));

struct row_stat {
	uint32_t mode, nlink, uid, gid;
	uint64_t size, blocks, rdev;
	uint32_t blksize;
	int64_t atime_ns, mtime_ns, ctime_ns;
} __attribute__((packed));

lent_row lent_rows;
int lent_rows_have_attributes;

void listing_drop(struct listing *listing)
{
	if (listing != NULL) {
		free(listing->entries);
		free(listing->names);
		free(listing->several);
		free(listing->by_name);
		free(listing);
	}
}

int listing_is_aufs_mark(unsigned layer, const char *name)
{
	return lent_layer(layer)->aufs && strncmp(name, AUFS_MARK, strlen(AUFS_MARK)) == 0;
}

/* Find the columns of the row that is the listing's names; -1: it is no such row, or no memory. */
static int unpack(struct listing *listing, size_t size)
{
	const char *row = listing->names;
	struct row_head head;
	size_t count, inos, kinds, homes, names;

	if (size < sizeof(head))
		return -1;
	memcpy(&head, row, sizeof(head));
	count = le32toh(head.count);
	inos = sizeof(head) + sizeof(uint16_t) * le16toh(head.depth);
	kinds = inos + sizeof(uint64_t) * count;
	homes = kinds + sizeof(uint16_t) * count;
	names = homes + sizeof(uint16_t) * count + sizeof(struct row_stat) * count;
	if (names > size || size > UINT32_MAX)
		return -1;
	listing->entries = malloc((count + 1) * sizeof(struct entry));
	if (listing->entries == NULL)
		return -1;
	for (size_t i = 0; i < count; i++) {
		size_t length = names < size ? strlen(row + names) : 0;
		struct entry *entry = &listing->entries[i];
		uint16_t kind;

		if (length == 0 || length > UINT8_MAX)
			return -1;
		memcpy(&entry->ino, row + inos + sizeof(entry->ino) * i, sizeof(entry->ino));
		memcpy(&kind, row + kinds + sizeof(kind) * i, sizeof(kind));
		memcpy(&entry->layer, row + homes + sizeof(entry->layer) * i, sizeof(entry->layer));
		entry->ino = le64toh(entry->ino);
		entry->kind = (uint8_t)IFTODT(le16toh(kind));
		entry->layer = le16toh(entry->layer);
		entry->name_at = (uint32_t)names;
		entry->length = (uint8_t)length;
		names += length + 1;
		if (entry->ino <= 1 || entry->ino > INODE || lent_layer(entry->layer) == NULL)
			return -1;
	}
	listing->count = count;
	listing->is_merged = le16toh(head.depth) > 1;
	listing->stats = lent_rows_have_attributes ? row + homes + sizeof(uint16_t) * count : NULL;
	return 0;
}

static int take_row(const struct lent *dir, struct listing *listing)
{
	char *path = lent_path(dir);
	size_t size = 0;

	if (path == NULL)
		return -1;
	listing->names = lent_rows(path, &size);
	free(path);
	return listing->names != NULL ? unpack(listing, size) : -1;
}

struct listing *listing_of(struct lent *dir)
{
	struct listing *listing;

	if (dir->listing != NULL || lent_layer(dir->layer) == NULL)
		return dir->listing;
	listing = calloc(1, sizeof(*listing));
	if (listing == NULL)
		return NULL;
	if ((lent_rows != NULL ? take_row(dir, listing) : merging_read(dir, listing)) < 0)
		listing_drop(listing);
	else
		dir->listing = listing;
	return dir->listing;
}

size_t listing_hash(const char *name)
{
	uint64_t hash = 0xCBF29CE484222325ULL; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001B3ULL;
	return hash ^ hash >> 32;
}

/* Where a name is in the table, or belongs: open addressing, 0 is a free place, half of them are. */
static uint32_t *find_place(const struct listing *listing, size_t places, const char *name)
{
	size_t at = listing_hash(name) & (places - 1);

	while (listing->by_name[at] &&
	       strcmp(listing->names + listing->entries[listing->by_name[at] - 1].name_at, name))
		at = (at + 1) & (places - 1);
	return &listing->by_name[at];
}

int listing_find(struct listing *listing, const char *name, const struct entry **entry)
{
	size_t places = 2;
	uint32_t number;

	while (places < 2 * listing->count)
		places *= 2;
	if (listing->by_name == NULL) {
		listing->by_name = calloc(places, sizeof(*listing->by_name));
		if (listing->by_name == NULL)
			return -1;
		for (uint32_t i = 0; i < listing->count; i++)
			*find_place(listing, places,
				    listing->names + listing->entries[i].name_at) = i + 1;
	}
	number = *find_place(listing, places, name);
	*entry = number ? &listing->entries[number - 1] : NULL;
	return 0;
}

static uint64_t seconds(int64_t ns)
{
	return (uint64_t)(ns / SECOND - (ns % SECOND < 0));
}

static uint32_t rest(int64_t ns)
{
	return (uint32_t)(ns % SECOND < 0 ? ns % SECOND + SECOND : ns % SECOND);
}

struct fuse_attr listing_attr(const struct listing *listing, const struct entry *entry)
{
	struct row_stat stat;
	int64_t atime, mtime, ctime;

	memcpy(&stat, listing->stats + (entry - listing->entries) * sizeof(stat), sizeof(stat));
	atime = (int64_t)le64toh((uint64_t)stat.atime_ns);
	mtime = (int64_t)le64toh((uint64_t)stat.mtime_ns);
	ctime = (int64_t)le64toh((uint64_t)stat.ctime_ns);
	return (struct fuse_attr){
		.ino = entry->ino,
		.size = le64toh(stat.size),
		.blocks = le64toh(stat.blocks),
		.atime = seconds(atime),
		.mtime = seconds(mtime),
		.ctime = seconds(ctime),
		.atimensec = rest(atime),
		.mtimensec = rest(mtime),
		.ctimensec = rest(ctime),
		.mode = le32toh(stat.mode),
		.nlink = le32toh(stat.nlink),
		.uid = le32toh(stat.uid),
		.gid = le32toh(stat.gid),
		.rdev = (uint32_t)le64toh(stat.rdev),
		.blksize = le32toh(stat.blksize),
	};
}
