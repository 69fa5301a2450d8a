// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Group userspace: why KVM_RUN returned to the VMM, how often, and how long until it was called again.
 *
 * An exit is one kvm_userspace_exit, which names no vCPU: by then the thread has none loaded, so it is the vCPU that the
 * thread had before. KVM_RUN is entered where x86 loads the guest's FPU registers (kvm_fpu, once for each KVM_RUN); other
 * architectures have no such event, and the next kvm_entry ends the time there.
 *
 * The first exit of a thread that was in KVM_RUN at attaching is not seen: whose it is becomes known when it enters again.
 *
 * What is pending is kept with the vCPU and not with its thread, since any thread may run it next. Its time counts once it
 * is over.
 */
#include "timed.h"

#define REASONS 32
#define NUMBERS 64
#define DETAILS 8
#define EINTR 4
#define EFAULT 14

struct row {
	struct timed exits;
	u64 reason_count[REASONS];
	u64 reason_ns[REASONS];
	u64 internal_error[DETAILS]; /* by suberror; 0: one that has no name */
	u64 entry_failure[DETAILS];  /* by enum entry_failure */
};

enum entry_failure {
	FAILURE_OTHER,
	FAILURE_INVALID_STATE,
	FAILURE_MSR_LOAD,
	FAILURE_MACHINE_CHECK,
	FAILURE_INSTRUCTION,
};

struct constants {
	u32 error; /* where what failed is counted; places are below REASONS */
	u32 other; /* where a number is that has no name */
	u32 intr, memory_fault, internal_error, fail_entry; /* numbers, not places */
	u8 place_of[NUMBERS];
};

struct scratch {};

#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* KVM_RUN that fails leaves whatever was there in exit_reason, with two exceptions: a signal, and the fault that KVM
 * lets the VMM see to. */
static __always_inline u32 place_of_exit(u32 reason, s32 error)
{
	if (error == -EINTR)
		reason = config.own.intr;
	else if (error < 0 && !(error == -EFAULT && reason == config.own.memory_fault))
		return config.own.error;
	return reason < NUMBERS ? config.own.place_of[reason] : config.own.other;
}

/* Ends what is pending. A VM takes far longer to be destroyed and another to be made in its place, so only a thread that
 * was away for longer needs to look whose address this is now: that takes as long as all the rest. */
static __always_inline int enter(struct thread *thread, u64 vcpu)
{
	struct who *place = slot_held(thread, vcpu, thread->born);
	u64 now = bpf_ktime_get_ns(), pending, ns;
	struct row *row;

	if (!place || now - place->last_ns > LIFE_OF_VM_NS)
		place = place_of_vcpu(thread, vcpu, read_born((u64)read_member(struct kvm_vcpu, vcpu, kvm)));
	if (!place || !place->pending)
		return 0;
	row = row_of(thread->slot, 0);
	if (!row)
		return 0;
	pending = place->pending - 1;
	ns = now - place->last_ns;
	place->pending = 0;
	add_time(&row->exits, ns);
	row->reason_ns[pending & (REASONS - 1)] += ns;
	return 0;
}

/* x86: (load), in the vCPU's thread, with the vCPU loaded: 1 at the beginning of KVM_RUN, 0 at its end */
SEC("?tp_btf/kvm_fpu")
int fpu(unsigned long long *ctx)
{
	struct thread *thread;
	u64 vcpu;

	if (!(u32)ctx[0])
		return 0;
	thread = this_thread();
	vcpu = loaded_vcpu();
	return thread && vcpu ? enter(thread, vcpu) : 0;
}

/* Elsewhere than on x86, in the vCPU's thread, with the vCPU loaded */
SEC("?tp_btf/kvm_entry")
int entry(unsigned long long *ctx)
{
	struct thread *thread = this_thread();
	u64 vcpu = loaded_vcpu();
	struct who *place;

	if (!thread || !vcpu)
		return 0;
	place = slot_held(thread, vcpu, thread->born);
	if (place && !place->pending)
		return 0; /* back from an exit that KVM saw to */
	return enter(thread, vcpu);
}

/* What hardware_entry_failure_reason says: VMX's exit reason with bit 31, or the number of the error of an instruction,
 * which is below 64; SVM's VMEXIT_INVALID. */
static __always_inline u32 failure_of(u64 reason)
{
	switch ((u32)reason) {
	case 0x80000021:
	case 0xffffffff:
		return FAILURE_INVALID_STATE;
	case 0x80000022:
		return FAILURE_MSR_LOAD;
	case 0x80000029:
		return FAILURE_MACHINE_CHECK;
	default:
		return reason && reason < 64 ? FAILURE_INSTRUCTION : FAILURE_OTHER;
	}
}

/* The vCPU is alive: its KVM_RUN has not returned yet. What its struct kvm_run says only chooses what is counted. */
static __always_inline void count_detail(struct row *row, u64 vcpu, u32 reason)
{
	u64 run = (u64)read_member(struct kvm_vcpu, vcpu, run);
	u32 suberror;

	if (reason == config.own.internal_error) {
		suberror = read_member(struct kvm_run, run, internal.suberror);
		row->internal_error[suberror < DETAILS ? suberror : 0]++;
	} else if (reason == config.own.fail_entry) {
		row->entry_failure[failure_of(read_member(struct kvm_run, run, fail_entry.hardware_entry_failure_reason)) &
				   (DETAILS - 1)]++;
	}
}

/* (reason, errno), in the vCPU's thread, after the vCPU was put */
SEC("?tp_btf/kvm_userspace_exit")
int leave(unsigned long long *ctx)
{
	struct thread *thread = thread_of((struct task_struct *)bpf_get_current_task_btf(), 0);
	struct who *held = thread ? slot_held(thread, thread->subject, thread->born) : 0;
	struct row *row = held ? row_of(thread->slot, 0) : 0;
	u32 place = place_of_exit(ctx[0], ctx[1]) & (REASONS - 1);

	if (!row)
		return 0;
	row->exits.count++;
	row->reason_count[place]++;
	if (!(s32)ctx[1])
		count_detail(row, thread->subject, ctx[0]);
	held->pending = place + 1;
	held->last_ns = bpf_ktime_get_ns();
	return 0;
}
