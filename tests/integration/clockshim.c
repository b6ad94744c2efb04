/* SPDX-License-Identifier: MIT */
/*
 * To be preloaded: clocks that a test can move under a running program. RTB_CLOCKS names a file of
 * two int64: milliseconds added to CLOCK_BOOTTIME (the machine slept) and to CLOCK_REALTIME (somebody
 * set the clock). The other clocks are left alone, as the kernel does in both cases.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct clocks {
	_Atomic int64_t boot_ms, wall_ms;
};

static struct clocks *clocks;
static int (*real_gettime)(clockid_t id, struct timespec *ts);

__attribute__((constructor)) static void shim_begin(void)
{
	const char *path = getenv("RTB_CLOCKS");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *at;

	real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(struct clocks), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		clocks = at;
}

static void shift(struct timespec *ts, int64_t ms)
{
	int64_t ns = ts->tv_nsec + ms % 1000 * 1000000;

	ts->tv_sec += (time_t)(ms / 1000);
	if (ns < 0) {
		ns += 1000000000;
		ts->tv_sec--;
	} else if (ns >= 1000000000) {
		ns -= 1000000000;
		ts->tv_sec++;
	}
	ts->tv_nsec = (long)ns;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int r;

	if (!real_gettime)
		real_gettime =
			(int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	r = real_gettime(id, ts);
	if (r == 0 && clocks && id == CLOCK_BOOTTIME)
		shift(ts, atomic_load(&clocks->boot_ms));
	else if (r == 0 && clocks && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		shift(ts, atomic_load(&clocks->wall_ms));
	return r;
}

int gettimeofday(struct timeval *tv, void *tz)
{
	struct timespec ts;
	int r = clock_gettime(CLOCK_REALTIME, &ts);

	(void)tz;
	if (r == 0) {
		tv->tv_sec = ts.tv_sec;
		tv->tv_usec = ts.tv_nsec / 1000;
	}
	return r;
}

time_t time(time_t *ret)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}
