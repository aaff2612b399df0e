/* The entries of listings that Python tells.
 *
 * Those whose generation is NAME_ONLY lose their node and attributes, which to the kernel means that
 * it has to look the name up when it wants more.
 */
#include "_native.h"

#include <linux/fuse.h>
#include <string.h>

#define NAME_ONLY 2 /* unionfs.fuse.native.NAME_ONLY */

static struct {
	uint64_t unique;
	uint64_t dir;
} listings[IN_FLIGHT]; /* under way */
static int listing_count;

/* More than fit cannot be under way: pyfuse3 has fewer workers. */
void entries_asked(const struct fuse_in_header *head)
{
	if (listing_count == IN_FLIGHT)
		return;
	listings[listing_count].unique = head->unique;
	listings[listing_count++].dir = head->nodeid;
}

static void tell_entry(uint64_t dir, struct fuse_direntplus *entry)
{
	lower_told(dir, entry->dirent.name, entry->dirent.namelen, &entry->entry_out);
	known_listed(&entry->entry_out);
}

static void finish_entries(uint64_t dir, char *data, size_t size)
{
	size_t at = 0;

	while (at + FUSE_NAME_OFFSET_DIRENTPLUS <= size) {
		struct fuse_direntplus *entry = (struct fuse_direntplus *)(data + at);

		entry->dirent.ino = number_shown(entry->dirent.ino);
		entry->entry_out.attr.ino = number_shown(entry->entry_out.attr.ino);
		if (entry->entry_out.generation == NAME_ONLY)
			memset(&entry->entry_out, 0, sizeof(entry->entry_out));
		else
			tell_entry(dir, entry);
		at += FUSE_DIRENTPLUS_SIZE(entry);
	}
}

void entries_told(const struct fuse_out_header *head, void *body, size_t size)
{
	for (int i = 0; i < listing_count; i++) {
		uint64_t dir = listings[i].dir;

		if (listings[i].unique != head->unique)
			continue;
		listings[i] = listings[--listing_count];
		if (head->error == 0)
			finish_entries(dir, body, size);
		return;
	}
}
