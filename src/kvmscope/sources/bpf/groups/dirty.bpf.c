// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group dirty: pages that KVM notes as written to, in memory that the VMM has asked it to log.
 *
 * A page counts when it becomes dirty: when its bit in a dirty bitmap goes from 0 to 1, or when it is put into a dirty
 * ring. mark_page_dirty_in_slot() is what sets every bit, for guests and for KVM's own writes, with PML (once the CPU's
 * log is flushed) and without. A bit that is set already is not a page more. Two threads that dirty one page in the same
 * moment may both find its bit clear; it then counts twice.
 *
 * Where a kernel lets no function be hooked, a page counts when the VMM fetches it instead: the system call that returns
 * the bitmap, or clears a part of it, has just ended, and the bits that it was about are counted where the VMM has them.
 */
#include "../kernel.h"

#define IOCTL_X86 16
#define IOCTL_ARM64 29
#define KVM_GET_DIRTY_LOG 0x4010ae42
#define KVM_CLEAR_DIRTY_LOG 0xc018aec0
#define MANUAL_PROTECT 1 /* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE */
#define CHUNK_WORDS 32
#define MAX_CHUNKS (1 << 20) /* of 8 MiB of memory each: 8 TiB */
#define MAX_SLOTS_OF_BUCKET 4096
#define BUCKET_SHIFT 25 /* of 128 buckets: hash_32() of include/linux/hash.h */
#define GOLDEN_RATIO_32 0x61C88647U

struct row {
	u64 pages;	 /* that became dirty: bits set, and entries put into rings */
	u64 bytes;	 /* the same, in bytes */
	u64 ring;	 /* those of `pages` that were put into rings */
	u64 fetched; /* bits that the VMM fetched, or cleared where it clears them itself */
};

struct constants {
	u64 page_bytes;
};

struct scratch {
	u64 ring;   /* of the vCPU whose VM the thread's slot is, if it put a page into a ring last */
	u32 index;  /* how many were put into it by then, as it counts them */
	u32 slot;   /* whose time the thread set last, */
	u64 tick;   /* and in which of jiffies */
};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kvm___dirty {
	u32 dirty_ring_size;
	u64 manual_dirty_log_protect;
};
struct kvm_dirty_ring { u32 dirty_index; };
struct kvm_memory_slot___id { short id; };
struct file { void *private_data; };
struct fdtable { unsigned int max_fds; struct file **fd; };
struct files_struct { struct fdtable *fdt; };
struct task_struct___files { struct files_struct *files; };
struct pt_regs { unsigned long di, si, dx, orig_ax; }; /* x86-64 */
struct pt_regs___arm64 { u64 regs[31]; u64 orig_x0; s32 syscallno; };
#pragma clang attribute pop

#define TICK_NS 10000000ULL /* at most */

/* Sets the slot's time, once a tick: to read the clock costs as much as all the rest. It is not before the event then. */
static __always_inline void stamp(struct thread *thread, struct who *place)
{
	u64 tick = bpf_jiffies64();

	if (thread->own.tick == tick && thread->own.slot == thread->slot)
		return;
	thread->own.tick = tick;
	thread->own.slot = thread->slot;
	place->last_ns = bpf_ktime_get_ns() + TICK_NS;
}

static __always_inline struct row *row_of_vm(u64 kvm, u64 born)
{
	struct thread *thread = this_thread();
	struct who *place = thread ? place_of_vm(thread, kvm, born) : 0;

	if (!place)
		return 0;
	thread->own.ring = 0;
	stamp(thread, place);
	return row_of(thread->slot, 0);
}

static __always_inline int count_page(struct row *row)
{
	__sync_fetch_and_add(&row->pages, 1);
	__sync_fetch_and_add(&row->bytes, config.own.page_bytes);
	return 0;
}

/* By a load, as in born_of(); 0 on a kernel without dirty rings. */
static __always_inline u32 ring_size(struct kvm *kvm)
{
	u64 offset = bpf_core_field_offset(struct kvm___dirty, dirty_ring_size);

	if (!bpf_core_field_exists(struct kvm___dirty, dirty_ring_size))
		return 0;
	asm volatile("" : "+r"(offset));
	return *(u32 *)((void *)kvm + offset);
}

/* (kvm, slot, gfn), before the page is noted. With a ring, what a vCPU's thread dirties goes there, and the bitmap that
 * may be beside it is for other threads. */
SEC("?fentry")
int mark(unsigned long long *ctx)
{
	struct kvm *kvm = (struct kvm *)ctx[0];
	struct kvm_memory_slot *slot = (struct kvm_memory_slot *)ctx[1];
	u64 *bitmap = (u64 *)slot->dirty_bitmap, page = ctx[2] - slot->base_gfn, word = 0;
	struct row *row;

	if (!bitmap)
		return 0;
	if (ring_size(kvm) && loaded_vcpu())
		return 0;
	if (bpf_probe_read_kernel(&word, sizeof(word), bitmap + page / 64) || word >> (page % 64) & 1)
		return 0;
	row = row_of_vm((u64)kvm, born_of(kvm));
	return row ? count_page(row) : 0;
}

static __noinline struct who *find_ring(struct thread *thread, u64 ring)
{
	u64 vcpu = loaded_vcpu(), kvm;

	if (!vcpu)
		return 0;
	kvm = (u64)read_member(struct kvm_vcpu, vcpu, kvm);
	thread->own.ring = ring;
	return place_of_vm(thread, kvm, read_born(kvm));
}

/* (ring, slot, offset), in the thread of the vCPU whose ring it is. A ring counts what is put into it, from its vCPU's
 * birth on. So whoever finds the count that follows the last one has the same ring of the same VM before him, and not
 * another at its address; only others are looked up. */
SEC("?tp_btf/kvm_dirty_ring_push")
int push(unsigned long long *ctx)
{
	struct kvm_dirty_ring *ring = (struct kvm_dirty_ring *)ctx[0];
	struct thread *thread = this_thread();
	struct who *place = 0;
	struct row *row;
	u32 index;

	if (!thread || !ring) /* which is never null; in 6.12 the verifier does not know that of a tracepoint's argument */
		return 0;
	index = ring->dirty_index;
	if (thread->own.ring == (u64)ring && thread->own.index + 1 == index)
		place = slot_held(thread, thread->subject, thread->born);
	if (!place)
		place = find_ring(thread, (u64)ring);
	thread->own.index = index;
	row = place ? row_of(thread->slot, 0) : 0;
	if (!row)
		return 0;
	stamp(thread, place);
	__sync_fetch_and_add(&row->ring, 1);
	return count_page(row);
}

/* -- where no function can be hooked ---------------------------------------------------------------------------------- */

struct call {
	u64 is_ioctl, fd, argument;
	u32 request; /* of 64 bits the kernel heeds these; QEMU has its number in an int, which extends the sign */
};

/* What a system call that ends was asked for; the registers of the thread still have it. */
static __always_inline void read_call(void *regs, struct call *call)
{
	if (bpf_core_field_exists(struct pt_regs, orig_ax)) {
		call->is_ioctl = ((struct pt_regs *)regs)->orig_ax == IOCTL_X86;
		call->fd = ((struct pt_regs *)regs)->di;
		call->request = ((struct pt_regs *)regs)->si;
		call->argument = ((struct pt_regs *)regs)->dx;
	} else if (bpf_core_field_exists(struct pt_regs___arm64, orig_x0)) {
		call->is_ioctl = read_member(struct pt_regs___arm64, regs, syscallno) == IOCTL_ARM64;
		call->fd = read_member(struct pt_regs___arm64, regs, orig_x0);
		call->request = read_member(struct pt_regs___arm64, regs, regs[1]);
		call->argument = read_member(struct pt_regs___arm64, regs, regs[2]);
	}
}

/* The VM behind a file of the current process; 0 if it is another kind of file. */
static __always_inline u64 vm_of_file(u32 fd)
{
	u64 task = bpf_get_current_task(), files, table, slots, file = 0, kvm;

	files = (u64)read_member(struct task_struct___files, task, files);
	table = (u64)read_member(struct files_struct, files, fdt);
	slots = (u64)read_member(struct fdtable, table, fd);
	if (fd >= read_member(struct fdtable, table, max_fds) ||
	    bpf_probe_read_kernel(&file, sizeof(file), (void *)(slots + 8ULL * fd)))
		return 0;
	kvm = (u64)read_member(struct file, file, private_data);
	return kvm && is_vm(kvm) ? kvm : 0;
}

struct lookup {
	u64 node, node_offset, pages;
	s32 id;
};

static long look_at_memslot(u32 i, struct lookup *lookup)
{
	u64 slot = lookup->node - lookup->node_offset;

	if (!lookup->node)
		return 1;
	if (read_member(struct kvm_memory_slot___id, slot, id) == lookup->id) {
		lookup->pages = read_member(struct kvm_memory_slot, slot, npages);
		return 1;
	}
	lookup->node = (u64)read_member(struct hlist_node, lookup->node, next);
	return 0;
}

/* Pages of a memory slot, whose number has the address space in its upper half; 0 if there is none. */
static __always_inline u64 pages_of_memslot(u64 kvm, u32 number)
{
	struct lookup lookup = {.id = (u16)number};
	u64 memslots = 0, heads = kvm + bpf_core_field_offset(struct kvm, memslots) + 8ULL * (number >> 16 & 1);
	u32 bucket = lookup.id * GOLDEN_RATIO_32 >> BUCKET_SHIFT;

	if (bpf_probe_read_kernel(&memslots, sizeof(memslots), (void *)heads))
		return 0;
	lookup.node_offset = bpf_core_field_offset(struct kvm_memory_slot, id_node) +
			     (read_member(struct kvm_memslots, memslots, node_idx) & 1) * sizeof(struct hlist_node);
	bpf_probe_read_kernel(&lookup.node, sizeof(lookup.node),
			      (void *)(memslots + bpf_core_field_offset(struct kvm_memslots, id_hash) + 8ULL * bucket));
	bpf_loop(MAX_SLOTS_OF_BUCKET, look_at_memslot, &lookup, 0);
	return lookup.pages;
}

struct bits {
	u64 place;  /* in the memory of the current process */
	u64 pages;  /* that are still to be looked at */
	u64 count;
};

static __always_inline u64 ones(u64 word)
{
	word -= word >> 1 & 0x5555555555555555ULL;
	word = (word & 0x3333333333333333ULL) + (word >> 2 & 0x3333333333333333ULL);
	word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return word * 0x0101010101010101ULL >> 56;
}

static long count_word(u32 i, struct bits *bits)
{
	u64 word = 0;

	if (!bits->pages || bpf_probe_read_user(&word, sizeof(word), (void *)bits->place))
		return 1;
	if (bits->pages < 64)
		word &= (1ULL << bits->pages) - 1;
	bits->count += ones(word);
	bits->place += sizeof(word);
	bits->pages -= bits->pages < 64 ? bits->pages : 64;
	return 0;
}

static long count_chunk(u32 i, struct bits *bits)
{
	u64 words[CHUNK_WORDS];
	u32 k;

	if (bits->pages < 64 * CHUNK_WORDS || bpf_probe_read_user(words, sizeof(words), (void *)bits->place))
		return 1;
	for (k = 0; k < CHUNK_WORDS; k++)
		if (words[k])
			bits->count += ones(words[k]);
	bits->place += sizeof(words);
	bits->pages -= 64 * CHUNK_WORDS;
	return 0;
}

/* The bits of what the VMM got from KVM_GET_DIRTY_LOG, or told KVM_CLEAR_DIRTY_LOG to clear. The memory was read or
 * written by the call that has just ended, so it is there. */
static __always_inline u64 fetched_pages(u64 kvm, const struct call *call)
{
	struct { u32 slot, pages; u64 first_page, bitmap; } clear = {};
	struct { u32 slot, padding; u64 bitmap; } get = {};
	struct bits bits = {};
	bool is_manual = read_member(struct kvm___dirty, kvm, manual_dirty_log_protect) & MANUAL_PROTECT;

	if (call->request == KVM_CLEAR_DIRTY_LOG) {
		if (bpf_probe_read_user(&clear, sizeof(clear), (void *)call->argument))
			return 0;
		bits.place = clear.bitmap;
		bits.pages = clear.pages;
	} else {
		if (is_manual || bpf_probe_read_user(&get, sizeof(get), (void *)call->argument))
			return 0; /* the VMM looks, and clears what it takes by the other call */
		bits.place = get.bitmap;
		bits.pages = pages_of_memslot(kvm, get.slot);
	}
	bpf_loop(MAX_CHUNKS, count_chunk, &bits, 0);
	bpf_loop(CHUNK_WORDS, count_word, &bits, 0);
	return bits.count;
}

/* (regs, ret), at the end of every system call of the host */
SEC("?tp_btf/sys_exit")
int fetch(unsigned long long *ctx)
{
	struct call call = {};
	struct row *row;
	u64 kvm, pages;

	if (ctx[1])
		return 0; /* both return 0 */
	read_call((void *)ctx[0], &call);
	if (!call.is_ioctl || (call.request != KVM_GET_DIRTY_LOG && call.request != KVM_CLEAR_DIRTY_LOG))
		return 0;
	kvm = vm_of_file(call.fd);
	if (!kvm)
		return 0;
	pages = fetched_pages(kvm, &call);
	row = row_of_vm(kvm, read_born(kvm));
	if (row)
		__sync_fetch_and_add(&row->fetched, pages);
	return 0;
}
