// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group mmu_lock: who had to wait for a VM's mmu_lock, how often and how long, readers and writers apart.
 *
 * The tracepoints tell of every contended lock of the kernel, by its address. That a lock is a VM's is seen from what
 * stands around it, so that waiting counts in whatever thread it happens: a vCPU's, another of the VMM, or the kernel's
 * own that takes memory from the VM. Locks of other kinds are told by their flags and cost one comparison.
 */
#include "timed.h"

struct row {
	struct timed readers, writers;
};

struct constants {};

struct scratch {
	u64 lock; /* that the thread is waiting for */
	u64 since_ns;
	u64 writes;
};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kvm___lock { rwlock_t mmu_lock; };
#pragma clang attribute pop

/* LCB_F_ of include/trace/events/lock.h */
#define LOCK_SPINS 1
#define LOCK_READ 2
#define LOCK_WRITE 4
#define LOCK_RT 8 /* an rwlock of a kernel with PREEMPT_RT, where it sleeps */

/* (lock, flags), in the thread that is to wait. What can be done here is done here, where there is time, and not once the
 * thread has the lock and others wait for it. */
SEC("?tp_btf/contention_begin")
int begin(unsigned long long *ctx)
{
	u64 lock = ctx[0], kvm = lock - bpf_core_field_offset(struct kvm___lock, mmu_lock), born;
	u32 flags = ctx[1];
	struct thread *thread;

	if (!(flags & (LOCK_SPINS | LOCK_RT)) || !(flags & (LOCK_READ | LOCK_WRITE)))
		return 0;
	if (!is_vm(kvm))
		return 0; /* and what stands where a VM has pointers is not followed */
	born = read_born(kvm);
	thread = this_thread();
	if (!thread || !place_of_vm(thread, kvm, born))
		return 0;
	thread->own.writes = flags & LOCK_WRITE;
	thread->own.lock = lock;
	thread->own.since_ns = bpf_ktime_get_ns();
	return 0;
}

/* (lock, ret), in the same thread, once it has the lock */
SEC("?tp_btf/contention_end")
int end(unsigned long long *ctx)
{
	struct thread *thread = thread_of((struct task_struct *)bpf_get_current_task_btf(), 0);
	struct who *place;
	struct timed *side;
	struct row *row;
	u64 ns;

	if (!thread || !thread->own.lock || thread->own.lock != ctx[0])
		return 0;
	ns = bpf_ktime_get_ns() - thread->own.since_ns;
	thread->own.lock = 0;
	place = slot_held(thread, thread->subject, thread->born);
	row = place ? row_of(thread->slot, 0) : 0;
	if (!row)
		return 0;
	place->last_ns = thread->own.since_ns + ns;
	side = thread->own.writes ? &row->writers : &row->readers;
	count_shared(side, ns);
	return 0;
}
