/* The tree of the layers, in memory. */
#define _GNU_SOURCE
#include "floor.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS (1 << 17)

struct node root = {
	.attr = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 1},
	.layer = UPPER,
	.fd = -1,
};
static struct node *buckets[BUCKETS];
static uint64_t last_ino = 1;
static int layer; /* that is being read */

static struct node **bucket_of(const struct node *parent, const char *name)
{
	uint64_t hash = (uintptr_t)parent >> 4;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3ULL;
	return &buckets[(hash >> 20) % BUCKETS];
}

struct node *tree_find(const struct node *parent, const char *name)
{
	struct node *node = *bucket_of(parent, name);

	while (node && (node->parent != parent || strcmp(node->name, name)))
		node = node->next;
	return node;
}

void tree_attach(struct node *node, struct node *parent, const char *name)
{
	struct node **bucket = bucket_of(parent, name);

	node->parent = parent;
	node->name = strdup(name);
	node->next = *bucket;
	*bucket = node;
	if (parent->places == parent->room) {
		parent->room = parent->room * 2 + 8;
		parent->children = realloc(parent->children, parent->room * sizeof(node));
	}
	node->place = parent->places;
	parent->children[parent->places++] = node;
	parent->living++;
}

void tree_detach(struct node *node)
{
	struct node **at = bucket_of(node->parent, node->name);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	node->parent->children[node->place] = NULL;
	node->parent->living--;
}

struct node *tree_make(struct node *parent, const char *name, uint32_t mode)
{
	struct node *node = calloc(1, sizeof(*node));

	node->layer = UPPER;
	node->fd = -1;
	node->attr.ino = ++last_ino;
	node->attr.mode = mode;
	node->attr.nlink = 1;
	node->attr.mtime = node->attr.ctime = (uint64_t)time(NULL);
	tree_attach(node, parent, name);
	return node;
}

static void load(struct node *parent, int fd);

static void load_entry(struct node *parent, int fd, const char *name)
{
	struct node *node = tree_find(parent, name);
	char target[4096] = "";
	struct stat st;

	if ((node && node->closed) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (node && !S_ISDIR(st.st_mode)) {
		node->closed = 1;
		return;
	}
	if (!node) {
		node = tree_make(parent, name, st.st_mode);
		node->layer = layer;
		node->below = 1;
		node->attr.uid = st.st_uid;
		node->attr.gid = st.st_gid;
		node->attr.size = (uint64_t)st.st_size;
		node->attr.rdev = (uint32_t)(major(st.st_rdev) << 8 | minor(st.st_rdev));
		node->attr.mtime = (uint64_t)st.st_mtime;
		node->closed = !S_ISDIR(st.st_mode);
	}
	if (S_ISLNK(st.st_mode) && readlinkat(fd, name, target, sizeof(target) - 1) > 0)
		node->target = strdup(target);
	if (S_ISDIR(st.st_mode))
		load(node, openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
}

/* Add what a layer has in a directory. Whiteouts are nodes too, until all layers were read. */
static void load(struct node *parent, int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	char mark[8];

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			load_entry(parent, fd, entry->d_name);
	if (fgetxattr(fd, "trusted.overlay.opaque", mark, sizeof(mark)) > 0 ||
	    fgetxattr(fd, "user.overlay.opaque", mark, sizeof(mark)) > 0)
		parent->closed = 1;
	if (dir)
		closedir(dir);
}

static void drop_whiteouts(struct node *dir)
{
	for (uint32_t place = 0; place < dir->places; place++) {
		struct node *node = dir->children[place];

		if (node && S_ISCHR(node->attr.mode) && node->attr.rdev == 0)
			tree_detach(node);
		else if (node)
			drop_whiteouts(node);
	}
}

/* Read the layers' directories, topmost first, with ':' between them. */
void tree_load(char *lowers)
{
	char *word;

	for (layer = 0; (word = strsep(&lowers, ":")); layer++)
		load(&root, open(word, O_RDONLY | O_DIRECTORY));
	drop_whiteouts(&root);
}
