/* The files that are probably read next, asked of the disk before they are.
 *
 * Who goes through a tree reads the files of a directory one after the other: in the directory's order
 * (grep -r, Python), by inode number (GNU tar and cp) or by name (rsync, Go's filepath.Walk). Within a
 * file the kernel reads ahead; between files everybody waits for the disk. So while reads of a lent
 * directory's files (_lent.c) follow one of these orders, the next few are opened, and posix_fadvise(2)
 * begins to read their first pages.
 *
 * Each order has points: it gains where the file after the latest one read is the one that it says, and
 * loses where not (while the best one is right, the others are not asked). With enough of them it is gone
 * by, also from a directory's listing on; all lose where another directory is listed before any file was
 * read. After some files in a row that no order had said, or that were in the page cache anyway
 * (preadv2(2), RWF_NOWAIT), nothing is counted or asked for a while. What is asked for wrongly costs a
 * read of the disk, and nothing else: no answer is made from here, and access times stay where open(2)
 * lets us say so. A layer whose filesystem cannot say what is cached (tmpfs, where all is; overlayfs,
 * FUSE and networks, where to open a file may take long) is unfit for all that.
 *
 * It is done while no request waits (next_work), but for a few: a file takes some 15 us. A thread has no
 * processor where there are two, the reader's and ours; it took spinning (_spin.c) away.
 *
 * Directories are in a direct-mapped cache: a later one takes an earlier one's place.
 */
#define _GNU_SOURCE
#include "_lent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define START 131072 /* bytes of a file, as the kernel reads ahead in one that is opened */
#define FLAGS (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
#define DIRS 64 /* a power of two */
#define MANY 1024 /* entries; larger directories are not looked through */
#define POINTS 12 /* the most that an order may have, */
#define ENOUGH 4 /* to be gone by, */
#define GAIN 1
#define LOSS 3
#define LEAST 4 /* files ahead, and one more for each point beyond ENOUGH; */
#define FEW 2 /* so many also while requests wait */
#define IN_VAIN 16 /* files that were cached, or in no order, before a rest */
#define REST 48 /* reads, */
#define LARGE 128 /* and as many again for so many entries of the directory: all are looked through */
#define NONE (-1L)

enum order { LISTED, BY_NUMBER, BY_NAME, ORDERS };

static int off;
static int points[ORDERS];
static int unforeseen, cached; /* files in a row */
static int rest;
static unsigned long long asked, foreseen;
static uint64_t at_work; /* the directory whose files are asked for; 0: none */
static uint64_t listed; /* the directory listed last */

static struct dir {
	uint64_t node; /* 0: none */
	size_t count;  /* of entries; with another it was listed anew, and the places are others */
	long latest;   /* the file read last, its place in the listing */
	long asked;    /* the last one asked for, in the order, */
	enum order order;
	int ahead;     /* and how many after the latest those are */
} dirs[DIRS];

static struct dir *dir_at(uint64_t node)
{
	return &dirs[(spread(node) >> 40) & (DIRS - 1)];
}

static struct dir *dir_of(const struct lent *lent)
{
	struct dir *dir = dir_at(lent->node);

	if (dir->node != lent->node || dir->count != lent->listing->count)
		*dir = (struct dir){lent->node, lent->listing->count, NONE, NONE, LISTED, 0};
	return dir;
}

/* The number that a file is shown with. */
static uint64_t number_of(const struct entry *entry)
{
	const struct lent_layer *layer = lent_layer(entry->layer);

	return layer != NULL ? lent_number(layer, entry->ino) : entry->ino;
}

static int precedes(const struct listing *listing, enum order order, size_t one, size_t other)
{
	const struct entry *a = &listing->entries[one], *b = &listing->entries[other];

	if (order == BY_NUMBER)
		return a->layer == b->layer ? a->ino < b->ino : number_of(a) < number_of(b);
	if (order == BY_NAME)
		return strcmp(listing->names + a->name_at, listing->names + b->name_at) < 0;
	return one < other;
}

/* The file that follows another in an order, or the first of all; NONE: there is none. */
static long following(const struct listing *listing, enum order order, long from)
{
	size_t start = order == LISTED && from != NONE ? (size_t)from + 1 : 0;
	long found = NONE;

	for (size_t i = start; i < listing->count; i++) {
		if (listing->entries[i].kind != DT_REG ||
		    (from != NONE && !precedes(listing, order, (size_t)from, i)))
			continue;
		if (order == LISTED)
			return (long)i;
		if (found == NONE || precedes(listing, order, i, (size_t)found))
			found = (long)i;
	}
	return found;
}

static long place_of(const struct listing *listing, const struct lent *file)
{
	uint64_t ino = number_inode(file->node);

	for (size_t i = 0; i < listing->count; i++)
		if (listing->entries[i].ino == ino &&
		    strcmp(listing->names + listing->entries[i].name_at, file->name) == 0)
			return (long)i;
	return NONE;
}

static enum order best(void)
{
	enum order found = LISTED;

	for (enum order order = LISTED; order < ORDERS; order++)
		if (points[order] > points[found])
			found = order;
	return found;
}

static void rest_if_in_vain(const struct listing *listing)
{
	if (unforeseen < IN_VAIN && cached < IN_VAIN)
		return;
	cached = unforeseen = 0;
	rest = REST * (1 + (int)(listing->count / LARGE));
}

static void give(enum order order, int more)
{
	points[order] += more;
	if (points[order] > POINTS)
		points[order] = POINTS;
	if (points[order] < 0)
		points[order] = 0;
}

/* Let the best order gain or lose by what is read now, and if it was wrong the others, until one was
 * right: that one, or ORDERS. */
static enum order judge(const struct listing *listing, long latest, long now)
{
	const enum order first = best();

	if (following(listing, first, latest) == now) {
		give(first, GAIN);
		return first;
	}
	give(first, -LOSS);
	for (enum order order = LISTED; order < ORDERS; order++) {
		if (order == first)
			continue;
		if (following(listing, order, latest) == now) {
			give(order, GAIN);
			return order;
		}
		give(order, -LOSS);
	}
	return ORDERS;
}

static int open_one(const struct lent *lent, const struct entry *entry)
{
	const char *name = lent->listing->names + entry->name_at;
	int dir = lent_open(lent, entry->layer), fd;

	if (dir < 0)
		return -1;
	fd = openat(dir, name, FLAGS | O_NOATIME);
	if (fd < 0 && errno == EPERM) /* not our file, and we are not root */
		fd = openat(dir, name, FLAGS);
	return fd;
}

static void ask(const struct lent *lent, const struct entry *entry)
{
	const struct lent_layer *layer = lent_layer(entry->layer);
	int fd = layer == NULL || layer->unfit ? -1 : open_one(lent, entry);
	char byte;
	struct iovec part = {&byte, 1};
	ssize_t size;

	if (fd < 0) {
		cached++; /* nor is anything gained by it */
		return;
	}
	size = preadv2(fd, &part, 1, 0, RWF_NOWAIT);
	if (size < 0 && errno == EAGAIN) {
		posix_fadvise(fd, 0, START, POSIX_FADV_WILLNEED);
		asked++;
		cached = 0;
	} else if (size < 0 && errno == EOPNOTSUPP) {
		lent_unfit(entry->layer);
	} else if (size != 0) {
		cached++;
	}
	close(fd);
}

static int is_looked_through(const struct lent *dir)
{
	return !off && dir != NULL && dir->listing != NULL && dir->listing->count <= MANY &&
	       lent_layer(dir->layer) != NULL && !lent_layer(dir->layer)->unfit;
}

int next_work(void)
{
	const struct lent *lent = at_work ? lent_find(at_work) : NULL;
	enum order order = best();
	struct dir *dir;
	long next;

	if (rest || !is_looked_through(lent) || points[order] < ENOUGH) {
		at_work = 0;
		return 0;
	}
	dir = dir_of(lent);
	if (dir->ahead <= 0 || dir->order != order) {
		dir->asked = dir->latest;
		dir->order = order;
		dir->ahead = 0;
	}
	next = dir->ahead < LEAST + points[order] - ENOUGH
		       ? following(lent->listing, order, dir->asked)
		       : NONE;
	if (next == NONE) {
		at_work = 0;
		return 0;
	}
	ask(lent, &lent->listing->entries[next]);
	dir->asked = next;
	dir->ahead++;
	return 1;
}

void next_listed(uint64_t node)
{
	const struct dir *before = dir_at(listed);

	if (listed != node && before->node == listed && before->latest == NONE && before->ahead > 0)
		for (enum order order = LISTED; order < ORDERS; order++)
			give(order, -GAIN); /* who only looks reads nothing */
	listed = at_work = node;
}

void next_read(uint64_t node)
{
	const struct lent *file = lent_find(node);
	const struct lent *lent = file != NULL ? file->parent : NULL;
	struct dir *dir;
	enum order right;
	long now;

	if (!is_looked_through(lent) || (rest && rest--))
		return;
	now = place_of(lent->listing, file);
	dir = dir_of(lent);
	if (now == NONE || now == dir->latest)
		return;
	right = judge(lent->listing, dir->latest, now);
	unforeseen = right == ORDERS ? unforeseen + 1 : 0;
	if (dir->ahead > 0 && right == dir->order) {
		dir->ahead--;
		foreseen++;
	} else {
		dir->ahead = 0;
	}
	dir->latest = now;
	rest_if_in_vain(lent->listing);
	at_work = lent->node;
	while (dir->ahead < FEW && next_work())
		;
}

void next_off(void)
{
	off = 1;
}

void next_totals(unsigned long long *files, unsigned long long *right)
{
	*files = asked;
	*right = foreseen;
}
