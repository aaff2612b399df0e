/* Lent directories: what is in them is told without Python.
 *
 * Nothing ever changes in most directories of an image. Python lends one that the upper does not have
 * when it tells the kernel of it: from then on the extension answers its lookups and listings from the
 * layer's directory itself (_lend.c, _look.c), or from those that several layers have at this path
 * (_merging.c), and lends what is below in the same way. Where a merged index says what the lowers show
 * (unionfs.union.merged), it says that here, too (_listing.c).
 * Python does not know of those files until it has to: a request about one that it does not know, or
 * a change in a directory, takes back that directory, with the numbers that were told of what is in
 * it, and how many references the kernel has. So a directory is either lent or loaded (Node.children),
 * and a reference is counted either here or there.
 *
 * "Of Python's" is a directory that Python knows itself, and has lent. It has no parent here. One
 * that the kernel got from here has; of those that are taken back with what is above them, Python
 * knows from then on, and they stay lent.
 *
 * What has several names is not told from here, as the others may be in directories that Python has;
 * nor is what is not on the layer's filesystem, or is marked as being continued elsewhere.
 */
#define _GNU_SOURCE
#include "_lent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LISTXATTRAT 465 /* of newer headers (Linux 6.13); it spares the way through /proc */
#define OPEN 64 /* directories that are kept open; a power of two */
#define LEAST 1024 /* places of the table, a power of two */

int lent_one_link;
int lent_attributes;

static struct lent_layer *layers; /* by number; 0, the upper's, has no root */
static size_t layer_count;

static struct lent **table;
static size_t places; /* a power of two */
static size_t lent_count;
static size_t roots; /* of these are Python's */

static struct {
	uint64_t node; /* 0: none */
	unsigned layer;
	int fd;
} open_dirs[OPEN];

int lent_add_layer(unsigned number, const struct lent_layer *layer)
{
	if (number >= layer_count) {
		struct lent_layer *more = realloc(layers, (number + 1) * sizeof(*more));

		if (more == NULL)
			return -1;
		for (size_t i = layer_count; i <= number; i++)
			more[i].fd = -1;
		layers = more;
		layer_count = number + 1;
	}
	layers[number] = *layer;
	return 0;
}

const struct lent_layer *lent_layer(unsigned number)
{
	return number < layer_count && layers[number].fd >= 0 ? &layers[number] : NULL;
}

uint64_t lent_number(const struct lent_layer *layer, uint64_t ino)
{
	return number_made(layer->near, layer->far, ino);
}

void lent_unfit(unsigned layer)
{
	layers[layer].unfit = 1;
}

static size_t place_of(uint64_t node)
{
	return (spread(node) >> 32) & (places - 1);
}

struct lent *lent_find(uint64_t node)
{
	struct lent *lent = places ? table[place_of(node)] : NULL;

	while (lent != NULL && lent->node != node)
		lent = lent->next;
	return lent;
}

static int make_room(void)
{
	struct lent **old = table;
	size_t count = places;

	if (lent_count < places)
		return 0;
	table = calloc(places ? 2 * places : LEAST, sizeof(*table));
	if (table == NULL) {
		table = old;
		return -1;
	}
	places = places ? 2 * places : LEAST;
	for (size_t i = 0; i < count; i++)
		while (old[i] != NULL) {
			struct lent *lent = old[i];

			old[i] = lent->next;
			lent->next = table[place_of(lent->node)];
			table[place_of(lent->node)] = lent;
		}
	free(old);
	return 0;
}

static struct lent *add(uint64_t node, const char *name)
{
	struct lent *lent = calloc(1, sizeof(*lent));

	if (lent == NULL || make_room() < 0 || (lent->name = strdup(name)) == NULL) {
		free(lent);
		return NULL;
	}
	lent->node = node;
	lent->next = table[place_of(node)];
	table[place_of(node)] = lent;
	lent_count++;
	return lent;
}

static void take_out(struct lent *lent)
{
	struct lent **at = &table[place_of(lent->node)];

	while (*at != lent)
		at = &(*at)->next;
	*at = lent->next;
	lent_count--;
}

static void part(struct lent *lent)
{
	struct lent *parent = lent->parent;

	if (lent->left != NULL)
		lent->left->right = lent->right;
	else
		parent->first = lent->right;
	if (lent->right != NULL)
		lent->right->left = lent->left;
	parent->known_files -= !S_ISDIR(lent->attr.mode);
	lent->parent = lent->left = lent->right = NULL;
}

static void close_dir(uint64_t node)
{
	for (size_t i = 0; i < OPEN; i++)
		if (open_dirs[i].node == node) {
			close(open_dirs[i].fd);
			open_dirs[i].node = 0;
		}
}

/* Nothing is below it. */
static void drop(struct lent *lent)
{
	if (lent->parent != NULL)
		part(lent);
	else
		roots--;
	take_out(lent);
	close_dir(lent->node);
	listing_drop(lent->listing);
	free(lent->name);
	free(lent);
}

void lent_settle(struct lent *lent)
{
	while (lent != NULL && lent->parent != NULL && lent->count == 0 && lent->first == NULL) {
		struct lent *above = lent->parent;

		drop(lent);
		lent = above;
	}
}

struct lent *lent_below(struct lent *dir, const char *name, const struct seen_as *seen)
{
	struct lent *lent = lent_find(seen->attr.ino);

	if (lent != NULL)
		return lent->parent == dir && strcmp(lent->name, name) == 0 ? lent : NULL;
	if (lent_is_taken(seen->attr.ino))
		return NULL; /* the file is at two places, by a mount or as layers are in one another */
	lent = add(seen->attr.ino, name);
	if (lent == NULL)
		return NULL;
	lent->attr = seen->attr;
	lent->layer = seen->layer;
	lent->several = seen->several;
	lent->parent = dir;
	lent->right = dir->first;
	if (dir->first != NULL)
		dir->first->left = lent;
	dir->first = lent;
	dir->known_files += !S_ISDIR(seen->attr.mode);
	return lent;
}

char *lent_path(const struct lent *lent)
{
	size_t length = 0;
	char *path, *at;

	for (const struct lent *each = lent; each != NULL; each = each->parent)
		length += strlen(each->name) + 1;
	path = malloc(length);
	at = path != NULL ? path + length : NULL;
	for (; path != NULL && lent != NULL; lent = lent->parent) {
		at--;
		*at = at == path + length - 1 ? 0 : '/';
		at -= strlen(lent->name);
		memcpy(at, lent->name, strlen(lent->name));
	}
	return path;
}

int lent_open(const struct lent *dir, unsigned layer)
{
	static size_t kept;
	size_t at;
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	char *path;
	long fd;

	if (kept == 0)
		kept = descriptors_kept(OPEN);
	at = (dir->node ^ layer) & (kept - 1);
	if (open_dirs[at].node == dir->node && open_dirs[at].layer == layer)
		return open_dirs[at].fd;
	path = lent_layer(layer) != NULL ? lent_path(dir) : NULL;
	if (path == NULL)
		return -1;
	fd = syscall(SYS_openat2, lent_layer(layer)->fd, path, &how, sizeof(how));
	if (fd < 0 && errno == EPERM) { /* not our directory, and we are not root */
		how.flags &= ~(uint64_t)O_NOATIME;
		fd = syscall(SYS_openat2, lent_layer(layer)->fd, path, &how, sizeof(how));
	}
	free(path);
	if (fd < 0)
		return -1;
	if (open_dirs[at].node)
		close(open_dirs[at].fd);
	open_dirs[at].node = dir->node;
	open_dirs[at].layer = layer;
	open_dirs[at].fd = (int)fd;
	return (int)fd;
}

void lent_reach(char *path, int fd, const char *name)
{
	snprintf(path, LENT_REACH, "/proc/self/fd/%d/%s", fd, name);
}

ssize_t lent_attributes_of(int fd, const char *name, char *names, size_t room)
{
	static int refused;
	char path[LENT_REACH];

	if (!refused) {
		long size = syscall(LISTXATTRAT, fd, name, AT_SYMLINK_NOFOLLOW, names, room);

		if (size >= 0 || (errno != ENOSYS && errno != EPERM)) /* as seccomp filters may say */
			return size;
		refused = 1;
	}
	lent_reach(path, fd, name);
	return llistxattr(path, names, room);
}

int lent_add(uint64_t node, uint64_t above, unsigned layer, uint64_t several, const char *path)
{
	struct lent *lent = lent_find(node);

	if (lent_layer(layer) == NULL || lent != NULL)
		return -1;
	lent = add(node, path);
	if (lent == NULL)
		return -1;
	lent->above = above;
	lent->layer = layer;
	lent->several = several;
	roots++;
	return 0;
}

/* Take away one that is Python's; 1: there are some below it. */
int lent_end(struct lent *dir)
{
	if (dir->first != NULL)
		return 1;
	drop(dir);
	return 0;
}

/* Let what is below a directory of Python's be Python's, too; it stays lent if that is of any use. */
void lent_hand_over(struct lent *lent)
{
	char *path;

	if (!S_ISDIR(lent->attr.mode) || (lent->count == 0 && lent->first == NULL)) {
		drop(lent);
		return;
	}
	path = lent_path(lent);
	lent->above = lent->parent->node;
	lent->count = 0;
	part(lent);
	roots++;
	if (path == NULL) { /* it is found nowhere then, and Python has to answer */
		lent->layer = 0;
		listing_drop(lent->listing);
		lent->listing = NULL;
		lent->is_listed = 0;
		return;
	}
	free(lent->name);
	lent->name = path;
}

void lent_lose(struct lent *lent)
{
	struct lent *above = lent->parent;

	while (lent->first != NULL) { /* the lowest goes first */
		struct lent *lowest = lent->first;

		while (lowest->first != NULL)
			lowest = lowest->first;
		drop(lowest);
	}
	drop(lent);
	if (above != NULL)
		lent_settle(above);
}

struct lent *lent_next(struct lent *lent)
{
	size_t at = lent != NULL ? place_of(lent->node) + 1 : 0;

	if (lent != NULL && lent->next != NULL)
		return lent->next;
	while (at < places && table[at] == NULL)
		at++;
	return at < places ? table[at] : NULL;
}

size_t lent_total(void)
{
	return lent_count - roots;
}
