/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One kind of event as every group keeps it: how often, how long in all, and a histogram of how long. `timed` of base.py
 * describes these words.
 */
#pragma once
#include "../kernel.h"

#define HISTOGRAM_SIZE 32

struct timed {
	u64 count;
	u64 ns;
	u64 histogram[HISTOGRAM_SIZE];
};

/* Bits that are needed to write `x`: fls64() of the kernel. */
static __always_inline u32 bits_of(u64 x)
{
	u32 n = 0, low;

	if (x >> 32) {
		n = 32;
		x >>= 32;
	}
	low = x;
	if (low >> 16) {
		n += 16;
		low >>= 16;
	}
	if (low >> 8) {
		n += 8;
		low >>= 8;
	}
	if (low >> 4) {
		n += 4;
		low >>= 4;
	}
	if (low >> 2) {
		n += 2;
		low >>= 2;
	}
	if (low >> 1)
		return n + 2;
	return n + low;
}

/* The bucket of a value, as in kvm_stats_log_hist_update() of include/linux/kvm_host.h: 0 has the first to itself, each
 * that follows is twice as wide, the last has no upper bound. */
static __always_inline u32 bucket_of(u64 value)
{
	u32 bits = bits_of(value);

	return bits < HISTOGRAM_SIZE ? bits : HISTOGRAM_SIZE - 1;
}

/* Adds the time of an event that was counted when it began. Its subject must have one writer at a time. */
static __always_inline void add_time(struct timed *timed, u64 ns)
{
	timed->ns += ns;
	timed->histogram[bucket_of(ns) & (HISTOGRAM_SIZE - 1)]++;
}

/* Counts an event and its time where many write at once. */
static __always_inline void count_shared(struct timed *timed, u64 ns)
{
	__sync_fetch_and_add(&timed->count, 1);
	__sync_fetch_and_add(&timed->ns, ns);
	__sync_fetch_and_add(&timed->histogram[bucket_of(ns) & (HISTOGRAM_SIZE - 1)], 1);
}
