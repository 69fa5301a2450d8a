// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group wakeups: how long a halted vCPU takes from being woken to running its guest again.
 *
 * It begins where somebody wakes the vCPU's thread while that sleeps in a halt (sched_waking), and ends at the next
 * kvm_entry; or, with a KVM that has none, where KVM goes on with the vCPU (kvm_vcpu_wakeup). A halt that polling ended,
 * or that found its interrupt before the thread slept, is none; nor is one after which KVM_RUN returned first.
 */
#include "timed.h"

struct row {
	struct timed wakeups;
};

struct constants {
	u32 to_entry; /* else to kvm_vcpu_wakeup */
	u32 reserved;
};

struct scratch {
	u64 waking_ns; /* when the sleep that goes on was ended */
	u64 woken_ns;  /* the same of the halt that is over; 0: it is not to be counted */
	u64 is_known;  /* whose vCPU it is was looked at in this KVM_RUN, in which its VM cannot be destroyed */
};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kvm_vcpu_stat_generic { u64 blocking; };
struct kvm_vcpu_stat___generic { struct kvm_vcpu_stat_generic generic; };
struct kvm_vcpu___stat { struct kvm_vcpu_stat___generic stat; };
#pragma clang attribute pop

static __always_inline int count_wakeup(struct thread *thread, u64 since_ns)
{
	u64 vcpu = loaded_vcpu(), now;
	struct who *place;
	struct row *row;

	if (!vcpu)
		return 0;
	place = thread->own.is_known ? slot_held(thread, vcpu, thread->born) : 0;
	if (!place)
		place = place_of_vcpu(thread, vcpu, read_born((u64)read_member(struct kvm_vcpu, vcpu, kvm)));
	thread->own.is_known = 1;
	row = place ? row_of(thread->slot, 0) : 0;
	if (!row)
		return 0;
	now = bpf_ktime_get_ns();
	row->wakeups.count++;
	add_time(&row->wakeups, now - since_ns);
	place->last_ns = now;
	return 0;
}

/* (task), in the thread of whoever wakes it. A task has a preempt notifier only while it has a vCPU loaded. */
SEC("?tp_btf/sched_waking")
int waking(unsigned long long *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct thread *thread;
	u64 link, vcpu;

	if (!task) /* 6.12 and later hold that any argument of a tracepoint may be NULL */
		return 0;
	link = (u64)task->preempt_notifiers.first;
	if (!link)
		return 0;
	vcpu = link - bpf_core_field_offset(struct kvm_vcpu, preempt_notifier.link);
	if (!read_member(struct kvm_vcpu___stat, vcpu, stat.generic.blocking))
		return 0;
	/* Nothing may be allocated under the locks that are held here; the thread itself has seen to it before. */
	thread = thread_of(task, 0);
	if (thread)
		thread->own.waking_ns = bpf_ktime_get_ns();
	return 0;
}

/* (ns, waited, valid), in the vCPU's thread, at the end of each halt */
SEC("?tp_btf/kvm_vcpu_wakeup")
int halt_ends(unsigned long long *ctx)
{
	struct thread *thread = this_thread();
	u64 waking_ns;

	if (!thread)
		return 0;
	waking_ns = (u8)ctx[1] ? thread->own.waking_ns : 0;
	thread->own.waking_ns = 0;
	if (config.own.to_entry)
		thread->own.woken_ns = waking_ns;
	else if (waking_ns)
		count_wakeup(thread, waking_ns);
	return 0;
}

/* In the vCPU's thread, right before the guest runs */
SEC("?tp_btf/kvm_entry")
int entry(unsigned long long *ctx)
{
	struct thread *thread = this_thread();
	u64 woken_ns;

	if (!thread || !thread->own.woken_ns)
		return 0;
	woken_ns = thread->own.woken_ns;
	thread->own.woken_ns = 0;
	return count_wakeup(thread, woken_ns);
}

/* (reason, errno), in the vCPU's thread: what comes now is the VMM's time */
SEC("?tp_btf/kvm_userspace_exit")
int leave(unsigned long long *ctx)
{
	struct thread *thread = thread_of((struct task_struct *)bpf_get_current_task_btf(), 0);

	if (thread)
		thread->own.woken_ns = thread->own.is_known = 0;
	return 0;
}
