/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The snapshot format: what one run of the iterator leaves in memory. Its other side is codec/snapshot.py.
 *
 * A run fills the records of one slot of two memory-mapped arrays, `vms` and `vcpus`, and hands its reader a
 * `struct snapshot` through the iterator's file. A record is a fixed head and the kernel's stat structure as it stands
 * (the data block that KVM_GET_STATS_FD would show). All integers have the byte order of the machine.
 * Change anything here and SNAPSHOT_VERSION goes up: readers refuse what they do not know.
 */
#ifndef KVMSCOPE_SNAPSHOT_H
#define KVMSCOPE_SNAPSHOT_H

#define SNAPSHOT_MAGIC 0x706f63736d766bULL /* "kvmscop" */
#define SNAPSHOT_VERSION 1
#define SNAPSHOT_MAX_SLOTS 4

enum snapshot_flags {
	SNAPSHOT_BUSY = 1,	/* all slots were being written; nothing was read: try again */
	SNAPSHOT_OVERFLOW = 2,	/* more VMs or vCPUs than the arrays have room for; `vms` and `vcpus` say how many */
	SNAPSHOT_UNFINISHED = 4, /* the walk was cut short; subjects are missing */
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
};

/* One element, mapped read-only by readers. */
struct control {
	u64 generation[SNAPSHOT_MAX_SLOTS];
	u32 busy[SNAPSHOT_MAX_SLOTS];
};

enum vm_flags {
	VM_HAS_INHIBITS = 1,	/* `inhibits` was read */
	VM_HAS_CREATED = 2,	/* `created_ns` was read */
};

struct vm_record {
	u64 id;		/* opaque: from the kernel's address and the birth of the VM, under a secret of this loading */
	u64 created_ns;	/* CLOCK_REALTIME */
	u64 inhibits;	/* kvm->arch.apicv_inhibit_reasons */
	s32 pid;	/* of the VMM as the reader's pid namespace numbers it; 0: not visible there */
	u32 first_vcpu;	/* record in `vcpus`, counted from the slot's first */
	u32 vcpus;
	u32 flags;
	u64 stat[];
};

enum vcpu_flags {
	VCPU_HAS_APIC = 1,	/* it has an in-kernel local APIC */
	VCPU_HAS_APICV = 2,	/* `apicv_active` was read */
};

struct vcpu_record {
	u32 vm;		/* record in `vms`, counted from the slot's first */
	u32 vcpu_id;
	s32 tid;	/* thread that last ran it, numbered as `pid` above; 0: never ran, or not visible */
	u16 flags;
	u8 apicv_active;
	u8 reserved;
	u64 apic_base;	/* IA32_APIC_BASE as the guest sees it */
	u64 stat[];
};

#endif
