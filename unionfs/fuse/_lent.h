/* Lent directories: what their files share. See the head of _lent.c. */
#ifndef UNIONFS_LENT_H
#define UNIONFS_LENT_H

#include "_native.h"

struct entry { /* of a listing */
	uint64_t ino;	  /* as the layer's directory has it */
	uint32_t name_at; /* in the names */
	uint16_t layer;	  /* that shows it */
	uint8_t kind;	  /* DT_* */
	uint8_t length;
};

/* Layers as a set: those of a directory that several have. Others than these are not lent so. */
#define LAYER_BITS 64
#define LAYER_BIT(number) (1ULL << (number))

struct listing { /* what a lent directory holds, in the layers' order, whiteouts left out */
	size_t count;
	struct entry *entries;
	uint64_t *several;   /* the layers that have each of them; NULL: there is one, or an index */
	char *names;	     /* each with a NUL at its end; of an index: its whole row */
	const char *stats;   /* there: what stat(2) says of each; NULL: files have to be asked */
	uint32_t *by_name;   /* indexes and 1; NULL: nobody has looked for a name */
	int is_merged;	     /* several layers have the directory, the index says */
};

struct lent {
	uint64_t node;
	struct lent *next;   /* in the table */
	struct lent *parent; /* NULL: it is Python's, see _lent.c */
	struct lent *first, *left, *right; /* of its own below it, and beside it */
	struct listing *listing;	   /* NULL: it was not needed yet */
	int is_listed;	    /* somebody has asked for it */
	uint64_t count;	    /* references that the kernel got from here */
	uint64_t above;	    /* of a directory of Python's: its parent's number */
	size_t known_files; /* how many of those below it are no directories */
	unsigned layer;	    /* that shows it; of several the topmost */
	uint64_t several;   /* the layers that it is merged of; 0: it is of one, or an index knows */
	int unprotected;    /* it was seen that chattr(1) keeps nobody from changing it */
	int is_copied;	    /* of a directory of Python's: the upper has one, too, which may change */
	struct fuse_attr attr; /* of a directory of Python's: mode 0 if they are not known here */
	char *name; /* of a directory of Python's: the path from the layer's root */
};

struct lent_layer {
	int fd; /* its root, Python's; -1: nothing of it is lent */
	dev_t device;
	uint64_t near, far; /* what its inode numbers get added: short ones, and others */
	int plain;	  /* it has no marks */
	int unfit;	  /* for asking for files ahead, _nextfiles.c */
	int aufs;	  /* names that begin with .wh. are no files */
	char prefix[32];   /* of marks: of directories that are not lent, */
	char metacopy[48]; /* and this one of files whose data is elsewhere */
	char kept[48];	   /* of what a file is shown as, which its row says as well; "": of none */
	char capability[64]; /* what security.capability is called in it */
};

extern int lent_one_link;  /* directories show one link each */
extern int lent_attributes; /* files have extended attributes */

struct lent *lent_find(uint64_t node);
const struct lent_layer *lent_layer(unsigned number); /* NULL: nothing of it is lent */
void lent_unfit(unsigned layer);
uint64_t lent_number(const struct lent_layer *layer, uint64_t ino); /* of the node */
/* A descriptor for the moment of a directory in a layer; -1: it cannot be had. */
int lent_open(const struct lent *dir, unsigned layer);
struct seen_as { /* a file, in a lent directory */
	unsigned layer;	  /* as in struct lent, these two */
	uint64_t several;
	struct fuse_attr attr;
	int unprotected;
};

/* One more below the directory, or the one that there is; NULL: it is another's, or no memory. */
struct lent *lent_below(struct lent *dir, const char *name, const struct seen_as *seen);
void lent_settle(struct lent *lent); /* nothing may refer to it: then it goes, and who is above */
#define LENT_REACH 300
void lent_reach(char *path, int fd, const char *name); /* what a call takes for a name below it */
/* As llistxattr(2), of a name below it. */
ssize_t lent_attributes_of(int fd, const char *name, char *names, size_t room);

int lent_add_layer(unsigned number, const struct lent_layer *layer); /* -1: no memory */
/* Lend a directory of Python's, at a path from the root of its layer, or of several; -1: no. */
int lent_add(uint64_t node, uint64_t above, unsigned layer, uint64_t several, const char *path);
void lent_copied(uint64_t node); /* the directory is in the upper from now on */
int lent_end(struct lent *dir); /* one of Python's is lent no more; 1: it is, some are below it */
void lent_hand_over(struct lent *lent); /* what is below a directory of Python's, to Python */
void lent_lose(struct lent *lent); /* with all that is below it */
struct lent *lent_next(struct lent *lent); /* of all; NULL: the first, or there are no more */
size_t lent_total(void);
char *lent_path(const struct lent *lent); /* from the layer's root, to be freed; NULL: no memory */

#define AUFS_MARK ".wh." /* how names of whiteouts begin: unionfs.ondisk.whiteout, these three */
#define AUFS_META ".wh..wh." /* those of AUFS's own files */
#define AUFS_OPAQUE ".wh..wh..opq"

/* _listing.c */
int listing_is_aufs_mark(unsigned layer, const char *name);
/* What the directory holds, read the first time; NULL: that cannot be told here. */
struct listing *listing_of(struct lent *dir);
/* The entry of a name, NULL if it is not there; -1: no memory. */
int listing_find(struct listing *listing, const char *name, const struct entry **entry);
/* What the row of an index says of an entry, with the inode number that it has in its layer. */
struct fuse_attr listing_attr(const struct listing *listing, const struct entry *entry);
void listing_drop(struct listing *listing);
size_t listing_hash(const char *name);

/* _merging.c */
/* Read it from the layers; -1: that cannot be told here. */
int merging_read(const struct lent *dir, struct listing *listing);

/* The row of a directory in the merged index, to be freed; NULL: it cannot be had. */
typedef char *(*lent_row)(const char *path, size_t *size);
extern lent_row lent_rows; /* NULL: there is no index */
extern int lent_rows_have_attributes;

/* _look.c */
enum found { ABSENT, SHOWN, PYTHONS };
/* Look for a name, whose entry is at hand or NULL; *seen* says the directory's own layer before. */
enum found lent_look_up(struct lent *dir, const char *name, const struct entry *entry,
			struct seen_as *seen);

/* _lend.c */
void lent_wanted(void); /* a file was looked up that had been listed by name only */

/* _taken.c */
int lent_take(uint64_t node); /* Python has a node of that number; -1: no memory */
void lent_leave(uint64_t node); /* no more */
int lent_is_taken(uint64_t node);

#endif
