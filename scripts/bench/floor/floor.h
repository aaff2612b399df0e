/* What the parts of the floor share: the tree (tree.c) and the disk behind it (disk.c). */
#ifndef FLOOR_H
#define FLOOR_H

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/types.h>

struct node { /* of one name; never freed, so its address is its number, but for the root's */
	struct node *parent, *next; /* next: in its bucket */
	struct node **children; /* by place in the listing; NULL: removed */
	uint32_t places, room, living, place;
	int closed; /* deeper layers add nothing */
	int layer; /* that it is in; UPPER: in the upper, or nowhere */
	int fd; /* its content, or of the upper's directory; -1: none is open */
	int below; /* a layer has the name, so a whiteout must follow it */
	struct fuse_attr attr;
	char *name, *target;
};

#define UPPER (-1)

extern struct node root;

struct node *tree_find(const struct node *parent, const char *name);
void tree_attach(struct node *node, struct node *parent, const char *name);
void tree_detach(struct node *node);
struct node *tree_make(struct node *parent, const char *name, uint32_t mode);
void tree_load(char *lowers);

int disk_is_there(void);

/* Each does on the disk what was asked for, and returns 0 or an errno. */
int disk_begin(char *lowers, const char *upper, const char *work, int settled);
int disk_create(struct node *node);
int disk_set(struct node *node, const struct fuse_setattr_in *in);
int disk_drop(struct node *node);
int disk_move(struct node *node, struct node *parent, const char *name);
int disk_write(struct node *node, const struct fuse_write_in *in, const char *data);
ssize_t disk_read(struct node *node, const struct fuse_read_in *in, char *out);

#endif
