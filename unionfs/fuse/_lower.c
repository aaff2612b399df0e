/* Files of lower layers, read without Python.
 *
 * Who goes through a tree reads most files once and whole, each by one READ of a file that nobody has
 * open here. Entries of files that are as a lower layer has them come marked from Python, with the
 * layer's number, in the generation, which the kernel is not shown: so where a file is follows from
 * directory, layer and name. When Python has opened the first file of a directory it shares that
 * layer's descriptor of it, and the next ones are opened, read and closed here. Of a file that is lent
 * that is known anyhow, and its directory is opened here (_lent.c). One that is longer than the request
 * stays open, for those that follow, until another takes its place. (To leave those to Python took back
 * all of a lent directory for one long file in it.) What is in any way not what was expected is left to
 * Python.
 *
 * That lasts until a request that may change the file arrives, or one that does not say which files
 * it changes (_known.c). The layers themselves do not change.
 *
 * Direct-mapped caches: a later one takes an earlier one's place.
 */
#define _GNU_SOURCE
#include "_native.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define FILES (1 << 14) /* powers of two */
#define PARTS 64
#define LONG 32 /* files */
#define NAME 44
#define MARK 32

struct file {
	uint64_t node; /* 0: none */
	uint64_t era;
	uint64_t dir;
	uint32_t layer;
	char name[NAME];
};

struct part { /* of the directory, in one layer */
	uint64_t dir; /* 0: none */
	uint32_t layer;
	int fd;		 /* ours */
	dev_t device;
	char mark[MARK]; /* the attribute that says that a file's data is elsewhere; "": none has it */
};

static struct file *files; /* NULL: none was marked yet */
static struct part parts[PARTS];
static struct long_file {
	uint64_t node; /* 0: none */
	uint64_t era;
	int fd; /* ours */
} long_files[LONG];
static struct lookup { /* one that is under way; the name if it is a short one */
	uint64_t unique;
	uint64_t dir;
	size_t length;
	char name[NAME];
} lookups[IN_FLIGHT];

static struct file *file_at(uint64_t node)
{
	return &files[(spread(node) >> 40) & (FILES - 1)];
}

static struct part *part_at(uint64_t dir, uint32_t layer)
{
	static size_t places;

	if (places == 0)
		places = descriptors_kept(PARTS);
	return &parts[(spread(dir) >> 40 ^ layer) & (places - 1)];
}

static struct long_file *long_at(uint64_t node)
{
	static size_t places;

	if (places == 0)
		places = descriptors_kept(LONG);
	return &long_files[(spread(node) >> 40) & (places - 1)];
}

/* Numbers of requests are even (FUSE_REQ_ID_STEP), and rise by that. */
static struct lookup *lookup_at(uint64_t unique)
{
	return &lookups[unique / 2 % IN_FLIGHT];
}

void lower_request(const struct fuse_in_header *head, size_t size)
{
	const char *name = (const char *)(head + 1);
	struct lookup *lookup = lookup_at(head->unique);

	if (head->opcode != FUSE_LOOKUP)
		return;
	lookup->unique = head->unique;
	lookup->dir = head->nodeid;
	lookup->length = strnlen(name, size - sizeof(*head));
	if (lookup->length < NAME)
		memcpy(lookup->name, name, lookup->length);
}

void lower_told(uint64_t dir, const char *name, size_t length, struct fuse_entry_out *entry)
{
	struct file *file;

	if (entry->generation >> 32 != LOWER)
		return;
	if (files == NULL)
		files = calloc(FILES, sizeof(*files));
	if (files != NULL && length < NAME && !known_may_change(entry->nodeid, 0)) {
		file = file_at(entry->nodeid);
		file->node = entry->nodeid;
		file->era = known_era(0);
		file->dir = dir;
		file->layer = (uint32_t)entry->generation;
		memcpy(file->name, name, length);
		file->name[length] = 0;
	}
	entry->generation = 0;
}

void lower_reply(const struct fuse_out_header *head, void *body, size_t size)
{
	const struct lookup *lookup = lookup_at(head->unique);

	if (head->unique == lookup->unique && head->error == 0 &&
	    size >= sizeof(struct fuse_entry_out))
		lower_told(lookup->dir, lookup->name, lookup->length, body);
}

static void drop_long(struct long_file *file)
{
	if (file->node)
		close(file->fd);
	file->node = 0;
}

void lower_forget(uint64_t node)
{
	if (files != NULL && file_at(node)->node == node)
		file_at(node)->node = 0;
	if (long_at(node)->node == node)
		drop_long(long_at(node));
}

static void drop(struct part *part)
{
	if (part->dir)
		close(part->fd);
	part->dir = 0;
}

void lower_unshare(void)
{
	for (int i = 0; i < PARTS; i++)
		drop(&parts[i]);
	for (int i = 0; i < LONG; i++)
		drop_long(&long_files[i]);
}

void lower_share(uint64_t dir, uint32_t layer, int fd, const char *mark)
{
	struct part *part = part_at(dir, layer);
	struct stat st;
	int own;

	if ((part->dir == dir && part->layer == layer) || strlen(mark) >= MARK || fstat(fd, &st) < 0)
		return;
	own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return;
	drop(part);
	part->dir = dir;
	part->layer = layer;
	part->fd = own;
	part->device = st.st_dev;
	strcpy(part->mark, mark);
}

/* Whether the file's data is its own: not so of one with the mark, nor certain if that is unknown. */
static int has_data(int fd, const struct part *part)
{
	return part->mark[0] == 0 || (fgetxattr(fd, part->mark, NULL, 0) < 0 &&
				      (errno == ENODATA || errno == EOPNOTSUPP));
}

/* Whether the file *fd* is the one that *node* stands for. */
static int is_as_expected(int fd, const struct part *part, uint64_t node, const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_dev == part->device &&
	       st->st_ino == number_inode(node) && has_data(fd, part);
}

/* Where the file is: its directory, and the name there; 0: that is not known here. */
static int where_is(uint64_t node, struct lower_place *place)
{
	const struct file *file = files ? file_at(node) : NULL;

	if (file == NULL || file->node != node || file->era != known_era(0))
		return lent_where_is(node, place);
	*place = (struct lower_place){file->dir, file->layer, file->name};
	return 1;
}

/* The directory's descriptor in the layer; NULL: it is not known here. */
static const struct part *part_of(const struct lower_place *place)
{
	const struct part *part = part_at(place->dir, place->layer);

	if (part->dir != place->dir || part->layer != place->layer)
		lent_share(place->dir, place->layer);
	return part->dir == place->dir && part->layer == place->layer ? part : NULL;
}

static void keep_long(uint64_t node, int fd)
{
	struct long_file *kept = long_at(node);

	drop_long(kept);
	*kept = (struct long_file){node, known_era(0), fd};
}

/* Answer from the file, which is opened for that. */
static int open_and_answer(int session, const struct fuse_in_header *head,
			   const struct lower_place *place)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	const struct part *part = part_of(place);
	struct stat st;
	int fd, done = 0;

	if (part == NULL)
		return 0;
	fd = openat(part->fd, place->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && is_as_expected(fd, part, head->nodeid, &st))
		done = answer_from(session, head, fd);
	if (done && (uint64_t)st.st_size > in->offset + in->size)
		keep_long(head->nodeid, fd);
	else
		close(fd);
	if (done && in->offset == 0)
		next_read(head->nodeid);
	return done;
}

int lower_answer_read(int session, const struct fuse_in_header *head, size_t size)
{
	const struct long_file *kept = long_at(head->nodeid);
	struct lower_place place;

	if (size < sizeof(*head) + sizeof(struct fuse_read_in) || known_may_change(head->nodeid, 0) ||
	    !where_is(head->nodeid, &place))
		return 0;
	if (kept->node == head->nodeid && kept->era == known_era(0))
		return answer_from(session, head, kept->fd);
	return open_and_answer(session, head, &place);
}
