/* The least that reading statistics by their fds can cost: one pread of each data block, in C, and nothing else. */
#include <stdint.h>
#include <time.h>
#include <unistd.h>

struct stats_file {
	int fd;
	int size; /* of the data block */
	int64_t offset;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Reads all files, one block behind the other into `out`. Nanoseconds that it took; -1 if a block came short. */
int64_t read_all(const struct stats_file *files, int count, char *out)
{
	int64_t began = now_ns();
	int i;

	for (i = 0; i < count; i++) {
		if (pread(files[i].fd, out, files[i].size, files[i].offset) != files[i].size)
			return -1;
		out += files[i].size;
	}
	return now_ns() - began;
}
