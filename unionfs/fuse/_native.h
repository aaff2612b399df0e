/* The parts of the extension; what each is for stands at the head of its file.
 *
 * Everything is called by the one thread that runs pyfuse3's loop.
 */
#ifndef UNIONFS_NATIVE_H
#define UNIONFS_NATIVE_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* _spin.c */
void spin_limit(long microseconds); /* how long an empty queue is asked again; 0: not at all */
void spin_totals(unsigned long long *ns, unsigned long long *caught);
ssize_t spin_read(int fd, void *buffer, size_t length); /* read(2), asking again as said */

/* _shared.c */
int shared_add(uint64_t node, int fd); /* -1: no memory */
void shared_remove(uint64_t node);
unsigned long long shared_answered(void);
int shared_answer_read(int session, const struct fuse_in_header *head); /* 0: Python has to */

#endif
