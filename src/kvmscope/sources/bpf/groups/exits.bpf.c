// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group exits: why each vCPU left the guest, how often, and how long until it was back in.
 *
 * An exit is one kvm_exit, the way back the next kvm_entry of the same vCPU; what lies between is the exit's time, be it
 * spent in KVM, in the VMM or asleep. SVM's fast path tells of its exits since 6.5 (KVM: SVM: trace fastpath exits); what
 * the tracepoint leaves out is left out here.
 *
 * Two looks at the clock a round. What is pending is kept with the vCPU and not with its thread, since any thread may
 * run it next.
 */
#include "timed.h"

#define ISA_VMX 1
#define ISA_SVM 2
#define ISA_ARM64 3 /* ours */
#define REASONS 2048
#define LAST_BEFORE_NEGATIVE 2031

struct row {
	struct timed exits;
};

struct constants {
	u32 isa;		/* of the VMs of this host; 0: not known, so reasons are not either */
	u32 other;		/* the row of reasons that have none of their own */
	u8 row_of[REASONS];	/* by place_of_reason() */
};

struct scratch {
	u64 exits;	/* of the vCPU by KVM's own count, when it last left */
	u64 checked_ns;
};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Where a reason stands in `row_of`. Negative ones, of which SVM has a few, come last. */
static __always_inline u32 place_of_reason(u32 reason)
{
	if (reason <= LAST_BEFORE_NEGATIVE || reason >= (u32)LAST_BEFORE_NEGATIVE - REASONS + 1)
		return reason & (REASONS - 1);
	return LAST_BEFORE_NEGATIVE;
}

static __always_inline u32 row_of_reason(u32 reason)
{
	u32 row = config.own.row_of[place_of_reason(reason)];

	return row < config.rows ? row : config.own.other;
}

/* As {vmx,svm}_get_exit_info() has it for the tracepoint; without the flags above VMX's number. */
static __always_inline u32 read_reason(u64 vcpu)
{
	u32 reason = ~0U;
	u64 vmcb;

	if (config.own.isa == ISA_VMX) {
		if (bpf_core_field_exists(struct vcpu_vmx___6_16, vt))
			reason = read_member(struct vcpu_vmx___6_16, vcpu, vt.exit_reason.full);
		else
			reason = read_member(struct vcpu_vmx, vcpu, exit_reason.full);
		return reason & 0xffff;
	}
	vmcb = (u64)read_member(struct vcpu_svm, vcpu, vmcb);
	bpf_core_read(&reason, sizeof(reason), &((struct vmcb *)vmcb)->control.exit_code);
	return reason;
}

/* Whether the thread's vCPU is certainly still the one that it was, without a look at its birth: that would cost more
 * than all the rest, as nothing else has it in a cache. KVM counts exits itself, from 0 in every new vCPU and up by one
 * between a kvm_exit and the next (on arm64 before it is told, on x86 after), so a vCPU that came where another was is
 * noticed by a count that did not go up. One that another thread has run meanwhile could go past that; hence the second. */
#define CHECKED_EACH_NS 1000000000ULL

static __always_inline struct who *place_again(struct thread *thread, u64 vcpu, bool goes_up, u64 now)
{
	struct who *held;
	u32 slot = thread->slot;

	if (thread->subject != vcpu || !goes_up || now - thread->own.checked_ns > CHECKED_EACH_NS)
		return 0;
	held = bpf_map_lookup_elem(&who, &slot);
	return held && held->generation == thread->generation ? held : 0;
}

static __always_inline struct who *place_anew(struct thread *thread, u64 vcpu, u64 now)
{
	thread->own.checked_ns = now;
	return place_of_vcpu(thread, vcpu, read_born((u64)read_member(struct kvm_vcpu, vcpu, kvm)));
}

static __always_inline int count_exit(u64 vcpu, u64 exits, u32 row_number)
{
	struct thread *thread = this_thread();
	u64 now = bpf_ktime_get_ns();
	struct who *place;
	struct row *row;

	if (!thread)
		return 0;
	place = place_again(thread, vcpu, exits > thread->own.exits, now);
	if (!place)
		place = place_anew(thread, vcpu, now);
	thread->own.exits = exits;
	row = place ? row_of(thread->slot, row_number) : 0;
	if (!row)
		return 0;
	row->exits.count++;
	place->pending = row_number + 1;
	place->last_ns = now;
	return 0;
}

static __always_inline int count_entry(u64 vcpu, u64 exits, u64 least)
{
	struct thread *thread = this_thread();
	u64 now = bpf_ktime_get_ns(), ns;
	struct who *place;
	struct row *row;

	if (!thread)
		return 0;
	place = place_again(thread, vcpu, exits >= thread->own.exits + least, now);
	if (!place)
		place = place_anew(thread, vcpu, now);
	if (!place || !place->pending)
		return 0;
	row = row_of(thread->slot, place->pending - 1);
	if (!row)
		return 0;
	ns = now - place->last_ns;
	place->pending = 0;
	add_time(&row->exits, ns);
	return 0;
}

/* x86: (vcpu, isa), in the vCPU's thread */
SEC("?tp_btf/kvm_exit")
int exit_x86(unsigned long long *ctx)
{
	struct kvm_vcpu *vcpu = (void *)ctx[0];
	u32 isa = ctx[1];

	if (!vcpu) /* 6.12 and later hold that any argument of a tracepoint may be NULL */
		return 0;
	return count_exit((u64)vcpu, vcpu->stat.exits,
			  config.own.isa && isa == config.own.isa ? row_of_reason(read_reason((u64)vcpu)) : config.own.other);
}

/* x86: (vcpu), since 6.10 (vcpu, force_immediate_exit), in the vCPU's thread */
SEC("?tp_btf/kvm_entry")
int entry_x86(unsigned long long *ctx)
{
	struct kvm_vcpu *vcpu = (void *)ctx[0];

	return vcpu ? count_entry((u64)vcpu, vcpu->stat.exits, 1) : 0;
}

/* arm64: (ret, esr_ec, vcpu_pc), in the vCPU's thread. A trap has the class of its syndrome, from 0 to 63; what is none
 * has the number of the exception after these. */
#define ARM_TRAP 2
#define ARM_EXCEPTION 0x7fffffff /* the rest is ARM_EXIT_WITH_SERROR_BIT */

SEC("?tp_btf/kvm_exit")
int exit_arm64(unsigned long long *ctx)
{
	u32 exception = ctx[0] & ARM_EXCEPTION, class = ctx[1];
	u64 vcpu = loaded_vcpu();

	if (!vcpu)
		return 0;
	return count_exit(vcpu, read_member(struct kvm_vcpu, vcpu, stat.exits),
			  row_of_reason(exception == ARM_TRAP ? class & 63 : 64 + (exception & 63)));
}

/* arm64: (vcpu_pc), in the vCPU's thread */
SEC("?tp_btf/kvm_entry")
int entry_arm64(unsigned long long *ctx)
{
	u64 vcpu = loaded_vcpu();

	return vcpu ? count_entry(vcpu, read_member(struct kvm_vcpu, vcpu, stat.exits), 0) : 0;
}
