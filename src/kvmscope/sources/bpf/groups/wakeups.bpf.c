// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group wakeups: how long a halted vCPU takes from being woken to running its guest again.
 *
 * It begins where somebody wakes the vCPU's thread while that sleeps in a halt (sched_waking), and ends at the next
 * kvm_entry; or, with a KVM that has none, where KVM goes on with the vCPU (kvm_vcpu_wakeup). A halt that polling ended,
 * or that found its interrupt before the thread slept, is none; nor is one after which KVM_RUN returned first.
 *
 * And for which tasks a vCPU's thread waits while it could run and has its vCPU loaded: from where it is preempted, or woken,
 * to where it gets a CPU (sched_switch). Each CPU remembers the tasks that it ran last, with their names, so that a wait is
 * shared among those that ran during it on the CPU that ended it; time before these is not attributed. All of it is
 * kept by vCPU in maps that are allocated beforehand, since the run queue is locked then.
 */
#include "timed.h"

#define RIVALS 8
#define RUNS 16
#define NAME_WORDS 2 /* task_struct.comm */

/* A process whose tasks ran while the vCPU waited. */
struct rival {
	u64 tgid; /* in the initial pid namespace; 0: none yet */
	u64 name[NAME_WORDS];
	u64 count;
	u64 ns;
	u64 score; /* falls by what others ran; at 0 the place is free */
};

enum behind {
	BEHIND_VCPU,  /* a vCPU of another process */
	BEHIND_OWN,   /* a task of the same process */
	BEHIND_OTHER, /* any other task */
	BEHIND_NOBODY,	/* the CPU was idle, or what ran is not known */
	BEHINDS,
};

struct row {
	struct timed wakeups;
	u64 waits;
	u64 wait_ns;
	u64 behind_ns[BEHINDS];
	struct rival rivals[RIVALS];
};

struct constants {
	u32 to_entry; /* else to kvm_vcpu_wakeup */
	u32 blames;   /* whether sched_switch is hooked */
};

struct scratch {
	u64 waiting_ns; /* of an element of `waiting`: since when; 0: it does not wait */
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

/* -- who ran instead ------------------------------------------------------------------------------------------------ */

/* What a CPU ran, from since_ns on. */
struct run {
	u64 since_ns;
	u32 tgid;
	u32 is_vcpu;
	u64 name[NAME_WORDS];
};

struct runs {
	u64 last; /* counts up; the run that goes on is at its place */
	struct run runs[RUNS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct runs);
} ran SEC(".maps");

/* By the kernel's address of a vCPU, as `threads` has it by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, u64);
	__type(value, struct thread);
} waiting SEC(".maps");

static __always_inline u64 vcpu_of(struct task_struct *task)
{
	u64 link = (u64)task->preempt_notifiers.first;

	return link ? link - bpf_core_field_offset(struct kvm_vcpu, preempt_notifier.link) : 0;
}

static __always_inline void begin_wait(u64 vcpu, u64 now)
{
	struct thread *found = bpf_map_lookup_elem(&waiting, &vcpu), new = {};

	if (found) {
		found->own.waiting_ns = now;
		return;
	}
	new.own.waiting_ns = now;
	bpf_map_update_elem(&waiting, &vcpu, &new, BPF_NOEXIST);
}

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
	if (config.own.blames)
		begin_wait(vcpu, bpf_ktime_get_ns());
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

/* The place of a process among those that a vCPU waited for most. One that has none takes from the score of the last, and its
 * place once that is used up: whoever has more than a ninth of the time is among them (Misra and Gries, Finding repeated
 * elements, 1982). */
static __always_inline struct rival *rival_of(struct row *row, const struct run *run, u64 ns)
{
	struct rival *least = &row->rivals[0];
	u32 i;

	for (i = 0; i < RIVALS; i++) {
		struct rival *rival = &row->rivals[i];

		if (rival->tgid == run->tgid)
			return rival;
		if (rival->score < least->score)
			least = rival;
	}
	if (least->score > ns) {
		least->score -= ns;
		return 0;
	}
	least->tgid = run->tgid;
	least->count = least->ns = least->score = 0;
	return least;
}

static __always_inline void blame(struct row *row, const struct run *run, u64 ns, u32 own)
{
	struct rival *rival;

	if (!run->tgid) {
		row->behind_ns[BEHIND_NOBODY] += ns;
		return;
	}
	row->behind_ns[run->tgid == own ? BEHIND_OWN : run->is_vcpu ? BEHIND_VCPU : BEHIND_OTHER] += ns;
	rival = rival_of(row, run, ns);
	if (!rival)
		return;
	rival->name[0] = run->name[0];
	rival->name[1] = run->name[1];
	rival->count++;
	rival->ns += ns;
	rival->score += ns;
}

/* The vCPU's thread gets this CPU. */
static __noinline int end_wait(struct runs *all, u64 vcpu, u32 own, u64 now)
{
	struct thread *found = bpf_map_lookup_elem(&waiting, &vcpu);
	u64 since, until = now, from;
	struct who *place;
	struct row *row;
	u32 i;

	if (!found || !found->own.waiting_ns)
		return 0;
	since = found->own.waiting_ns;
	found->own.waiting_ns = 0;
	place = place_of_vcpu(found, vcpu, read_born((u64)read_member(struct kvm_vcpu, vcpu, kvm)));
	row = place ? row_of(found->slot, 0) : 0;
	if (!row || since >= now)
		return 0;
	row->waits++;
	row->wait_ns += now - since;
	place->last_ns = now;
	for (i = 0; i < RUNS && until > since; i++) {
		struct run *run = &all->runs[(all->last - i) & (RUNS - 1)];

		if (!run->since_ns || run->since_ns >= until)
			break;
		from = run->since_ns > since ? run->since_ns : since;
		blame(row, run, until - from, own);
		until = from;
	}
	row->behind_ns[BEHIND_NOBODY] += until - since;
	return 0;
}

/* (preempt, prev, next, prev_state), on the CPU that changes from `prev` to `next`, with its run queue locked */
SEC("?tp_btf/sched_switch")
int change(unsigned long long *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	u64 now = bpf_ktime_get_ns(), vcpu;
	struct runs *all;
	struct run *run;
	u32 zero = 0;

	all = bpf_map_lookup_elem(&ran, &zero);
	if (!all || !prev || !next)
		return 0;
	vcpu = vcpu_of(next);
	if (vcpu)
		end_wait(all, vcpu, next->tgid, now);
	run = &all->runs[++all->last & (RUNS - 1)];
	run->since_ns = now;
	run->tgid = next->tgid;
	run->is_vcpu = vcpu != 0;
	bpf_core_read(run->name, sizeof(run->name), &next->comm);
	vcpu = (u8)ctx[0] || !(u32)ctx[3] ? vcpu_of(prev) : 0;
	if (vcpu)
		begin_wait(vcpu, now);
	return 0;
}
