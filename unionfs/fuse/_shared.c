/* Shared descriptors: where to read the data of a node, by node. Open addressing, linear probing;
 * a removed place keeps its node with fd -1 until the table is rebuilt. */
#include "_native.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct shared {
	uint64_t node; /* 0: never used */
	int fd;
};

static struct shared *table;
static size_t table_size; /* a power of two, or 0 */
static size_t table_used; /* places with a node, removed ones included */
static char *data_buffer;
static size_t data_size;
static unsigned long long answered;

static struct shared *place_of(uint64_t node)
{
	size_t at = (node * 0x9E3779B97F4A7C15ULL) >> 20;

	if (table_size == 0)
		return NULL;
	for (;; at++) {
		struct shared *place = &table[at & (table_size - 1)];

		if (place->node == node || place->node == 0)
			return place;
	}
}

static int rebuild(void)
{
	struct shared *old = table;
	size_t old_size = table_size, living = 0;

	for (size_t i = 0; i < old_size; i++)
		living += old[i].node && old[i].fd >= 0;
	table_size = 256;
	while (table_size < living * 4)
		table_size *= 2;
	table = calloc(table_size, sizeof(*table));
	if (table == NULL) {
		table = old;
		table_size = old_size;
		return -1;
	}
	table_used = living;
	for (size_t i = 0; i < old_size; i++)
		if (old[i].node && old[i].fd >= 0)
			*place_of(old[i].node) = old[i];
	free(old);
	return 0;
}

int shared_add(uint64_t node, int fd)
{
	struct shared *place;

	if (table_used * 2 >= table_size && rebuild() < 0)
		return -1;
	place = place_of(node);
	if (place->node == 0) {
		place->node = node;
		table_used++;
	}
	place->fd = fd;
	return 0;
}

static int reply(int fd, const struct fuse_in_header *head, int error, void *data, size_t size)
{
	struct fuse_out_header out = {
		.len = (uint32_t)(sizeof(out) + size),
		.error = -error,
		.unique = head->unique,
	};
	struct iovec parts[2] = {{&out, sizeof(out)}, {data, size}};

	return writev(fd, parts, size ? 2 : 1) < 0 ? -1 : 0;
}

int shared_answer_read(int session, const struct fuse_in_header *head)
{
	const struct fuse_read_in *in = (const struct fuse_read_in *)(head + 1);
	struct shared *place = place_of(head->nodeid);
	ssize_t size;

	if (place == NULL || place->node == 0 || place->fd < 0)
		return 0;
	if (in->size > data_size) {
		char *larger = realloc(data_buffer, in->size);

		if (larger == NULL)
			return 0;
		data_buffer = larger;
		data_size = in->size;
	}
	size = pread(place->fd, data_buffer, in->size, (off_t)in->offset);
	if (size < 0)
		reply(session, head, errno, NULL, 0);
	else
		reply(session, head, 0, data_buffer, (size_t)size);
	answered++;
	return 1;
}

void shared_remove(uint64_t node)
{
	struct shared *place = place_of(node);

	if (place != NULL && place->node == node)
		place->fd = -1;
}

unsigned long long shared_answered(void)
{
	return answered;
}
