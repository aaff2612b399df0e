/* Nodes' numbers: what they have of their inode's, and the root's.
 *
 * The kernel calls the root node 1, and pyfuse3 has one setter for the node and for what st_ino shows.
 * So answers about the root get its real number on their way out. They are told from others by the
 * request that they answer: replies carry no type.
 */
#include "_native.h"

#include <linux/fuse.h>

#define AT_ONCE 128 /* more than pyfuse3 has workers */

static uint64_t root_ino;
static uint64_t near_most = UINT32_MAX; /* an inode's number that a place is next to */
static uint64_t asked[AT_ONCE]; /* unique of requests about the root's attributes; 0: free */
static int asked_count;

void number_root(uint64_t ino)
{
	root_ino = ino;
}

void number_asked(const struct fuse_in_header *head)
{
	if (root_ino == 0 || head->nodeid != FUSE_ROOT_ID || asked_count == AT_ONCE)
		return;
	asked[asked_count++] = head->unique;
}

void number_answer(const struct fuse_out_header *head, void *body, size_t size)
{
	for (int i = 0; i < asked_count; i++) {
		if (asked[i] != head->unique)
			continue;
		asked[i] = asked[--asked_count];
		if (head->error == 0 && size >= sizeof(struct fuse_attr_out))
			((struct fuse_attr_out *)body)->attr.ino = root_ino;
		return;
	}
}

uint64_t number_shown(uint64_t ino)
{
	return ino == FUSE_ROOT_ID && root_ino ? root_ino : ino;
}

void number_near(int bits)
{
	near_most = (1ULL << bits) - 1;
}

uint64_t number_made(uint64_t near, uint64_t far, uint64_t ino)
{
	if (ino <= near_most)
		return near | ino;
	return near == 0 && ino > UINT32_MAX ? ino : far | ino;
}

uint64_t number_inode(uint64_t node)
{
	return node & (node <= UINT32_MAX ? near_most : INODE);
}
