/* What no FUSE filesystem on a machine can be quicker than: a server that does nothing.
 *
 *     floor -o lowerdir=TOP:...:BOTTOM[,writeback] MOUNTPOINT
 *
 * It shows the tree of the layers, which it has read into memory before it mounts. Files are full of
 * zeros, what is written to them is dropped, there are no extended attributes, no hard links, and no
 * disk behind a change. The kernel is asked to do all that it can do by itself: what it was told
 * never ends to hold, opening takes no request (ENOSYS), directories and symbolic links are cached.
 * Who finds no request asks again for a millisecond, so that the server need not be woken.
 *
 * Options of a mount that it does not know (upperdir, workdir) are passed over.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define FOREVER 1000000000 /* seconds */
#define MAX_WRITE (1 << 20)
#define ROOM (MAX_WRITE + 4096) /* for a request */
#define TRIES 3000 /* of an empty queue: a millisecond or so */
#define BUCKETS (1 << 17)

struct node { /* of one name; never freed, so its address is its number, but for the root's */
	struct node *parent, *next; /* next: in its bucket */
	struct node **children; /* by place in the listing; NULL: removed */
	uint32_t places, room, living, place;
	int closed; /* deeper layers add nothing */
	struct fuse_attr attr;
	char *name, *target;
};

static struct node root, *buckets[BUCKETS];
static int writeback;
static int looked_up; /* files were: from now on listings tell of them all there is to know */
static uint64_t last_ino = 1;
static const char zeros[MAX_WRITE];

static struct node **bucket_of(const struct node *parent, const char *name)
{
	uint64_t hash = (uintptr_t)parent >> 4;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3ULL;
	return &buckets[(hash >> 20) % BUCKETS];
}

static struct node *find(const struct node *parent, const char *name)
{
	struct node *node = *bucket_of(parent, name);

	while (node && (node->parent != parent || strcmp(node->name, name)))
		node = node->next;
	return node;
}

static void attach(struct node *node, struct node *parent, const char *name)
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

static void detach(struct node *node)
{
	struct node **at = bucket_of(node->parent, node->name);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	node->parent->children[node->place] = NULL;
	node->parent->living--;
}

static struct node *make(struct node *parent, const char *name, uint32_t mode)
{
	struct node *node = calloc(1, sizeof(*node));

	node->attr.ino = ++last_ino;
	node->attr.mode = mode;
	node->attr.nlink = 1;
	node->attr.mtime = node->attr.ctime = (uint64_t)time(NULL);
	attach(node, parent, name);
	return node;
}

static void load(struct node *parent, int fd);

static void load_entry(struct node *parent, int fd, const char *name)
{
	struct node *node = find(parent, name);
	char target[4096] = "";
	struct stat st;

	if ((node && node->closed) || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (node && !S_ISDIR(st.st_mode)) {
		node->closed = 1;
		return;
	}
	if (!node) {
		node = make(parent, name, st.st_mode);
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
			detach(node);
		else if (node)
			drop_whiteouts(node);
	}
}

static struct node *node_of(uint64_t id)
{
	return id == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)id;
}

static size_t tell_entry(const struct node *node, struct fuse_entry_out *out)
{
	*out = (struct fuse_entry_out){
		.nodeid = node ? (uintptr_t)node : 0,
		.entry_valid = FOREVER,
		.attr_valid = FOREVER,
	};
	if (node)
		out->attr = node->attr;
	return sizeof(*out);
}

static size_t tell_attr(const struct node *node, struct fuse_attr_out *out)
{
	*out = (struct fuse_attr_out){.attr_valid = FOREVER, .attr = node->attr};
	return sizeof(*out);
}

static size_t begin(const struct fuse_init_in *in, struct fuse_init_out *out)
{
	uint32_t wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_DO_READDIRPLUS |
			  FUSE_PARALLEL_DIROPS | FUSE_CACHE_SYMLINKS | FUSE_NO_OPEN_SUPPORT |
			  FUSE_NO_OPENDIR_SUPPORT | FUSE_HANDLE_KILLPRIV_V2 |
			  (writeback ? FUSE_WRITEBACK_CACHE : 0);

	*out = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = in->flags & wanted,
		.max_write = MAX_WRITE,
		.time_gran = 1,
		.max_pages = MAX_WRITE / 4096,
	};
	return sizeof(*out);
}

static size_t list(const struct node *dir, const struct fuse_read_in *in, int plus, char *out)
{
	size_t head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET, size = 0;

	for (uint64_t place = in->offset; place < dir->places; place++) {
		const struct node *node = dir->children[place];
		size_t length = node ? strlen(node->name) : 0;
		size_t all = FUSE_DIRENT_ALIGN(head + length);
		struct fuse_dirent *entry = (void *)(out + size + head - FUSE_NAME_OFFSET);

		if (!node)
			continue;
		if (size + all > in->size)
			break;
		memset(out + size, 0, all);
		if (plus && (looked_up || S_ISDIR(node->attr.mode)))
			tell_entry(node, (void *)(out + size));
		entry->ino = node->attr.ino;
		entry->off = place + 1;
		entry->namelen = (uint32_t)length;
		entry->type = node->attr.mode >> 12;
		memcpy(entry->name, node->name, length);
		size += all;
	}
	return size;
}

static size_t set(struct node *node, const struct fuse_setattr_in *in, struct fuse_attr_out *out)
{
	if (in->valid & FATTR_MODE)
		node->attr.mode = in->mode;
	if (in->valid & FATTR_UID)
		node->attr.uid = in->uid;
	if (in->valid & FATTR_GID)
		node->attr.gid = in->gid;
	if (in->valid & FATTR_SIZE)
		node->attr.size = in->size;
	if (in->valid & FATTR_MTIME)
		node->attr.mtime = in->mtime;
	return tell_attr(node, out);
}

static size_t take(struct node *node, const struct fuse_write_in *in, struct fuse_write_out *out)
{
	if (in->offset + in->size > node->attr.size)
		node->attr.size = in->offset + in->size;
	*out = (struct fuse_write_out){.size = in->size};
	return sizeof(*out);
}

static int move(struct node *dir, const char *name, uint64_t to)
{
	struct node *node = find(dir, name);
	struct node *parent = node_of(to), *there;

	if (!node)
		return ENOENT;
	there = find(parent, name + strlen(name) + 1);
	if (there)
		detach(there);
	detach(node);
	attach(node, parent, name + strlen(name) + 1);
	return 0;
}

static int drop(struct node *dir, const char *name)
{
	struct node *node = find(dir, name);

	if (!node || node->living)
		return node ? ENOTEMPTY : ENOENT;
	detach(node);
	return 0;
}

/* Do what *in* asks. Returns the size of what was put at *out*, or less than 0: an error. */
static ssize_t serve(const struct fuse_in_header *in, char *out)
{
	struct node *node = node_of(in->nodeid);
	const void *arg = in + 1;
	const char *name = arg;
	struct fuse_open_out *opened;

	switch (in->opcode) {
	case FUSE_INIT:
		return (ssize_t)begin(arg, (void *)out);
	case FUSE_LOOKUP:
		node = find(node, name);
		looked_up |= node && !S_ISDIR(node->attr.mode);
		return (ssize_t)tell_entry(node, (void *)out);
	case FUSE_GETATTR:
		return (ssize_t)tell_attr(node, (void *)out);
	case FUSE_SETATTR:
		return (ssize_t)set(node, arg, (void *)out);
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return (ssize_t)list(node, arg, in->opcode == FUSE_READDIRPLUS, out);
	case FUSE_MKDIR:
		name += sizeof(struct fuse_mkdir_in);
		node = make(node, name, ((const struct fuse_mkdir_in *)arg)->mode | S_IFDIR);
		return (ssize_t)tell_entry(node, (void *)out);
	case FUSE_CREATE:
		name += sizeof(struct fuse_create_in);
		node = make(node, name, ((const struct fuse_create_in *)arg)->mode);
		opened = (void *)(out + tell_entry(node, (void *)out));
		*opened = (struct fuse_open_out){.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
		return sizeof(struct fuse_entry_out) + sizeof(*opened);
	case FUSE_READLINK:
		return (ssize_t)strlen(strcpy(out, node->target));
	case FUSE_WRITE:
		return (ssize_t)take(node, arg, (void *)out);
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return -drop(node, name);
	case FUSE_RENAME:
		return -move(node, name + sizeof(struct fuse_rename_in),
			     ((const struct fuse_rename_in *)arg)->newdir);
	case FUSE_STATFS:
		memset(out, 0, sizeof(struct fuse_statfs_out));
		return sizeof(struct fuse_statfs_out);
	}
	return -ENOSYS;
}

static ssize_t size_of_read(const struct fuse_in_header *in)
{
	const struct fuse_read_in *read = (const void *)(in + 1);
	uint64_t size = node_of(in->nodeid)->attr.size;
	uint64_t rest = read->offset < size ? size - read->offset : 0;

	return (ssize_t)(rest < read->size ? rest : read->size);
}

static void reply(int fd, const struct fuse_in_header *in, char *out)
{
	struct fuse_out_header head = {.unique = in->unique};
	struct iovec parts[2] = {{&head, sizeof(head)}, {out, 0}};
	ssize_t done;

	if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
		return;
	done = in->opcode == FUSE_READ ? size_of_read(in) : serve(in, out);
	if (in->opcode == FUSE_READ)
		parts[1].iov_base = (void *)zeros;
	if (done < 0)
		head.error = (int32_t)done;
	else
		parts[1].iov_len = (size_t)done;
	head.len = (uint32_t)(sizeof(head) + parts[1].iov_len);
	(void)!writev(fd, parts, parts[1].iov_len ? 2 : 1);
}

static void run(int fd)
{
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	char *in = malloc(ROOM), *out = malloc(ROOM);
	int tries = 0;

	for (;;) {
		if (read(fd, in, ROOM) > 0) {
			reply(fd, (void *)in, out);
			tries = 0;
		} else if (errno == EAGAIN) {
			if (++tries > TRIES)
				poll(&wait, 1, -1);
		} else if (errno != EINTR && errno != ENOENT) {
			return; /* unmounted */
		}
	}
}

int main(int count, char **words)
{
	char data[128], *lowers = NULL, *word, *options;
	int fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (count != 4 || fd < 0)
		return 2;
	options = strdup(words[2]);
	while ((word = strsep(&options, ","))) {
		if (strncmp(word, "lowerdir=", 9) == 0)
			lowers = word + 9;
		writeback |= strcmp(word, "writeback") == 0;
	}
	root.attr = (struct fuse_attr){.ino = 1, .mode = S_IFDIR | 0755, .nlink = 1};
	while ((word = strsep(&lowers, ":")))
		load(&root, open(word, O_RDONLY | O_DIRECTORY));
	drop_whiteouts(&root);
	snprintf(data, sizeof(data),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd);
	if (mount("floor", words[3], "fuse.floor", MS_NOSUID | MS_NODEV, data) < 0) {
		perror("floor: mount");
		return 1;
	}
	if (fork())
		return 0;
	setsid();
	run(fd);
	return 0;
}
