/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few members of kernel structures that kvmscope reads, by name.
 *
 * Only names and rough types matter: at load libbpf looks each member up in the BTF of the running kernel (vmlinux, and
 * kvm where that is a module) and writes its real offset into the program. So one object file fits every kernel, and no
 * generated vmlinux.h is needed to build it. A member that only some kernels have is asked for with
 * bpf_core_field_exists(). A name after ___ is a "flavour": another shape of the same kernel structure.
 */
#ifndef KVMSCOPE_KERNEL_H
#define KVMSCOPE_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

typedef __u64 u64;
typedef __u32 u32;
typedef __s32 s32;
typedef __u16 u16;
typedef __u8 u8;
typedef _Bool bool;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct { int counter; } atomic_t;
typedef struct { atomic_t refs; } refcount_t;
typedef struct { int any; } rwlock_t;

struct list_head { struct list_head *next, *prev; };
struct hlist_node { struct hlist_node *next, **pprev; };
struct hlist_head { struct hlist_node *first; };

/* -- processes ------------------------------------------------------------------------------------------------- */
struct pid_namespace;
struct upid { int nr; struct pid_namespace *ns; };
struct pid { unsigned int level; struct hlist_head tasks[1]; struct upid numbers[1]; };

struct mmu_notifier_subscriptions { struct hlist_head list; };
struct mmu_notifier { struct hlist_node hlist; };
struct task_struct;
struct mm_struct {
	struct mmu_notifier_subscriptions *notifier_subscriptions;
	struct task_struct *owner; /* only with CONFIG_MEMCG */
};

struct signal_struct {
	struct list_head thread_head;
	struct { struct { struct { unsigned int sequence; } seqcount; } seqcount; } stats_lock; /* odd while a thread ends */
	unsigned long long sum_sched_runtime; /* of threads that have ended */
};
struct preempt_notifier { struct hlist_node link; };
struct sched_entity { u64 sum_exec_runtime; };
struct sched_info { unsigned long pcount; unsigned long long run_delay; }; /* members with CONFIG_SCHED_INFO */
struct cfs_bandwidth { /* members with CONFIG_CFS_BANDWIDTH */
	long long period;
	u64 quota;
	int nr_periods, nr_throttled;
	u64 throttled_time;
};
struct task_group { struct task_group *parent; struct cfs_bandwidth cfs_bandwidth; };
struct task_struct {
	unsigned int flags;
	struct sched_entity se;
	struct task_group *sched_task_group; /* with CONFIG_CGROUP_SCHED */
	char comm[16];
	struct sched_info sched_info;
	struct list_head tasks;
	struct list_head thread_node;
	struct signal_struct *signal;
	struct mm_struct *mm;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	u64 start_boottime;
	struct pid *thread_pid;
	struct hlist_node pid_links[1];
	struct hlist_head preempt_notifiers;
	unsigned long nvcsw, nivcsw; /* times that it was descheduled */
};

/* -- the debugfs directory of a VM, whose inode tells when it was made -------------------------------------------- */
struct timespec64 { long long tv_sec; long tv_nsec; };
struct inode {
	unsigned long i_ino;
	long long i_ctime_sec; /* 6.11 and later */
	u32 i_ctime_nsec;
};
struct inode___6_6 { struct timespec64 __i_ctime; }; /* 6.6 to 6.10 */
struct inode___5_0 { struct timespec64 i_ctime; };   /* up to 6.5 */
struct hlist_bl_node { struct hlist_bl_node *next, **pprev; };
struct dentry {
	struct hlist_bl_node d_hash; /* pprev is NULL once it was removed */
	struct inode *d_inode;
};

/* -- KVM --------------------------------------------------------------------------------------------------------- */
struct xarray { void *xa_head; };
struct xa_node { unsigned char shift; void *slots[64]; };

struct kvm_memory_slot {
	struct hlist_node id_node[2]; /* 5.17 and later, as all of this */
	unsigned long base_gfn;
	unsigned long npages;
	unsigned long *dirty_bitmap;
	u32 flags;
};
struct kvm_memslots {
	u64 generation;
	struct hlist_head id_hash[128];
	int node_idx;
};

struct kvm_vm_stat { u64 first; };
struct kvm_vcpu_stat { u64 first; u64 exits; };

enum kvm_irqchip_mode { KVM_IRQCHIP_MODE_ANY };
enum kvm_apicv_inhibit { APICV_INHIBIT_REASON_PHYSICAL_ID_TOO_BIG }; /* that there is one is all that is asked */
struct kvm_kpit_state { atomic_t reinject; };
struct kthread_worker { struct task_struct *task; };
struct kvm_pit { struct kvm_kpit_state pit_state; struct kthread_worker *worker; };
struct kvm_arch { /* x86 */
	struct kvm_pit *vpit; /* not with CONFIG_KVM_IOAPIC=n */
	unsigned long apicv_inhibit_reasons;
	enum kvm_irqchip_mode irqchip_mode;
	bool x2apic_format;
	bool hlt_in_guest; /* up to 6.16 */
};
struct kvm_arch___6_17 { u64 disabled_exits; };
struct kvm {
	struct mm_struct *mm;
	struct list_head vm_list;
	refcount_t users_count;
	unsigned long nr_memslot_pages;	  /* 5.17 and later */
	struct kvm_memslots *memslots[1]; /* the active ones of each address space */
	atomic_t nr_memslots_dirty_logging; /* 6.2 and later */
	struct xarray vcpu_array; /* 5.17 and later */
	atomic_t online_vcpus;
	struct kvm_vm_stat stat;
	struct kvm_arch arch;
	struct mmu_notifier mmu_notifier;
	struct dentry *debugfs_dentry;
	char stats_id[48];
	unsigned int max_halt_poll_ns;
	bool override_halt_poll_ns; /* 6.1 and later; before, max_halt_poll_ns always counts */
};
struct kvm___6_17 { struct kvm_arch___6_17 arch; };

struct kvm_sev_info { bool active; };
struct kvm_svm { struct kvm kvm; u32 avic_vm_id; struct kvm_sev_info sev_info; };

struct kvm_vcpu;
struct kvm_lapic { struct kvm_vcpu *vcpu; bool apicv_active; void *regs; };
struct kvm_vcpu_hv_synic { unsigned long auto_eoi_bitmap[4]; };
struct kvm_vcpu_hv { struct kvm_vcpu_hv_synic synic; };
struct kvm_run { /* shared with the VMM, which can write to it */
	union {
		struct { u64 hardware_entry_failure_reason; } fail_entry;
		struct { u32 suberror; } internal;
	};
};
struct kvm_vcpu_arch {
	u64 apic_base;          /* x86 */
	struct kvm_lapic *apic; /* x86 */
	struct kvm_vcpu_hv *hyperv; /* x86, not with CONFIG_KVM_HYPERV=n */
};
struct kvm_vcpu {
	struct kvm *kvm;
	struct preempt_notifier preempt_notifier;
	int vcpu_id;
	int vcpu_idx;
	unsigned long guest_debug;
	struct kvm_run *run;
	struct pid *pid;
	rwlock_t pid_lock; /* 6.13 and later; before, RCU protects `pid` */
	struct kvm_vcpu_arch arch;
	struct kvm_vcpu_stat stat;
};

/* -- why a vCPU left the guest --------------------------------------------------------------------------------------- */
union vmx_exit_reason { u32 full; };
struct vcpu_vt { union vmx_exit_reason exit_reason; };
struct vcpu_vmx { union vmx_exit_reason exit_reason; };		 /* up to 6.15 */
struct vcpu_vmx___6_16 { struct kvm_vcpu vcpu; struct vcpu_vt vt; }; /* and in struct vcpu_tdx, at the same place */
struct vmcb_control_area { u32 exit_code; };
struct vmcb { struct vmcb_control_area control; };
struct vcpu_svm { struct vmcb *vmcb; };

#pragma clang attribute pop

/* The context of an iterator over the elements of a map (include/linux/bpf.h, bpf_iter__bpf_map_elem). */
struct seq_file;
struct bpf_map;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id; u64 seq_num; } __attribute__((preserve_access_index));
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
} __attribute__((preserve_access_index));

#endif
