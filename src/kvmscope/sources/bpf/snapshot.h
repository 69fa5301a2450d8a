/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The snapshot format: what one run of the iterator leaves in memory. Its other side is codec/snapshot.py and records.py.
 *
 * A run fills the records of one slot of two memory-mapped arrays, `vms` and `vcpus`, and hands its reader a
 * `struct snapshot` through the iterator's file. A record is a head, what groups have counted, and the kernel's stat
 * structure as it stands (the data block that KVM_GET_STATS_FD would show). All integers have the machine's byte order.
 * Change anything here and SNAPSHOT_VERSION goes up: readers refuse what they do not know.
 */
#ifndef KVMSCOPE_SNAPSHOT_H
#define KVMSCOPE_SNAPSHOT_H

#define SNAPSHOT_MAGIC 0x706f63736d766bULL /* "kvmscop" */
#define SNAPSHOT_VERSION 7
#define SNAPSHOT_MAX_SLOTS 5

enum snapshot_flags {
	SNAPSHOT_BUSY = 1,	/* all slots were being written; nothing was read: try again */
	SNAPSHOT_OVERFLOW = 2,	/* more VMs or vCPUs than the arrays have room for; `vms` and `vcpus` say how many */
	SNAPSHOT_UNFINISHED = 4, /* the walk was cut short; subjects are missing */
};

/* What this kernel has to be read; the same for all of its VMs. */
enum snapshot_features {
	FEATURE_APICV = 1,	/* x86: inhibit reasons, local APICs, irqchips, PITs */
	FEATURE_SYNIC = 2,	/* KVM's Hyper-V emulation is built in */
	FEATURE_SEV = 4,	/* kvm_amd is what runs the VMs */
	FEATURE_HLT_EXITS = 8,	/* x86: a VM may be told to halt without an exit */
	FEATURE_HALT_POLL_CAP = 16,	/* a VM has a limit of its own to how long KVM polls */
	FEATURE_HALT_POLL_CAP_SET = 32, /* it counts only once the VMM has set it */
	FEATURE_SCHED_INFO = 64, /* the scheduler keeps how long each thread has waited (CONFIG_SCHED_INFO) */
	FEATURE_CPU_QUOTA = 128, /* groups of threads can have a CPU quota (CONFIG_CFS_BANDWIDTH) */
	FEATURE_DIRTY_LOG = 256, /* the memory of a VM can be looked through for what is logged */
};

struct snapshot {
	u64 magic;
	u32 version;
	u32 flags;
	u64 generation;	/* of the slot; the records hold while `control` still says the same */
	u64 boot_ns;	/* CLOCK_BOOTTIME when the run began */
	u32 slot;
	u32 vms;	/* records in this slot; after an overflow, records that would be needed */
	u32 vcpus;
	u32 vanished;	/* VMs left out because they were destroyed while they were read */
	u32 features;
	u32 reserved;
	u64 inhibits;	/* bits that are set in some VM's inhibit word */
};

/* One element, mapped read-only by readers. */
struct control {
	u64 generation[SNAPSHOT_MAX_SLOTS];
	u32 busy[SNAPSHOT_MAX_SLOTS];
};

enum record_flags {
	VM_HAS_CREATED = 1,	/* `created_ns` was read */
	VCPU_HAS_APIC = 1,	/* it has an in-kernel local APIC; else its `apicv` words mean nothing */
	VM_HAS_EVENTS = 2,	/* the words of its group were written */
	VCPU_HAS_EVENTS = 2,
	VM_HAS_SCHED = 4,	/* its process has no other VM, and all of its threads were read */
	VM_HAS_QUOTA = 8,	/* some vCPU of it has a thread, whose cgroups were looked at */
	VCPU_HAS_SCHED = 4,	/* its thread was there to be read; else its `sched` words mean nothing */
};

/* The `apicv` words of a VM: after one boolean a bit of its inhibit word come these booleans. */
#define INHIBIT_BITS 32
enum vm_apicv {
	VM_IRQCHIP_KERNEL = INHIBIT_BITS, /* all interrupt controllers are emulated by the kernel */
	VM_IRQCHIP_SPLIT,	/* the local APICs alone */
	VM_PIT_IN_KERNEL,
	VM_PIT_REINJECT,	/* it makes up for ticks that the guest missed */
	VM_X2APIC_32BIT_IDS,	/* its VMM speaks of APIC ids with 32 bits */
	VM_SYNIC_AUTO_EOI,	/* with group apic: some SynIC of it has a SINT with AutoEOI */
	VM_SEV,			/* its memory is encrypted */
	VM_APICV_WORDS,
};

/* What the VMM has told KVM to do about halts of this VM, and which of its memory is logged for dirty pages. */
enum vm_settings {
	VM_HLT_EXITS_DISABLED,	/* KVM_CAP_X86_DISABLE_EXITS */
	VM_HALT_POLL_CAP_SET,	/* KVM_CAP_HALT_POLL was used */
	VM_HALT_POLL_CAP_NS,
	VM_MEMORY_PAGES,	/* of all memory slots of address space 0, in pages of the host */
	VM_DIRTY_LOGGED_PAGES,	/* of those slots with KVM_MEM_LOG_DIRTY_PAGES */
	VM_SETTINGS_WORDS,
};

/* What the scheduler keeps of the threads of the VMM's process that are no vCPUs. */
enum vm_sched {
	VM_VMM_RUN_NS,		/* all of them, and those that have ended */
	VM_MAIN_RUN_NS,		/* its first thread */
	VM_MAIN_RUN_DELAY_NS,
	VM_IOTHREAD_RUN_NS,	/* those with the name of an I/O thread */
	VM_IOTHREAD_RUN_DELAY_NS,
	VM_VHOST_RUN_NS,	/* those with the name of a vhost worker (6.4 and later; before, kernel threads) */
	VM_VHOST_RUN_DELAY_NS,
	VM_PIT_RUN_NS,		/* the kernel thread of the in-kernel PIT */
	VM_PIT_RUN_DELAY_NS,
	VM_SCHED_WORDS,
};

/* CPU quotas of the cgroups of its vCPU threads, and of those above. */
enum vm_quota {
	VM_QUOTA_SET,		/* some of them have one */
	VM_QUOTA_NS,		/* of the group with the least CPU time, */
	VM_PERIOD_NS,		/* in so many nanoseconds */
	VM_NR_PERIODS,		/* of all groups with a quota */
	VM_NR_THROTTLED,
	VM_THROTTLED_NS,
	VM_QUOTA_WORDS,
};

struct vm_record {
	u64 id;		/* opaque: identity.h */
	u64 created_ns;	/* CLOCK_REALTIME */
	s32 pid;	/* of the VMM as the reader's pid namespace numbers it; 0: not visible there */
	u32 first_vcpu;	/* record in `vcpus`, counted from the slot's first */
	u32 vcpus;
	u32 flags;
	u64 settings[VM_SETTINGS_WORDS];
	u64 sched[VM_SCHED_WORDS];
	u64 quota[VM_QUOTA_WORDS];
	u64 apicv[VM_APICV_WORDS];
	u64 more[];	/* with group apicv the words of `enum vm_events`; then struct kvm_vm_stat */
};

/* The `apicv` words of a vCPU: booleans, then, with group apic, registers of its local APIC as they stand. */
enum vcpu_apicv {
	VCPU_APICV_ACTIVE,	/* apic->apicv_active */
	VCPU_APIC_ENABLED,
	VCPU_APIC_X2APIC,
	VCPU_APIC_BASE_MOVED,	/* enabled, and not at 0xfee00000 */
	VCPU_BLOCKIRQ,		/* a debugger holds its interrupts (KVM_GUESTDBG_BLOCKIRQ) */
	VCPU_APIC_ID,
	VCPU_APIC_LDR,
	VCPU_APIC_DFR,
	VCPU_APICV_WORDS,
};

/* What the scheduler keeps of the thread that last ran a vCPU, as in /proc/PID/task/TID/schedstat. */
enum vcpu_sched {
	VCPU_RUN_NS,		/* se.sum_exec_runtime */
	VCPU_RUN_DELAY_NS,	/* sched_info.run_delay */
	VCPU_TIMESLICES,	/* sched_info.pcount */
	VCPU_SCHED_WORDS,
};

struct vcpu_record {
	u32 vm;		/* record in `vms`, counted from the slot's first */
	u32 vcpu_id;
	s32 tid;	/* thread that last ran it, numbered as `pid` above; 0: never ran, has ended, or not visible */
	u32 flags;
	u64 sched[VCPU_SCHED_WORDS];
	u64 apicv[VCPU_APICV_WORDS];
	u64 more[];	/* with group apicv the words of `enum vcpu_events`; then struct kvm_vcpu_stat */
};

/* -- group apicv: what was counted since it was attached ----------------------------------------------------------- */

/* Three words a reason: nanoseconds inhibited by it, times it was set, nanoseconds since it last changed. */
enum vm_events {
	VM_INHIBITED_NS,
	VM_INHIBIT_SET = VM_INHIBITED_NS + INHIBIT_BITS,
	VM_INHIBIT_UNCHANGED_NS = VM_INHIBIT_SET + INHIBIT_BITS,
	VM_OBSERVED_NS = VM_INHIBIT_UNCHANGED_NS + INHIBIT_BITS, /* how long the VM has been watched */
	VM_EVENT_WORDS,
};

enum vcpu_events {
	/* from kvm_vcpu_update_apicv() */
	VCPU_ACTIVE_NS,
	VCPU_INACTIVE_NS,
	VCPU_TRANSITIONS,
	/* from the vendor's deliver_interrupt() */
	VCPU_DELIVERED_APICV,
	VCPU_DELIVERED_SOFTWARE,
	/* kvm_inj_virq */
	VCPU_INJECTED_HARDWARE,
	VCPU_INJECTED_SOFTWARE,
	VCPU_REINJECTED,
	/* kvm_avic_incomplete_ipi, by its id; the last is any other */
	VCPU_INCOMPLETE_IPI,
	VCPU_UNACCELERATED = VCPU_INCOMPLETE_IPI + 6,
	/* kvm_avic_unaccelerated_access, by class of register */
	VCPU_EVENTS_REST = VCPU_UNACCELERATED + 8,
	VCPU_IPI_SOFTWARE = VCPU_EVENTS_REST, /* kvm_apic_ipi */
	VCPU_EOI,			      /* kvm_eoi */
	VCPU_GA_LOG,			      /* kvm_avic_ga_log */
	VCPU_EVENT_WORDS,
};

#endif
