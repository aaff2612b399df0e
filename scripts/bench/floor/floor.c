/* What no FUSE filesystem on a machine can be quicker than: a server that does next to nothing.
 *
 *     floor -o lowerdir=TOP:...:BOTTOM[,upperdir=U,workdir=W,disk[,settled]][,writeback][,asleep]
 *         MOUNTPOINT
 *
 * It shows the tree of the layers, which it has read into memory before it mounts. Files are full of
 * zeros, what is written to them is dropped, there are no extended attributes, no hard links, and no
 * disk behind a change; with *disk*, there is (disk.c). The kernel is asked to do all that it can do
 * by itself: what it was told never ends to hold, opening takes no request (ENOSYS), directories and
 * symbolic links are cached. Who finds no request asks again for a millisecond, so that the server
 * need not be woken; *asleep* does not, which leaves the processor to its clients.
 *
 * Options of a mount that it does not know are passed over.
 */
#define _GNU_SOURCE
#include "floor.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FOREVER 1000000000 /* seconds */
#define MAX_WRITE (1 << 20)
#define ROOM (MAX_WRITE + 4096) /* for a request */

static int writeback;
static int tries_at_most = 3000; /* of an empty queue: a millisecond or so */
static const char zeros[MAX_WRITE];
static int looked_up; /* files were: from now on listings tell of them all there is to know */

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

/* Make *name* and tell of it. Returns the size of what was put at *out*, or less than 0: an error. */
static ssize_t create(const struct fuse_in_header *in, const char *name, uint32_t mode,
		      const char *target, void *out)
{
	struct node *node = tree_make(node_of(in->nodeid), name, mode);
	int error;

	node->attr.uid = in->uid;
	node->attr.gid = in->gid;
	node->target = target ? strdup(target) : NULL;
	node->attr.size = target ? strlen(target) : 0;
	error = disk_create(node);
	if (error)
		tree_detach(node);
	return error ? -error : (ssize_t)tell_entry(node, out);
}

static ssize_t create_open(const struct fuse_in_header *in, char *out)
{
	const struct fuse_create_in *arg = (const void *)(in + 1);
	ssize_t size = create(in, (const void *)(arg + 1), arg->mode, NULL, out);

	if (size < 0)
		return size;
	*(struct fuse_open_out *)(out + size) = (struct fuse_open_out){
		.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
	};
	return size + (ssize_t)sizeof(struct fuse_open_out);
}

static ssize_t set(struct node *node, const struct fuse_setattr_in *in, struct fuse_attr_out *out)
{
	int error = disk_set(node, in);

	if (error)
		return -error;
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
	return (ssize_t)tell_attr(node, out);
}

static ssize_t take(struct node *node, const struct fuse_write_in *in, struct fuse_write_out *out)
{
	int error = disk_write(node, in, (const char *)(in + 1));

	if (error)
		return -error;
	if (in->offset + in->size > node->attr.size)
		node->attr.size = in->offset + in->size;
	*out = (struct fuse_write_out){.size = in->size};
	return sizeof(*out);
}

static int move(struct node *dir, const char *name, uint64_t to)
{
	const char *new_name = name + strlen(name) + 1;
	struct node *node = tree_find(dir, name);
	struct node *parent = node_of(to), *there = tree_find(parent, new_name);
	int error = node ? disk_move(node, parent, new_name) : ENOENT;

	if (error)
		return error;
	if (there)
		tree_detach(there);
	tree_detach(node);
	tree_attach(node, parent, new_name);
	return 0;
}

static int drop(struct node *dir, const char *name)
{
	struct node *node = tree_find(dir, name);
	int error = !node ? ENOENT : node->living ? ENOTEMPTY : disk_drop(node);

	if (!error)
		tree_detach(node);
	return error;
}

/* Do what *in* asks. Returns the size of what was put at *out*, or less than 0: an error. */
static ssize_t serve(const struct fuse_in_header *in, char *out)
{
	struct node *node = node_of(in->nodeid);
	const void *arg = in + 1;
	const char *name = arg;

	switch (in->opcode) {
	case FUSE_INIT:
		return (ssize_t)begin(arg, (void *)out);
	case FUSE_LOOKUP:
		node = tree_find(node, name);
		looked_up |= node && !S_ISDIR(node->attr.mode);
		return (ssize_t)tell_entry(node, (void *)out);
	case FUSE_GETATTR:
		return (ssize_t)tell_attr(node, (void *)out);
	case FUSE_SETATTR:
		return set(node, arg, (void *)out);
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		return (ssize_t)list(node, arg, in->opcode == FUSE_READDIRPLUS, out);
	case FUSE_MKDIR:
		name += sizeof(struct fuse_mkdir_in);
		return create(in, name, ((const struct fuse_mkdir_in *)arg)->mode | S_IFDIR, NULL, out);
	case FUSE_SYMLINK:
		return create(in, name, S_IFLNK | 0777, name + strlen(name) + 1, out);
	case FUSE_CREATE:
		return create_open(in, out);
	case FUSE_READLINK:
		return (ssize_t)strlen(strcpy(out, node->target));
	case FUSE_READ:
		return disk_read(node, arg, out);
	case FUSE_WRITE:
		return take(node, arg, (void *)out);
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

static void reply(int fd, const struct fuse_in_header *in, char *out)
{
	struct fuse_out_header head = {.unique = in->unique};
	struct iovec parts[2] = {{&head, sizeof(head)}, {out, 0}};
	ssize_t done;

	if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
		return;
	done = serve(in, out);
	if (in->opcode == FUSE_READ && !disk_is_there())
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
			if (++tries > tries_at_most)
				poll(&wait, 1, -1);
		} else if (errno != EINTR && errno != ENOENT) {
			return; /* unmounted */
		}
	}
}

struct options {
	char *lowers, *upper, *work;
	int disk, settled;
};

static struct options parsed(char *text)
{
	struct options options = {0};
	char *word;

	while ((word = strsep(&text, ","))) {
		if (strncmp(word, "lowerdir=", 9) == 0)
			options.lowers = word + 9;
		else if (strncmp(word, "upperdir=", 9) == 0)
			options.upper = word + 9;
		else if (strncmp(word, "workdir=", 8) == 0)
			options.work = word + 8;
		options.disk |= strcmp(word, "disk") == 0;
		options.settled |= strcmp(word, "settled") == 0;
		writeback |= strcmp(word, "writeback") == 0;
		if (strcmp(word, "asleep") == 0)
			tries_at_most = 0;
	}
	return options;
}

int main(int count, char **words)
{
	char data[128];
	struct options options;
	int fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (count != 4 || fd < 0)
		return 2;
	options = parsed(strdup(words[2]));
	tree_load(strdup(options.lowers));
	if (options.disk && (errno = disk_begin(options.lowers, options.upper, options.work,
						options.settled))) {
		perror("floor: disk");
		return 1;
	}
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
