/* The wall clock of one process, shifted while it runs: loaded before everything else (LD_PRELOAD), it adds to the real
   time the seconds that stand in the file TEST_CLOCK, and counts in it how often a shifted time was given. Only
   CLOCK_REALTIME is shifted. A wait until a wall-clock time ends by the shifted clock, as the kernel's does when the
   clock is set. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

struct shared { _Atomic long long offset_seconds; _Atomic long long shifted; };
static struct shared *shared;

__attribute__((constructor)) static void open_shared(void) {
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort(); /* a fault that does not happen must not pass */
    close(file);
    shared = at;
}

static long long offset(void) {
    long long seconds = shared ? atomic_load(&shared->offset_seconds) : 0;
    if (seconds) atomic_fetch_add(&shared->shifted, 1);
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *time, int base) {
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, time) ? base : 0;
}

/* In slices, since the clock may be set meanwhile. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    const long long slice = 50 * 1000 * 1000;
    for (;;) {
        struct timespec now, end;
        clock_gettime(CLOCK_REALTIME, &now);
        long long seconds = until->tv_sec - now.tv_sec;
        long long left = seconds > 1 ? slice : seconds * 1000000000 + until->tv_nsec - now.tv_nsec;
        if (seconds < -1 || left <= 0) return ETIMEDOUT;
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_nsec += left < slice ? left : slice;
        if (end.tv_nsec >= 1000000000) { end.tv_sec++; end.tv_nsec -= 1000000000; }
        int result = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &end);
        if (result != ETIMEDOUT) return result;
    }
}

/* What librdkafka calls; in glibc it goes by the kernel's clock without asking the function above. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
