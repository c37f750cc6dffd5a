/*
 * Keeps, beside a state directory, what a power cut would leave of it. Loaded with LD_PRELOAD.
 *
 * POWERCUT_STATE is the directory, POWERCUT_IMAGE the image:
 *   inodes/KEY   a file's content as of its last sync; KEY is its inode number and its birth
 *   dirs/KEY     a directory's entries as of its last sync: "type mode key name" a line
 *   ignore       if there: a pattern of file names whose sync is a lie, to see whether that is noticed
 *
 * Creating, renaming, removing and writing change nothing here; only a sync does, of the file for its content and of
 * the directory for its entries. A kill in the middle of a copy leaves a part of the pages, as a real disk would.
 * sync_file_range is no barrier and does nothing. Nothing is really synced: that only costs time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define CHUNK (256 * PAGE)

static const char *state, *image;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void)
{
	state = getenv("POWERCUT_STATE");
	image = getenv("POWERCUT_IMAGE");
}

static int look(int at, const char *name, struct statx *st, char key[64])
{
	int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
	if (statx(at, name, flags, STATX_BASIC_STATS | STATX_BTIME, st))
		return -1;
	snprintf(key, 64, "%llu-%lld-%u", (unsigned long long)st->stx_ino, (long long)st->stx_btime.tv_sec,
		 st->stx_btime.tv_nsec);
	return 0;
}

/* The path of a file in the state directory; 0 for any other file. */
static int is_ours(int fd, char path[PATH_MAX])
{
	char link[64];
	if (!state || !image)
		return 0;
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t length = readlink(link, path, PATH_MAX - 1);
	if (length < 0)
		return 0;
	path[length] = 0;
	size_t prefix = strlen(state);
	return !strncmp(path, state, prefix) && (!path[prefix] || path[prefix] == '/');
}

static int is_ignored(const char *path)
{
	char name[PATH_MAX], pattern[256] = "";
	snprintf(name, sizeof name, "%s/ignore", image);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t length = read(fd, pattern, sizeof pattern - 1);
	close(fd);
	const char *base = strrchr(path, '/');
	return length > 0 && !fnmatch(pattern, base ? base + 1 : path, 0);
}

static int copy_pages(int from, int to, off_t size)
{
	static char new[CHUNK], old[CHUNK];
	if (ftruncate(to, size))
		return -1;
	for (off_t at = 0; at < size; at += CHUNK) {
		ssize_t length = pread(from, new, CHUNK, at);
		if (length < 0)
			return -1;
		memset(old, 0, sizeof old);
		if (pread(to, old, CHUNK, at) < 0)
			return -1;
		for (ssize_t page = 0; page < length; page += PAGE) {
			size_t n = length - page < PAGE ? length - page : PAGE;
			if (memcmp(new + page, old + page, n) && pwrite(to, new + page, n, at + page) < 0)
				return -1;
		}
	}
	return 0;
}

static int save_file(int fd)
{
	struct statx st;
	char key[64], from[64], to[PATH_MAX];
	if (look(fd, "", &st, key))
		return -1;
	snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
	snprintf(to, sizeof to, "%s/inodes/%s", image, key);
	int source = open(from, O_RDONLY | O_CLOEXEC);
	int target = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int failed = source < 0 || target < 0 || copy_pages(source, target, st.stx_size);
	close(source);
	close(target);
	return failed ? -1 : 0;
}

static int save_dir(int fd)
{
	struct statx st;
	char key[64], aside[PATH_MAX], to[PATH_MAX];
	if (look(fd, "", &st, key))
		return -1;
	snprintf(to, sizeof to, "%s/dirs/%s", image, key);
	snprintf(aside, sizeof aside, "%s/aside-%d", image, getpid());
	DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	FILE *table = fopen(aside, "we");
	if (!dir || !table)
		return -1;
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (look(dirfd(dir), entry->d_name, &st, key))
			continue;
		if (S_ISREG(st.stx_mode) || S_ISDIR(st.stx_mode))
			fprintf(table, "%c %o %s %s\n", S_ISDIR(st.stx_mode) ? 'd' : 'f', st.stx_mode & 07777, key,
				entry->d_name);
	}
	closedir(dir);
	return fclose(table) || rename(aside, to) ? -1 : 0;
}

static int save(int fd, const char *path)
{
	struct statx st;
	char key[64];
	if (look(fd, "", &st, key))
		return -1;
	if (S_ISDIR(st.stx_mode))
		return save_dir(fd);
	return is_ignored(path) ? 0 : save_file(fd);
}

static int save_tree(int fd, const char *path)
{
	if (save(fd, path))
		return -1;
	DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (!dir)
		return 0;
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		int inner = openat(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (inner >= 0) {
			save_tree(inner, entry->d_name);
			close(inner);
		}
	}
	closedir(dir);
	return 0;
}

static int synced(int fd, long call)
{
	char path[PATH_MAX];
	int error = errno;
	if (!is_ours(fd, path))
		return syscall(call, fd);
	pthread_mutex_lock(&one_at_a_time);
	int failed = save(fd, path);
	pthread_mutex_unlock(&one_at_a_time);
	if (failed)
		dprintf(2, "powercut: %s was not copied: %m\n", path);
	errno = failed ? EIO : error;
	return failed;
}

int fsync(int fd)
{
	return synced(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return synced(fd, SYS_fdatasync);
}

int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags)
{
	(void)fd, (void)offset, (void)bytes, (void)flags;
	return 0;
}

void sync(void)
{
	int fd = state && image ? open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	pthread_mutex_lock(&one_at_a_time);
	save_tree(fd, state);
	pthread_mutex_unlock(&one_at_a_time);
	close(fd);
}

int syncfs(int fd)
{
	char path[PATH_MAX];
	if (!is_ours(fd, path))
		return syscall(SYS_syncfs, fd);
	sync();
	return 0;
}
