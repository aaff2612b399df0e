/* What a lent directory (_lent.c) holds: as its layer has it, or as the merged index of all lowers says.
 *
 * A row of the index (unionfs.union.merged, which says what is in it) is kept whole, and looked at
 * where it is: neither names nor attributes take a system call then.
 */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEAST 1024 /* bytes of names */
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
		free(listing->by_name);
		free(listing);
	}
}

int listing_is_aufs_mark(unsigned layer, const char *name)
{
	return lent_layer(layer)->aufs && strncmp(name, ".wh.", 4) == 0;
}

static int is_whiteout(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == 0;
}

/* Add an entry of a directory to its listing; -1: it cannot be lent, or there is no memory. */
static int add_entry(const struct lent *dir, struct listing *listing, size_t *used, size_t *room,
		     int fd, const struct dirent64 *found)
{
	size_t length = strlen(found->d_name), n = listing->count;

	if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
		return 0;
	if (found->d_ino <= 1 || found->d_ino > INODE || found->d_type == DT_UNKNOWN)
		return -1;
	if (listing_is_aufs_mark(dir->layer, found->d_name))
		return 0;
	if (found->d_type == DT_CHR && is_whiteout(fd, found->d_name))
		return 0;
	if ((n & (n - 1)) == 0) { /* it is full at each power of two */
		void *more = realloc(listing->entries, (n ? 2 * n : 1) * sizeof(struct entry));

		if (more == NULL)
			return -1;
		listing->entries = more;
	}
	if (*used + length + 1 > *room) {
		char *more = realloc(listing->names, *room ? 2 * *room : LEAST);

		if (more == NULL)
			return -1;
		listing->names = more;
		*room = *room ? 2 * *room : LEAST;
	}
	listing->entries[n] = (struct entry){
		.ino = found->d_ino,
		.name_at = (uint32_t)*used,
		.layer = (uint16_t)dir->layer,
		.kind = found->d_type,
		.length = (uint8_t)length,
	};
	memcpy(listing->names + *used, found->d_name, length + 1);
	*used += length + 1;
	listing->count++;
	return 0;
}

static int read_all(const struct lent *dir, struct listing *listing)
{
	_Alignas(struct dirent64) char buffer[1 << 15];
	size_t used = 0, room = 0;
	int fd = lent_open(dir, dir->layer);
	long got;

	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -1;
	while ((got = syscall(SYS_getdents64, fd, buffer, sizeof(buffer))) > 0)
		for (long at = 0; at < got;) {
			const struct dirent64 *found = (const void *)(buffer + at);

			if (add_entry(dir, listing, &used, &room, fd, found) < 0)
				return -1;
			at += found->d_reclen;
		}
	return got == 0 ? 0 : -1;
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
	if ((lent_rows != NULL ? take_row(dir, listing) : read_all(dir, listing)) < 0)
		listing_drop(listing);
	else
		dir->listing = listing;
	return dir->listing;
}

static size_t place_of(const char *name, size_t places)
{
	uint64_t hash = 0xCBF29CE484222325ULL; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001B3ULL;
	return (hash ^ hash >> 32) & (places - 1);
}

/* Where a name is in the table, or belongs: open addressing, 0 is a free place, half of them are. */
static uint32_t *find_place(const struct listing *listing, size_t places, const char *name)
{
	size_t at = place_of(name, places);

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
