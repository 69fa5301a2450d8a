// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group accesses: how often each vCPU accesses I/O ports and MSRs that KVM or the VMM emulates, by what they belong to.
 *
 * Both events come in the vCPU's thread with the vCPU loaded, once for each instruction that KVM emulates; what a guest
 * accesses without an exit is not seen. Numbers are looked up in ranges that the loader sets, the first that fits; those in
 * none count as other, and the last such number is kept.
 */
#include "../kernel.h"

#define RANGES 64
#define PLACES 80

struct row {
	u64 counts[PLACES];
};

struct range {
	u32 first, last;
	u32 place;
	u32 reserved;
};

struct table {
	struct range ranges[RANGES];
	u32 used;
	u32 other;  /* place of what is in no range */
	u32 number; /* place of the last number that is in no range */
	u32 reserved;
};

struct constants {
	struct table ports, msrs;
};

struct scratch {};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline u32 place_of(const volatile struct table *table, u32 number)
{
	u32 i;

	for (i = 0; i < RANGES && i < table->used; i++)
		if (number >= table->ranges[i].first && number <= table->ranges[i].last)
			return table->ranges[i].place;
	return table->other;
}

/* A VM takes far longer to be destroyed and another to be made in its place, so only a thread whose vCPU was silent for
 * longer needs to look whose address this is now. */
static __always_inline int count(const volatile struct table *table, u32 number)
{
	struct thread *thread = this_thread();
	u64 vcpu = loaded_vcpu(), now = bpf_ktime_get_ns();
	struct who *held;
	struct row *row;
	u32 place;

	if (!thread || !vcpu)
		return 0;
	held = slot_held(thread, vcpu, thread->born);
	if (!held || now - held->last_ns > LIFE_OF_VM_NS)
		held = place_of_vcpu(thread, vcpu, read_born((u64)read_member(struct kvm_vcpu, vcpu, kvm)));
	row = held ? row_of(thread->slot, 0) : 0;
	if (!row)
		return 0;
	held->last_ns = now;
	place = place_of(table, number);
	if (place < PLACES)
		row->counts[place]++;
	if (place == table->other && table->number < PLACES)
		row->counts[table->number] = number;
	return 0;
}

/* (rw, port, size, count, data) */
SEC("?tp_btf/kvm_pio")
int port(unsigned long long *ctx)
{
	return count(&config.own.ports, ctx[1]);
}

/* (write, number, data, exception) */
SEC("?tp_btf/kvm_msr")
int msr(unsigned long long *ctx)
{
	return count(&config.own.msrs, ctx[1]);
}
