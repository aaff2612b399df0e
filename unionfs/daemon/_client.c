/* The program `unionfs`: a mount is asked of the resident spawner, without starting Python for it.
 *
 * It says what unionfs/daemon/resident.py says, and that is where it is explained. Everything else,
 * and whatever the spawner does not take, is done by the Python program beside this one, with the
 * same words: it is told in the environment how this one was called. Nothing is decided here that
 * Python decides: the spawner is sent the words as they are, and says whether they are a mount.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PYTHON "unionfs-python" /* in this program's directory */
#define CALLED "UNIONFS_CALLED" /* unionfs.cli.main.CALLED */
#define LONGEST (192 << 10) /* unionfs.daemon.resident.LONGEST */
#define INTERRUPTED 130 /* unionfs.cli.main.INTERRUPTED */
#define PATIENCE 5 /* unionfs.daemon.resident.PATIENCE */
#define INITIAL_USER_NAMESPACE 0xEFFFFFFDU /* PROC_USER_INIT_INO in Linux */
#define OVERFLOW_USER 65534 /* unionfs.daemon.resident._OVERFLOW_USER */
#define STANDARD 3 /* input, output and error */
#define NOBODY (-1) /* instead of a status: Python has to do it */

struct message {
	size_t size;
	char text[LONGEST];
};

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "unionfs: error: %s%s\n", what, why);
	return 1;
}

/* Add a field; return 0 where there is no room for it. */
static int add(struct message *message, const char *field)
{
	size_t size = strlen(field), gap = message->size != 0;

	if (size + gap > LONGEST - message->size)
		return 0;
	if (gap)
		message->text[message->size] = '\0';
	memcpy(message->text + message->size + gap, field, size);
	message->size += gap + size;
	return 1;
}

/* resident.pack: version, umask, number of words, words, environment. */
static int pack(struct message *message, char **argv)
{
	mode_t mask = umask(077);
	char number[32];
	int count = 0, fits;

	umask(mask);
	while (argv[count])
		count++;
	fits = add(message, VERSION);
	snprintf(number, sizeof(number), "%o", (unsigned)mask);
	fits = fits && add(message, number);
	snprintf(number, sizeof(number), "%d", count);
	fits = fits && add(message, number);
	for (int i = 0; fits && i < count; i++)
		fits = add(message, argv[i]);
	for (char **variable = environ; fits && *variable; variable++)
		if (strchr(*variable, '='))
			fits = add(message, *variable);
	return fits;
}

/* Return whether to ask at all; it says yes too often. (Two words alone are no mount, but an error.) */
static int may_be_mount(char **argv)
{
	const char *slash = strrchr(argv[0], '/');

	if (!strncmp(slash ? slash + 1 : argv[0], "mount.", 6))
		return 1;
	for (char **word = argv + 1; *word; word++)
		if (!strncmp(*word, "-o", 2) || !strcmp(*word, "mount"))
			return 1;
	return 0;
}

static int in_initial_user_namespace(void)
{
	struct stat status;

	return stat("/proc/self/ns/user", &status) == 0 &&
	       status.st_ino == INITIAL_USER_NAMESPACE;
}

/* resident.socket_path; return 0 where there is none, or none that a socket can have. */
static int find_socket(struct sockaddr_un *address)
{
	const char *given = getenv("UNIONFS_SERVE"), *runtime = getenv("XDG_RUNTIME_DIR");
	const char *start = "", *end = "/run/unionfs/serve";
	int size;

	if (given) {
		end = given;
	} else if (runtime && *runtime && (geteuid() != 0 || !in_initial_user_namespace())) {
		start = runtime;
		end = "/unionfs/serve";
	} else if (geteuid() != 0) {
		return 0;
	}
	address->sun_family = AF_UNIX;
	size = snprintf(address->sun_path, sizeof(address->sun_path), "%s%s", start, end);
	return size > 0 && (size_t)size < sizeof(address->sun_path);
}

static uid_t overflow_user(void)
{
	unsigned number = OVERFLOW_USER;
	FILE *file = fopen("/proc/sys/fs/overflowuid", "re");

	if (file) {
		if (fscanf(file, "%u", &number) != 1)
			number = OVERFLOW_USER;
		fclose(file);
	}
	return number;
}

/* Return whether this user listens at the other end, and nobody who only looks like him. */
static int is_mine(int connection)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
	       size == sizeof(peer) && peer.uid == geteuid() &&
	       (in_initial_user_namespace() || peer.uid != overflow_user());
}

/* Let no call take longer; 0: as long as it likes. connect(2) waits for as long as send(2). */
static void be_patient(int connection, time_t seconds)
{
	struct timeval limit = {.tv_sec = seconds};

	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* Send the standard descriptors and the working directory, with a byte that says nothing. */
static int send_descriptors(int connection, int here)
{
	union {
		struct cmsghdr head; /* for its alignment */
		char room[CMSG_SPACE((STANDARD + 1) * sizeof(int))];
	} control = {0};
	int descriptors[STANDARD + 1] = {0, 1, 2, here};
	struct iovec text = {.iov_base = "", .iov_len = 1};
	struct msghdr call = {
		.msg_iov = &text, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *head = CMSG_FIRSTHDR(&call);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(descriptors));
	memcpy(CMSG_DATA(head), descriptors, sizeof(descriptors));
	return sendmsg(connection, &call, MSG_NOSIGNAL) == 1;
}

static ssize_t receive(int connection, char *room, size_t size)
{
	ssize_t got;

	do
		got = recv(connection, room, size, 0);
	while (got < 0 && errno == EINTR);
	return got;
}

/* Return whether the spawner takes the call; errno is EAGAIN where it does not say. */
static int is_taken(int connection, const struct message *message)
{
	static const char taken[] = "taken";
	char answer[64];

	return send(connection, message->text, message->size, MSG_NOSIGNAL) ==
		       (ssize_t)message->size &&
	       receive(connection, answer, sizeof(answer)) == sizeof(taken) - 1 &&
	       !memcmp(answer, taken, sizeof(taken) - 1);
}

/* Return the status that the spawner tells. */
static int await_status(int connection)
{
	static const char not_here[] = "not here";
	char answer[64] = "";
	ssize_t size = receive(connection, answer, sizeof(answer) - 1);

	if (size == sizeof(not_here) - 1 && !strcmp(answer, not_here))
		return NOBODY;
	if (size < 1 || size > 3 || strspn(answer, "0123456789") != (size_t)size || atoi(answer) > 255)
		return fail("the resident spawner ended before it said whether it is mounted", "");
	return atoi(answer);
}

static int ask_at(const struct sockaddr_un *address, int here, const struct message *message)
{
	int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), status = NOBODY;

	if (connection < 0)
		return NOBODY;
	be_patient(connection, PATIENCE);
	errno = 0;
	if (connect(connection, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
	    is_mine(connection) && is_taken(connection, message)) {
		be_patient(connection, 0);
		status = send_descriptors(connection, here) ? await_status(connection) : NOBODY;
	} else if (errno == EAGAIN) {
		fputs("unionfs: the resident spawner does not answer: going on without it\n",
		      stderr);
	}
	close(connection);
	return status;
}

static int are_open(void)
{
	for (int number = 0; number < STANDARD; number++)
		if (fcntl(number, F_GETFD) < 0)
			return 0; /* what is opened next would be taken for it */
	return 1;
}

/* resident.ask */
static int ask(char **argv)
{
	static struct message message;
	struct sockaddr_un address = {0};
	int here, status;

	if (!are_open() || !find_socket(&address) || !pack(&message, argv))
		return NOBODY;
	here = open(".", O_PATH | O_CLOEXEC);
	if (here < 0)
		return NOBODY;
	status = ask_at(&address, here, &message);
	close(here);
	return status;
}

static void interrupted(int number)
{
	(void)number;
	_exit(INTERRUPTED);
}

static void heed_interrupts(void)
{
	struct sigaction action;

	if (sigaction(SIGINT, NULL, &action) || action.sa_handler == SIG_IGN)
		return;
	action.sa_handler = interrupted;
	sigaction(SIGINT, &action, NULL);
}

/* Put this program's own path, without links, into *path*; return 0 where it is not to be found. */
static int find_myself(char path[PATH_MAX])
{
	ssize_t size = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (size > 0) {
		path[size] = '\0';
		return 1;
	}
	return realpath((const char *)getauxval(AT_EXECFN), path) != NULL;
}

static int be_python(const char *myself, char **argv)
{
	char program[PATH_MAX + sizeof(PYTHON)];
	const char *slash = strrchr(myself, '/');
	int size = slash ? (int)(slash - myself) + 1 : 0;

	snprintf(program, sizeof(program), "%.*s" PYTHON, size, myself);
	if (setenv(CALLED, argv[0], 1))
		return fail("out of memory", "");
	execv(program, argv);
	fprintf(stderr, "unionfs: error: %s: %s\n", program, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	static char *nameless[] = {"unionfs", NULL};
	char myself[PATH_MAX];
	struct stat status;
	int done = NOBODY;

	if (argc < 1)
		argv = nameless;
	if (!find_myself(myself))
		return fail("cannot find where this program is: /proc is missing", "");
	if (getauxval(AT_SECURE)) { /* whoever calls us has another's privileges: ask nobody he names */
		if (stat(myself, &status) || status.st_mode & (S_ISUID | S_ISGID))
			return fail(myself, ": must not be set-user-ID or set-group-ID");
	} else if (may_be_mount(argv)) {
		heed_interrupts();
		done = ask(argv);
	}
	return done == NOBODY ? be_python(myself, argv) : done;
}
