/* The numbers of nodes that Python has: lent files get no number that is among them (_lent.c).
 *
 * Two files would have the same where a file is at two places of the layers, by a mount inside one or
 * because layers are in one another. A table with open addressing; 0 is a free place.
 */
#include "_lent.h"

#include <stdlib.h>

#define LEAST 1024 /* places, a power of two */

static uint64_t *taken;
static size_t taken_places, taken_count;

static size_t taken_place(uint64_t node)
{
	return (spread(node) >> 32) & (taken_places - 1);
}

static uint64_t *find_taken(uint64_t node)
{
	size_t at = taken_place(node);

	while (taken[at] && taken[at] != node)
		at = (at + 1) & (taken_places - 1);
	return &taken[at];
}

int lent_take(uint64_t node)
{
	if (2 * taken_count >= taken_places) {
		size_t count = taken_places;
		uint64_t *old = taken, *more = calloc(count ? 2 * count : LEAST, sizeof(*more));

		if (more == NULL)
			return -1;
		taken = more;
		taken_places = count ? 2 * count : LEAST;
		for (size_t i = 0; i < count; i++)
			if (old[i])
				*find_taken(old[i]) = old[i];
		free(old);
	}
	taken_count += *find_taken(node) == 0;
	*find_taken(node) = node;
	return 0;
}

void lent_leave(uint64_t node)
{
	uint64_t *place = taken_places ? find_taken(node) : NULL;
	size_t at, next;

	if (place == NULL || *place == 0)
		return;
	taken_count--;
	at = next = (size_t)(place - taken);
	for (;;) { /* who would not be found behind a free place moves up */
		next = (next + 1) & (taken_places - 1);
		if (taken[next] == 0)
			break;
		if (((next - taken_place(taken[next])) & (taken_places - 1)) >=
		    ((next - at) & (taken_places - 1))) {
			taken[at] = taken[next];
			at = next;
		}
	}
	taken[at] = 0;
}

int lent_is_taken(uint64_t node)
{
	return taken_places && *find_taken(node) != 0;
}
