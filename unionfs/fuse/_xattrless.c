/* Attributes of files that have none, answered without Python.
 *
 * Engines that compare two trees ask each file for security.capability and for its list; ls(1) and the
 * kernel's permission checks ask for others of those below. Python says which files show no attribute
 * to anybody. That lasts until a request that may change the file arrives, as what is known of
 * attributes in stat(2)'s sense does (_known.c): of directories until anything changes.
 *
 * Names besides these are Python's: some filesystems answer for names that they do not list.
 *
 * A direct-mapped cache: a later node takes the place of an earlier one.
 */
#include "_native.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#define PLACES (1 << 14) /* a power of two */

struct xattrless {
	uint64_t node; /* 0: none */
	uint64_t era;
	int is_dir;
};

static const char *const unlisted_is_absent[] = {
	"security.capability", "security.ima", "security.selinux",
	"system.posix_acl_access", "system.posix_acl_default",
};
#define NAMES (sizeof(unlisted_is_absent) / sizeof(*unlisted_is_absent))

static struct xattrless *places; /* NULL: nothing was shared yet */

static struct xattrless *place_of(uint64_t node)
{
	return &places[(spread(node) >> 40) & (PLACES - 1)];
}

void xattrless_share(uint64_t node, int is_dir)
{
	if (places == NULL)
		places = calloc(PLACES, sizeof(*places));
	if (places != NULL)
		*place_of(node) = (struct xattrless){node, known_era(is_dir), is_dir};
}

void xattrless_forget(uint64_t node)
{
	if (places != NULL && place_of(node)->node == node)
		place_of(node)->node = 0;
}

static int is_xattrless(uint64_t node)
{
	const struct xattrless *place;

	if (places == NULL)
		return 0;
	place = place_of(node);
	return place->node == node && place->era == known_era(place->is_dir) &&
	       !known_may_change(node, place->is_dir);
}

int xattrless_answer_get(int session, const struct fuse_in_header *head, size_t size)
{
	size_t before = sizeof(*head) + sizeof(struct fuse_getxattr_in);
	const char *name = (const char *)head + before;

	if (size <= before || !is_xattrless(head->nodeid))
		return 0;
	for (size_t i = 0; i < NAMES; i++) {
		size_t length = strlen(unlisted_is_absent[i]) + 1;

		if (size >= before + length && memcmp(name, unlisted_is_absent[i], length) == 0)
			return answer_with(session, head, ENODATA, NULL, 0);
	}
	return 0;
}

int xattrless_answer_list(int session, const struct fuse_in_header *head, size_t size)
{
	static const struct fuse_getxattr_out none;
	const struct fuse_getxattr_in *in = (const struct fuse_getxattr_in *)(head + 1);

	if (size < sizeof(*head) + sizeof(*in) || !is_xattrless(head->nodeid))
		return 0;
	if (in->size)
		return answer_with(session, head, 0, NULL, 0);
	return answer_with(session, head, 0, &none, sizeof(none)); /* asked how long the list is */
}
