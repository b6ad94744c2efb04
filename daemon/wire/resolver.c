/* SPDX-License-Identifier: MIT */
#include "wire/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/thread.h"

/*
 * job: WAITING --thread is back--> done --dispatch--> delivered, freed
 *         \--deadline, cancel, new lookup--> abandoned --thread is back--> freed by the thread
 */
struct job {
	struct resolver *r;
	unsigned slot;
	uint64_t cookie;
	uint64_t deadline_ns;
	uint32_t timeout_ms;
	bool done, abandoned;
	char host[RESOLVER_HOST_MAX + 1];
	struct resolver_answer answer;
};

struct resolver {
	pthread_mutex_t lock;
	unsigned n_refs; /* M and each running thread */
	bool closed;
	/* Timer of the next deadline, and the bell: a thread that is back sets it to now. */
	int tfd;
	resolver_fn fn;
	void *ctx;
	resolver_lookup_fn lookup;
	struct job *jobs[RESOLVER_SLOTS];
};

static void lookup_system(const char *host, struct resolver_answer *ret);

static resolver_lookup_fn lookup_now = lookup_system;

void resolver_set_lookup(resolver_lookup_fn fn)
{
	lookup_now = fn ? fn : lookup_system;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void answer_add(struct resolver_answer *a, const struct sockaddr *sa)
{
	char *text = a->addrs[a->n_addrs];
	const void *raw;

	if (sa->sa_family == AF_INET6)
		raw = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	else if (sa->sa_family == AF_INET)
		raw = &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
	else
		return;
	if (!inet_ntop(sa->sa_family, raw, text, sizeof(a->addrs[0])))
		return;
	for (int i = 0; i < a->n_addrs; i++) {
		if (strcmp(a->addrs[i], text) == 0)
			return;
	}
	a->n_addrs++;
}

/* AI_ADDRCONFIG would refuse these on a host without a network. */
bool resolver_is_localhost(const char *host)
{
	size_t len = strlen(host);

	if (len > 0 && host[len - 1] == '.')
		len--;
	return (len == 9 && strncasecmp(host, "localhost", 9) == 0) ||
	       (len > 10 && strncasecmp(host + len - 10, ".localhost", 10) == 0);
}

static void lookup_system(const char *host, struct resolver_answer *ret)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	int r;

	if (!resolver_is_localhost(host))
		hints.ai_flags = AI_ADDRCONFIG;
	r = getaddrinfo(host, NULL, &hints, &list);
	if (r != 0) {
		snprintf(ret->text, sizeof(ret->text), "%s",
			 r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
		return;
	}
	for (struct addrinfo *ai = list; ai && ret->n_addrs < RESOLVER_MAX_ADDRS; ai = ai->ai_next)
		answer_add(ret, ai->ai_addr);
	freeaddrinfo(list);
}

void resolver_interleave(struct resolver_answer *a)
{
	char sorted[RESOLVER_MAX_ADDRS][46];
	int next[2] = { 0, 0 };
	int family, n = 0;

	if (a->n_addrs == 0)
		return;
	family = strchr(a->addrs[0], ':') != NULL;
	while (n < a->n_addrs) {
		while (next[family] < a->n_addrs &&
		       (strchr(a->addrs[next[family]], ':') != NULL) != (family == 1))
			next[family]++;
		if (next[family] < a->n_addrs)
			memcpy(sorted[n++], a->addrs[next[family]++], sizeof(sorted[0]));
		family = !family;
	}
	memcpy(a->addrs, sorted, sizeof(sorted[0]) * (size_t)a->n_addrs);
}

/* With the lock held: drops it, frees with the last reference. */
static void resolver_unref_unlock(struct resolver *r)
{
	bool last = --r->n_refs == 0;

	pthread_mutex_unlock(&r->lock);
	if (last) {
		pthread_mutex_destroy(&r->lock);
		free(r);
	}
}

static void ring_at(const struct resolver *r, uint64_t at_ns)
{
	struct itimerspec when = { .it_value = { .tv_sec = (time_t)(at_ns / 1000000000u),
						 .tv_nsec = (long)(at_ns % 1000000000u) } };

	timerfd_settime(r->tfd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void *job_thread(void *arg)
{
	struct job *job = arg;
	struct resolver *r = job->r;
	struct resolver_answer answer = { 0 };

	r->lookup(job->host, &answer);
	if (answer.n_addrs > RESOLVER_MAX_ADDRS)
		answer.n_addrs = RESOLVER_MAX_ADDRS;
	if (answer.n_addrs == 0 && !answer.text[0])
		snprintf(answer.text, sizeof(answer.text), "the name has no address");
	resolver_interleave(&answer);
	pthread_mutex_lock(&r->lock);
	if (job->abandoned) {
		free(job);
	} else {
		job->answer = answer;
		job->done = true;
		if (!r->closed)
			ring_at(r, 1);
	}
	resolver_unref_unlock(r);
	return NULL;
}

int resolver_new(resolver_fn fn, void *ctx, struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->tfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (r->tfd < 0) {
		int e = -errno;

		free(r);
		return e;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->n_refs = 1;
	r->fn = fn;
	r->ctx = ctx;
	r->lookup = lookup_now;
	*ret = r;
	return 0;
}

/* With the lock held. */
static void job_forget(struct resolver *r, unsigned slot)
{
	struct job *job = TAKE(r->jobs[slot]);

	if (job && job->done)
		free(job);
	else if (job)
		job->abandoned = true;
}

/* With the lock held. */
static void rearm(struct resolver *r)
{
	uint64_t at = UINT64_MAX;

	for (unsigned i = 0; i < RESOLVER_SLOTS; i++) {
		struct job *job = r->jobs[i];

		if (job && (job->done || job->deadline_ns < at))
			at = job->done ? 1 : job->deadline_ns;
	}
	ring_at(r, at == UINT64_MAX ? 0 : at); /* 0 disarms */
}

struct resolver *resolver_free(struct resolver *r)
{
	if (r) {
		pthread_mutex_lock(&r->lock);
		for (unsigned i = 0; i < RESOLVER_SLOTS; i++)
			job_forget(r, i);
		r->closed = true;
		close(r->tfd);
		resolver_unref_unlock(r);
	}
	return NULL;
}

int resolver_fd(const struct resolver *r)
{
	return r->tfd;
}

/* Return: a job that is done or late, taken out of its slot, with its answer; NULL. */
static struct job *job_ripe(struct resolver *r, struct job *ret)
{
	uint64_t now = now_ns();
	struct job *found = NULL;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < RESOLVER_SLOTS && !found; i++) {
		struct job *job = r->jobs[i];

		if (!job || (!job->done && job->deadline_ns > now))
			continue;
		*ret = *job;
		found = ret;
		if (!job->done) {
			ret->answer.n_addrs = 0;
			snprintf(ret->answer.text, sizeof(ret->answer.text),
				 "no answer from the name service in %u ms",
				 (unsigned)job->timeout_ms);
		}
		job_forget(r, i);
	}
	if (!found)
		rearm(r);
	pthread_mutex_unlock(&r->lock);
	return found;
}

void resolver_dispatch(struct resolver *r)
{
	uint64_t ticks;
	struct job job;

	if (read(r->tfd, &ticks, sizeof(ticks)) < 0 && errno != EAGAIN)
		return;
	while (job_ripe(r, &job))
		r->fn(r->ctx, job.slot, job.cookie, &job.answer);
}

static int job_start(struct job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = thread_start(&thread, &attr, job_thread, job);
	pthread_attr_destroy(&attr);
	return r;
}

int resolver_lookup(struct resolver *r, unsigned slot, uint64_t cookie, const char *host,
		    uint32_t timeout_ms)
{
	struct job *job;
	int e;

	if (strlen(host) > RESOLVER_HOST_MAX)
		return -ENAMETOOLONG;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	*job = (struct job){ .r = r, .slot = slot, .cookie = cookie, .timeout_ms = timeout_ms };
	job->deadline_ns = now_ns() + timeout_ms * UINT64_C(1000000);
	strcpy(job->host, host);
	pthread_mutex_lock(&r->lock);
	job_forget(r, slot);
	e = r->n_refs > RESOLVER_MAX_THREADS ? -EAGAIN : 0;
	if (e == 0) {
		r->n_refs++;
		e = job_start(job);
		if (e < 0)
			r->n_refs--;
	}
	if (e == 0)
		r->jobs[slot] = job;
	else
		free(job);
	rearm(r);
	pthread_mutex_unlock(&r->lock);
	return e;
}

void resolver_cancel(struct resolver *r, unsigned slot)
{
	pthread_mutex_lock(&r->lock);
	job_forget(r, slot);
	pthread_mutex_unlock(&r->lock);
}
