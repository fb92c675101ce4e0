/* A process's clock is off by CLOCK_OFF_S seconds, as of a machine that nobody sets: LD_PRELOAD.
   Only the time of day; what measures durations goes on as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* Seconds of a deadline above that are of the time of day, not since the machine's start. */
#define TIME_OF_DAY 1000000000

static time_t off(void) {
  static time_t found;
  static int known;
  if (!known) {
    const char *text = getenv("CLOCK_OFF_S");
    found = text ? atol(text) : 0;
    known = 1;
  }
  return found;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int status = syscall(SYS_clock_gettime, clock, now);
  if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
  return status;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec found;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &found);
  now->tv_sec = found.tv_sec;
  now->tv_usec = found.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *now) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now) *now = found.tv_sec;
  return found.tv_sec;
}

int timespec_get(struct timespec *now, int base) {
  return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

/* A deadline was computed from our clock; the kernel waits for its own. */
static struct timespec right(const struct timespec *until) {
  struct timespec deadline = *until;
  if (deadline.tv_sec > TIME_OF_DAY) deadline.tv_sec -= off();
  return deadline;
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
  static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
  struct timespec deadline = right(until);
  if (!wait) wait = dlsym(RTLD_NEXT, "cnd_timedwait");
  return wait(cond, mutex, &deadline);
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  struct timespec deadline = right(until);
  if (!wait) wait = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!wait) wait = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  return wait(cond, mutex, &deadline);
}
