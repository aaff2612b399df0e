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

/* _carry.c */
size_t carry(struct fuse_in_header *head, size_t size, size_t room); /* the request's new size */
uint32_t carried_request(const void **body, size_t *size); /* its opcode; 0: nothing was carried */
uint32_t carried_flags(void); /* of the SETXATTR read last */
int carried_tmpfile(void); /* whether the CREATE read last was a TMPFILE */

/* _number.c */
void number_root(uint64_t ino); /* what st_ino of the root is to show; 0: as the node */
void number_asked(const struct fuse_in_header *head); /* a request that is answered by attributes */
void number_answer(const struct fuse_out_header *head, void *body, size_t size);
uint64_t number_shown(uint64_t ino); /* for listings */

#endif
