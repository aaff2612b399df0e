/* Which file a name in a lent directory (_lent.c) is, in the layer that shows it. */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define ESCAPE "overlay." /* unionfs.ondisk.flavour */
#define FUSE_OVERLAYFS_OPAQUE "user.fuseoverlayfs.opaque" /* unionfs.ondisk.marks */
#define LIST 4096 /* bytes of names of attributes; a file with more is Python's */

/* Whether a mark, its prefix left out, says nothing of what a directory shows; they are some of those
 * that unionfs.ondisk.flavour names. Of a redirect, an opaque directory, and a mark that nobody knows,
 * Python knows what follows. */
static int is_harmless(const char *mark)
{
	static const char *const marks[] = {
		"origin", "impure", "nlink", "upper", "uuid", "protattr", "unionfs.born",
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (strcmp(mark, marks[i]) == 0)
			return 1;
	return strncmp(mark, ESCAPE, strlen(ESCAPE)) == 0;
}

static int is_there(int fd, const char *name, const char *below)
{
	char path[LENT_REACH];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", name, below);
	return fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether a directory has marks with which it is more than what is there; also if that is not known.
 * Where others are below it, also whether another driver's marks or AUFS's hide them. */
static int is_marked(const struct lent_layer *layer, int fd, const char *name, int has_below)
{
	char names[LIST];
	size_t prefix = strlen(layer->prefix);
	ssize_t size;

	if (layer->plain && !has_below)
		return 0;
	size = lent_attributes_of(fd, name, names, sizeof(names));
	for (ssize_t at = 0; at < size; at += (ssize_t)strlen(names + at) + 1)
		if ((strncmp(names + at, layer->prefix, prefix) == 0 &&
		     !is_harmless(names + at + prefix)) ||
		    (has_below && strcmp(names + at, FUSE_OVERLAYFS_OPAQUE) == 0))
			return 1;
	return size < 0 || (has_below && layer->aufs && is_there(fd, name, AUFS_OPAQUE));
}

/* Whether a directory that several layers have is more than the names in them. */
static int are_marked(const struct lent *dir, const char *name, uint64_t several)
{
	for (unsigned number = 0; number < LAYER_BITS; number++) {
		int fd;

		if (!(several & LAYER_BIT(number)))
			continue;
		several &= ~LAYER_BIT(number);
		fd = lent_open(dir, number);
		if (fd < 0 || is_marked(lent_layer(number), fd, name, several != 0))
			return 1;
	}
	return 0;
}

/* Look at a name in a layer, with the inode number that it has there.
 *
 * Also where something is mounted on it, or that is not known (before Linux 5.8), it is Python's.
 */
static enum found look(const struct lent *dir, const char *name, struct seen_as *seen)
{
	const struct lent_layer *layer = lent_layer(seen->layer);
	struct statx stx;
	int fd = lent_open(dir, seen->layer);

	if (fd < 0 || layer->kept[0]) /* it is not to be shown as it is */
		return PYTHONS;
	if (listing_is_aufs_mark(seen->layer, name))
		return ABSENT;
	if (statx(fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &stx) < 0)
		return errno == ENOENT ? ABSENT : PYTHONS;
	if (S_ISCHR(stx.stx_mode) && stx.stx_rdev_major == 0 && stx.stx_rdev_minor == 0)
		return ABSENT;
	if (!(stx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) ||
	    stx.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return PYTHONS;
	if (makedev(stx.stx_dev_major, stx.stx_dev_minor) != layer->device || stx.stx_ino <= 1 ||
	    stx.stx_ino > INODE)
		return PYTHONS;
	if (S_ISDIR(stx.stx_mode) && lent_rows == NULL && /* an index has heeded the marks */
	    (seen->several ? are_marked(dir, name, seen->several) : is_marked(layer, fd, name, 0)))
		return PYTHONS;
	seen->attr = attr_of_statx(&stx);
	seen->unprotected = !(stx.stx_attributes & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND));
	return SHOWN;
}

/* The same of an entry of a merged listing; of that of an index, attributes may be known. */
static enum found look_at(const struct lent *dir, const struct entry *entry, struct seen_as *seen)
{
	const struct listing *listing = dir->listing;
	uint64_t several = listing->several != NULL ? listing->several[entry - listing->entries] : 0;
	enum found found;

	seen->layer = entry->layer;
	seen->several = several & (several - 1) ? several : 0;
	if (listing->stats == NULL) {
		found = look(dir, listing->names + entry->name_at, seen);
		if (found != SHOWN || seen->attr.ino != entry->ino)
			return PYTHONS;
	} else {
		seen->attr = listing_attr(listing, entry);
	}
	return IFTODT(seen->attr.mode) == entry->kind ? SHOWN : PYTHONS;
}

enum found lent_look_up(struct lent *dir, const char *name, const struct entry *entry,
			struct seen_as *seen)
{
	struct listing *listing;

	if (lent_rows == NULL && dir->several == 0)
		return look(dir, name, seen);
	listing = listing_of(dir);
	if (listing == NULL || (entry == NULL && listing_find(listing, name, &entry) < 0))
		return PYTHONS;
	return entry != NULL ? look_at(dir, entry, seen) : ABSENT;
}
