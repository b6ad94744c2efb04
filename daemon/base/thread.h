/* SPDX-License-Identifier: MIT */
#pragma once
/* Threads beside M. */
#include <pthread.h>

/* pthread_create() of one that takes no signals, which belong to M, but those of its own faults:
 * blocked they would end the process without a word. `attr` may be NULL. Return: 0; a negative errno. */
int thread_start(pthread_t *ret, const pthread_attr_t *attr, void *(*fn)(void *arg), void *arg);
