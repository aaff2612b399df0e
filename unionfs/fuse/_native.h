/* The parts of the extension; what each is for stands at the head of its file.
 *
 * Everything is called by the one thread that runs pyfuse3's loop.
 */
#ifndef UNIONFS_NATIVE_H
#define UNIONFS_NATIVE_H

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#define OPCODES 64 /* more than there are */
#define TMPFILE 51 /* FUSE_TMPFILE, of newer headers (Linux 6.2) */
#define CAPABILITY "security.capability"
#define IN_FLIGHT 128 /* more requests than pyfuse3 has workers */
#define INODE ((1ULL << 56) - 1) /* the largest that has a number; unionfs.fuse.numbers */
#define FOREVER 1000000000 /* seconds; unionfs.fuse.inodes.FOREVER */

/* For tables by node: its number times 2^64 / the golden ratio (Knuth, TAOCP 3, 6.4); the upper bits
 * of that differ for numbers that follow one another. */
static inline uint64_t spread(uint64_t node)
{
	return node * 0x9E3779B97F4A7C15ULL;
}

/* _native.c */
int session_descriptor(void); /* -1: no session is hooked */
void session_enable(void); /* before the session is mounted */
void session_write_after_init(int fd, const char *text, size_t size); /* and close it */
void session_hear_releases(void);
/* Write an answer that Python gives, as if libfuse did. */
void session_reply(int fd, const struct fuse_in_header *head, int error, const void *body, size_t size);
unsigned long long session_misses(void);
unsigned long long session_answered(void);
size_t descriptors_kept(size_t most); /* in one table, of which both are powers of two */

/* _asked.c; of the request read last */
void asked_for(const struct fuse_in_header *head, size_t size); /* it is this one */
void asked_by(uint32_t *uid, uint32_t *gid, uint32_t *pid);
int asked_to_kill_privileges(void); /* it has to remove set-id bits */
int asked_for_mapped(void); /* it is a WRITE of what a mapping holds */

/* _relay.c */
typedef ssize_t (*read_hook)(int fd, void *buffer, size_t length, void *userdata);
typedef ssize_t (*writev_hook)(int fd, struct iovec *parts, int count, void *userdata);
struct fuse_session;
/* Let the session, whose descriptor is fd, use the hooks. Returns the device's descriptor; -1: cannot */
int relay_hook(struct fuse_session *session, int fd, read_hook read, writev_hook writev);
int relay_on(void); /* libfuse refuses custom I/O */
void relay_init(struct fuse_init_out *init); /* the answer to INIT */

/* _stats.c */
#define BUCKETS 40 /* the last begins at 2^39 ns, nine minutes */
struct operation {
	uint64_t count, errors, total_ns, longest_ns;
	uint64_t buckets[BUCKETS]; /* how many took from 2^n ns, the first from 0 on, to 2^(n+1) */
};
uint64_t stats_begin(const struct fuse_in_header *head); /* every request; returns the time */
void stats_end(uint64_t unique, int error); /* every reply */
const struct operation *stats_of(uint32_t opcode); /* below OPCODES */

/* _trace.c; the next two are called only while somebody traces */
struct record { /* unionfs.inspect.records.RECORD */
	uint64_t start_ns, took_ns;
	uint64_t node, second, shown; /* it is about; of its other name; whose layer is to be told */
	uint64_t size, offset;
	uint32_t names_at; /* the first, then the other; counted from the first that was told */
	uint32_t pid;
	int32_t error;
	uint8_t opcode, hooked, first_size, other_size;
	char command[16];
};
struct traced {
	const struct record *records;
	size_t record_count;
	const char *heap;
	size_t heap_size;
	uint64_t lost;
};
extern int trace_on; /* somebody traces */
void trace_begin(const struct fuse_in_header *head, size_t size, uint64_t now_ns); /* of each */
void trace_end(uint64_t unique, int error, const void *body, size_t size, int hooked); /* its reply */
int trace_for(const uint32_t *pids, size_t count); /* these trace; none: nobody. -1: no memory */
size_t trace_waiting(void); /* how many records */
int trace_mentions(uint64_t node); /* whether one of them is about the node */
void trace_found(struct traced *found);
void trace_taken(void); /* what was found */

/* _command.c */
void command_asked(struct record *record, int executes); /* name who asks; whether on the way to exec */
void command_answered(const struct record *record);
void command_end(void); /* nobody traces any more */

/* _spin.c */
void spin_limit(long microseconds); /* how long an empty queue is asked again; 0: not at all */
void spin_totals(unsigned long long *ns, unsigned long long *caught);
void spin_request(const struct fuse_in_header *head, uint64_t now_ns); /* every request */
ssize_t spin_read(int fd, void *buffer, size_t length); /* read(2), asking again as said */

/* _nap.c */
void nap_limit(int milliseconds); /* how long an empty queue is waited for; 0: not at all */
int nap(int fd); /* wait for it; whether there is something now */

/* _answer.c; the first two return 1 */
int answer_with(int session, const struct fuse_in_header *head, int error, const void *body,
		size_t size);
int answer_with_stat(int session, const struct fuse_in_header *head, const struct stat *st,
		     uint32_t nlink);

void attr_of_stat(struct fuse_attr *attr, uint64_t node, const struct stat *st, uint32_t nlink);
struct statx;
struct fuse_attr attr_of_statx(const struct statx *stx);

int answer_from(int session, const struct fuse_in_header *head, int fd); /* a READ; 0: no memory */
int answered_error(void); /* of the latest of them */
int answer_was_taken(void); /* the kernel took the latest: nobody was interrupted */

/* _pipe.c */
enum piped { NOT_PIPED, PIPED, PIPED_TO_NOBODY /* the caller was interrupted */ };
/* Answer a READ from the file if it is a large one; says how many bytes it was. */
enum piped pipe_answer(int session, const struct fuse_in_header *head, int fd, size_t *size);

/* _warm.c */
/* Have the directories of that name in all of the parents, whose order it changes, read from the disk
 * if they have to be. Returns how many. */
size_t warm_up(int *parents, size_t count, const char *name);

/* _shared.c */
int shared_add(uint64_t node, int fd, int own); /* -1: no memory */
void shared_remove(uint64_t node);
int shared_answer(int session, const struct fuse_in_header *head, size_t size); /* 0: Python has to */

/* _known.c */
void known_request(const struct fuse_in_header *head, size_t size); /* every request, first of all */
void known_done(uint64_t unique); /* the request has been answered */
void known_reply(const struct fuse_out_header *head, const void *body, size_t size);
void known_listed(const struct fuse_entry_out *entry); /* an entry of a listing's reply */
void known_end(uint64_t node, uint64_t position); /* nothing follows it in the directory */
int known_answer_end(int session, const struct fuse_in_header *head, size_t size); /* of a listing */
void known_forget(void); /* all attributes */
int known_answer_getattr(int session, const struct fuse_in_header *head); /* 0: Python has to */
int known_answer_getxattr(int session, const struct fuse_in_header *head, size_t size);
int known_answer_ioctl(int session, const struct fuse_in_header *head, size_t size);
int known_may_change(uint64_t node, int is_dir); /* a request under way may change the node */
uint64_t known_era(int is_dir); /* what is from another one is not known any more */
int known_changes(void); /* how many requests that may change something are under way */

/* _dirs.c */
int dirs_share(uint64_t node, int fd, int merged); /* fd is -1: no more; returns -1: no descriptor left */
int dirs_descriptor(uint64_t node); /* -1: it is not shared */
void dirs_forget(uint64_t node); /* the kernel does */
void dirs_unshare(void); /* all of them */
int dirs_answer(int session, const struct fuse_in_header *head); /* of a GETATTR; 0: it is none */

/* _lower.c */
#define LOWER 1 /* in the upper half of an entry's generation: its lower is the number of the layer */
struct lower_place { /* of a file in a layer */
	uint64_t dir;
	uint32_t layer;
	const char *name; /* for the moment */
};
void lower_request(const struct fuse_in_header *head, size_t size);
void lower_reply(const struct fuse_out_header *head, void *body, size_t size);
void lower_told(uint64_t dir, const char *name, size_t length, struct fuse_entry_out *entry);
void lower_forget(uint64_t node); /* it is about to change, or the kernel forgets it */
void lower_share(uint64_t dir, uint32_t layer, int fd, const char *mark);
void lower_unshare(void); /* all of them */
int lower_answer_read(int session, const struct fuse_in_header *head, size_t size); /* 0: Python */

/* _xattrless.c */
void xattrless_share(uint64_t node, int is_dir);
void xattrless_forget(uint64_t node); /* it is about to change, or the kernel forgets it */
int xattrless_answer_get(int session, const struct fuse_in_header *head, size_t size);
int xattrless_answer_list(int session, const struct fuse_in_header *head, size_t size);

/* _absent.c */
void absent_request(const struct fuse_in_header *head, size_t size); /* every request */
void absent_done(uint64_t unique); /* the request has been answered */
void absent_forget(uint64_t node); /* the kernel forgets it: its names are to be shared anew */
int absent_wanted(uint64_t node); /* whether its names are worth sharing */
void absent_share(uint64_t node, const char *all, size_t size, size_t count); /* ends included */
int absent_answer(int session, const struct fuse_in_header *head, size_t size); /* of a LOOKUP */

/* _lend.c; answers are 0: Python has to */
int lent_answer_lookup(int session, const struct fuse_in_header *head, size_t size);
int lent_answer_list(int session, const struct fuse_in_header *head, size_t size);

/* _lentfile.c; the same */
int lent_answer_getattr(int session, const struct fuse_in_header *head);
void lent_told(uint64_t node, const struct fuse_attr *attr); /* by Python, if it is a lent directory */
int lent_answer_access(int session, const struct fuse_in_header *head, size_t size);
int lent_answer_readlink(int session, const struct fuse_in_header *head);
void lent_look_at_attributes(const struct fuse_in_header *head); /* it asks for some: xattrless? */
int lent_answer_getxattr(int session, const struct fuse_in_header *head, size_t size);
int lent_where_is(uint64_t node, struct lower_place *place); /* of a file; 0: it is none of these */
void lent_share(uint64_t node, uint32_t layer); /* a file there is to be read: lower_share() */
/* Take out of a FORGET what Python does not know; returns its new size, 0: nothing is left. */
size_t lent_forget(struct fuse_in_header *head, size_t size);

/* _nextfiles.c */
void next_off(void); /* nothing is to be read ahead */
void next_listed(uint64_t node); /* the directory was listed from its beginning */
void next_read(uint64_t node); /* the file was read from its beginning */
int next_work(void); /* no request waits: ask for a file; 0: there is none to be asked for */
void next_totals(unsigned long long *files, unsigned long long *right); /* asked for; read so */

/* _entries.c */
void entries_asked(const struct fuse_in_header *head); /* a READDIRPLUS that goes to Python */
void entries_told(const struct fuse_out_header *head, void *body, size_t size); /* every reply */

/* _direct.c; answers are 0: the long way, through pyfuse3 */
int direct_answer(int session, const struct fuse_in_header *head, size_t size);
int direct_forget(const struct fuse_in_header *head, size_t size);
int direct_settle(void); /* tell Python of all that was put off; 0: there is nothing */

/* _removing.c */
void removing_end(void); /* something changes, and not by the removal of a name */
void removing_forget(uint64_t node);
int removing_answer(int session, const struct fuse_in_header *head, size_t size); /* 0: Python has to */
int removing_settle(void); /* tell Python of names that are gone; 0: there are none */

/* _carry.c */
size_t carry(struct fuse_in_header *head, size_t size, size_t room); /* the request's new size */
uint32_t carried_request(const void **body, size_t *size); /* its opcode; 0: nothing was carried */
uint32_t carried_flags(void); /* of the SETXATTR read last */
int carried_tmpfile(void); /* whether the CREATE read last was a TMPFILE */
int carried_touch(void); /* whether the SETATTR read last sets both times to now */

/* _passing.c */
void passing_wanted(void); /* before the session is mounted */
void passing_init(struct fuse_init_out *out, const struct fuse_init_in *offered);
void passing_request(const struct fuse_in_header *head);
void passing_reply(const struct fuse_out_header *head, void *body, size_t size);
int passing_back(int session, int fd); /* 0: the kernel refuses */
void passing_unback(int session, int backing);

/* _number.c */
void number_root(uint64_t ino); /* what st_ino of the root is to show; 0: as the node */
void number_asked(const struct fuse_in_header *head); /* a request that is answered by attributes */
void number_answer(const struct fuse_out_header *head, void *body, size_t size);
uint64_t number_shown(uint64_t ino); /* for listings */
void number_near(int bits); /* of inode numbers that their filesystem's place is next to */
/* A file's number, of that of its inode and what short ones and others get added. */
uint64_t number_made(uint64_t near, uint64_t far, uint64_t ino);
uint64_t number_inode(uint64_t node); /* of a file that has the number of its inode */

#endif
