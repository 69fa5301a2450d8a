/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every group that counts events has: whose event it is, a place to count it, and memory that readers map.
 *
 * A group's own file defines, before it includes this one:
 *
 *	struct row		what is counted: u64 words alone. A subject (a vCPU or a VM) has config.rows of them
 *	struct constants	what its loader sets; may be empty
 *	struct scratch		what it remembers of a thread; may be empty
 *
 * A subject that has an event takes a slot. `who[slot]` says which subject that is, `data[slot * config.rows]` and what
 * follows is what was counted of it since. No kernel pointer is in either. If no slot is free, the one that was silent
 * the longest is taken over, if for a second at least; `state` says that this has happened, and until when the subject
 * that lost its counts had been seen, so that a reader knows whose 0 is no longer certain.
 *
 * Pointers are followed only of what is alive: the vCPU that the hooked thread has loaded, an argument that the kernel
 * vouches for, or a VM whose lock the thread is about to wait for. A mapped array gets counts, times, numbers of rows, ids of
 * VMs, and of a task that the kernel vouches for its tgid and comm: nothing else that was read at the end of a pointer.
 *
 * The loader (groups/base.py) sets the sizes of the arrays, and joins slots to subjects by VM id and vCPU id.
 */
#ifndef KVMSCOPE_GROUPS_COMMON_H
#define KVMSCOPE_GROUPS_COMMON_H

#include "../identity.h"

#define NO_VCPU 0xffffffffU /* the subject is a whole VM */
#define TAKEN_OVER_AFTER_NS 1000000000ULL
#define LIFE_OF_VM_NS 20000 /* no VM is destroyed and another made in its place in less */

/* Set by the loader before the programs are loaded. */
const volatile struct {
	u64 key[2]; /* the boot id */
	u32 slots;
	u32 rows; /* of a slot */
	struct constants own;
} config;

/* One cache line a subject. */
struct who {
	u64 vm;		/* id; 0: never taken */
	u32 vcpu;	/* vCPU id, or NO_VCPU */
	u32 generation;	/* odd while the slot is being taken over */
	u64 last_ns;	/* CLOCK_MONOTONIC of the last event */
	u64 pending;	/* for the group: what it remembers of a subject from one event to the next; 0 in a new slot */
	u64 reserved[4];
};

struct state {
	u64 used;	 /* slots that were ever taken; more than there are means that more were wanted */
	u64 lost_ns;	 /* CLOCK_MONOTONIC up to which a subject that has no slot may have had events; 0: never */
	u64 taken_over;	 /* times that a slot was */
	u64 refused;	 /* times that a subject found no slot */
	u64 reserved[4];
};

/* Of a thread: which slot its subject has, so that who it is need be found out only once. */
struct thread {
	u64 subject;	/* kernel's address of the vCPU or VM */
	u64 born;	/* its VM's mark of birth: an address can come back for another VM */
	u32 slot;
	u32 generation;
	u64 retry_ns;	/* no slot was free: not to be tried again before */
	struct scratch own;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct who);
} who SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct row);
} data SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct state);
} state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

/* What the loader has to say to those who read a pinned group; no program looks at it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 65536);
} meta SEC(".maps");

/* -- counting ------------------------------------------------------------------------------------------------------ */

/* What is remembered of a task; with `create` from now on, else 0 if nothing is yet. */
#define thread_of(task, create)                                                                                        \
	((struct thread *)bpf_task_storage_get(&threads, task, 0, (create) ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0))

/* What a thread does of which nothing can be remembered is lost, so that no 0 is certain any longer. In 7.3 that
 * is every thread if the CPU lacks cmpxchg16b, as an emulated one may (kmalloc_nolock() in mm/slub.c). */
static __noinline int lose_thread(void)
{
	u32 zero = 0;
	struct state *all = bpf_map_lookup_elem(&state, &zero);

	if (!all)
		return 0;
	all->lost_ns = bpf_ktime_get_ns();
	__sync_fetch_and_add(&all->refused, 1);
	return 0;
}

static __always_inline struct thread *this_thread(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct thread *thread = thread_of(task, 0);

	if (!thread)
		thread = thread_of(task, 1);
	if (!thread)
		lose_thread();
	return thread;
}

/* Row `i` of a slot. */
static __always_inline struct row *row_of(u32 slot, u32 i)
{
	u32 index = slot * config.rows + i;

	return bpf_map_lookup_elem(&data, &index);
}

/* -- slots: everything below runs once for a thread and subject ---------------------------------------------------- */

struct search {
	u64 vm;
	u64 silent_ns;
	u32 vcpu;
	u32 slot;   /* of the subject; config.slots if it has none */
	u32 silent; /* the slot that was silent the longest, since silent_ns */
};

static long look_at_slot(u32 slot, struct search *search)
{
	struct who *found = bpf_map_lookup_elem(&who, &slot);

	if (!found)
		return 1;
	if (found->vm == search->vm && found->vcpu == search->vcpu && !(found->generation & 1)) {
		search->slot = slot;
		return 1;
	}
	if (found->vm && found->last_ns < search->silent_ns) {
		search->silent = slot;
		search->silent_ns = found->last_ns;
	}
	return 0;
}

static long clear_row(u32 i, u32 *slot)
{
	struct row *row = row_of(*slot, i);

	if (row)
		__builtin_memset(row, 0, sizeof(*row));
	return 0;
}

/* Makes a slot the subject's own: the generation is even before and after, and another one. */
static __always_inline bool settle(u32 slot, u64 vm, u32 vcpu, u64 now, struct thread *thread)
{
	struct who *place = bpf_map_lookup_elem(&who, &slot);
	u32 generation;

	if (!place)
		return 0;
	generation = place->generation;
	if (generation & 1 || __sync_val_compare_and_swap(&place->generation, generation, generation + 1) != generation)
		return 0;
	if (place->vm)
		bpf_loop(config.rows, clear_row, &slot, 0);
	place->vm = vm;
	place->vcpu = vcpu;
	place->last_ns = now;
	place->pending = 0;
	generation += 2;
	__sync_lock_test_and_set(&place->generation, generation);
	thread->slot = slot;
	thread->generation = generation;
	return 1;
}

/* As the iterator does; 0 if that cannot be known here. */
static __always_inline u64 identify(u64 kvm)
{
	u64 inode = birth_inode(kvm), mm, owner;

	if (inode)
		return id_by_birth(read_member(struct inode, inode, i_ino), birth_time(inode), config.key);
	if (!bpf_core_field_exists(struct mm_struct, owner) || !is_alone(kvm))
		return 0;
	mm = (u64)read_member(struct kvm, kvm, mm);
	owner = (u64)read_member(struct mm_struct, mm, owner);
	return owner ? id_by_process((u64)read_member(struct task_struct, owner, group_leader), config.key) : 0;
}

static __noinline bool find_slot(struct thread *thread, u64 kvm, u32 vcpu)
{
	u64 now = bpf_ktime_get_ns(), used;
	struct search search = {.slot = config.slots, .vcpu = vcpu, .silent_ns = now - TAKEN_OVER_AFTER_NS};
	struct state *all;
	struct who *found;
	u32 zero = 0;

	all = bpf_map_lookup_elem(&state, &zero);
	if (!all || now < thread->retry_ns)
		return 0;
	search.silent = config.slots;
	search.vm = identify(kvm);
	if (!search.vm) {
		all->lost_ns = now;
		__sync_fetch_and_add(&all->refused, 1);
		thread->retry_ns = now + TAKEN_OVER_AFTER_NS;
		return 0;
	}
	used = all->used;
	bpf_loop(used < config.slots ? used : config.slots, look_at_slot, &search, 0);
	if (search.slot < config.slots) {
		found = bpf_map_lookup_elem(&who, &search.slot);
		if (!found)
			return 0;
		thread->slot = search.slot;
		thread->generation = found->generation;
		return 1;
	}
	if (used < config.slots) {
		used = __sync_fetch_and_add(&all->used, 1);
		if (used < config.slots)
			return settle(used, search.vm, vcpu, now, thread);
	}
	if (search.silent < config.slots) {
		/* Before the counts go, so that nobody who sees them gone takes their subject for one that had none. */
		if (all->lost_ns < search.silent_ns)
			all->lost_ns = search.silent_ns;
		__sync_fetch_and_add(&all->taken_over, 1);
		return settle(search.silent, search.vm, vcpu, now, thread);
	}
	all->lost_ns = now;
	__sync_fetch_and_add(&all->refused, 1);
	thread->retry_ns = now + TAKEN_OVER_AFTER_NS;
	return 0;
}

/* The slot's entry if `thread` still has it for this subject; else 0. */
static __always_inline struct who *slot_held(struct thread *thread, u64 subject, u64 born)
{
	struct who *held;
	u32 slot = thread->slot;

	if (thread->subject != subject || thread->born != born)
		return 0;
	held = bpf_map_lookup_elem(&who, &slot);
	return held && held->generation == thread->generation ? held : 0;
}

static __noinline struct who *take_slot(struct thread *thread, u64 subject, u64 born, u64 kvm, u32 vcpu)
{
	if (thread->subject != subject || thread->born != born) {
		thread->subject = subject;
		thread->born = born;
		thread->retry_ns = 0;
	}
	thread->generation = 1; /* no slot has an odd one for long: nothing is held if none is found */
	if (!find_slot(thread, kvm, vcpu))
		return 0;
	return slot_held(thread, subject, born);
}

/* What no two VMs have in common, by loads alone: for a pointer that the verifier knows to be one to a struct kvm. That
 * the offset is added by hand is since it can exceed the 32 KiB that an instruction can have as its own. */
static __always_inline u64 born_of(struct kvm *kvm)
{
	u64 offset = bpf_core_field_offset(struct kvm, debugfs_dentry);

	asm volatile("" : "+r"(offset)); /* else the compiler puts it into the instruction after all */
	return (*(struct dentry **)((void *)kvm + offset))->d_inode->i_ino;
}

/* The same by reads, some 25 ns each, for the address of one. */
static __always_inline u64 read_born(u64 kvm)
{
	u64 inode = birth_inode(kvm);

	return inode ? read_member(struct inode, inode, i_ino) : 0;
}

/* Whether the address is that of a VM that is on the list of its address space's MMU notifiers. It is alive then, if the
 * thread is about to do something to it. */
static __always_inline bool is_vm(u64 kvm)
{
	u64 node = kvm + bpf_core_field_offset(struct kvm, mmu_notifier.hlist), *back, next = 0;
	u32 text = 0;

	bpf_core_read(&text, sizeof(text), &((struct kvm *)kvm)->stats_id);
	if (text != *(const u32 *)"kvm-")
		return 0;
	back = (u64 *)read_member(struct kvm, kvm, mmu_notifier.hlist.pprev);
	return back && !bpf_probe_read_kernel(&next, sizeof(next), back) && next == node;
}

/* The place of a vCPU whose events come in its own thread; 0 if there is no room. The row of what is counted is then
 * row_of(thread->slot, i). `born` is its VM's. */
static __always_inline struct who *place_of_vcpu(struct thread *thread, u64 vcpu, u64 born)
{
	struct who *held = slot_held(thread, vcpu, born);

	if (held)
		return held;
	return take_slot(thread, vcpu, born, (u64)read_member(struct kvm_vcpu, vcpu, kvm),
			 read_member(struct kvm_vcpu, vcpu, vcpu_id));
}

/* The place of a VM; its counters have many writers. */
static __always_inline struct who *place_of_vm(struct thread *thread, u64 kvm, u64 born)
{
	struct who *held = slot_held(thread, kvm, born);

	return held ? held : take_slot(thread, kvm, born, kvm, NO_VCPU);
}

#endif
