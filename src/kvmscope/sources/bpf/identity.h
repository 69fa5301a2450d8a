/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who a VM is, and which vCPU the current thread has: what all programs must agree on, for what they count to be joined.
 *
 * A VM's id is a hash of the boot id and of its birth: the number and time of the inode of its debugfs directory, which no
 * other VM of this boot has. So every program and every reader that sees the birth gives it the same id
 * (sources/vm_ids.py), and no address of the kernel is in it. A VM without that directory has the id of its process, as
 * long as the process has no other VM.
 */
#ifndef KVMSCOPE_IDENTITY_H
#define KVMSCOPE_IDENTITY_H

#include "kernel.h"

/* The value of one member, or zero where it cannot be read. `base` is evaluated outside of the relocated expression. */
#define read_member(type, base, member)                                                                                \
	({                                                                                                             \
		type *base_ = (type *)(base);                                                                          \
		typeof(base_->member) value_ = 0;                                                                      \
		bpf_core_read(&value_, sizeof(value_), &base_->member);                                                \
		value_;                                                                                                \
	})

static __always_inline u64 mix(u64 x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The inode of the VM's debugfs directory, whose number and time of creation no other VM has; 0 with debugfs=off. */
static __always_inline u64 birth_inode(u64 kvm)
{
	u64 dentry = (u64)read_member(struct kvm, kvm, debugfs_dentry);

	return dentry ? (u64)read_member(struct dentry, dentry, d_inode) : 0;
}

static __always_inline u64 birth_time(u64 inode)
{
	struct timespec64 ctime = {};

	if (bpf_core_field_exists(struct inode, i_ctime_sec))
		return read_member(struct inode, inode, i_ctime_sec) * 1000000000ULL +
		       read_member(struct inode, inode, i_ctime_nsec);
	if (bpf_core_field_exists(struct inode___6_6, __i_ctime))
		bpf_core_read(&ctime, sizeof(ctime), &((struct inode___6_6 *)inode)->__i_ctime);
	else if (bpf_core_field_exists(struct inode___5_0, i_ctime))
		bpf_core_read(&ctime, sizeof(ctime), &((struct inode___5_0 *)inode)->i_ctime);
	return ctime.tv_sec * 1000000000ULL + ctime.tv_nsec;
}

/* `key` is the boot id. sources/vm_ids.py has the same three functions. */
static __always_inline u64 hash_words(u64 first, u64 second, u64 kind, const volatile u64 *key)
{
	return mix(mix(mix(first ^ key[0]) + second) + (kind ^ key[1]));
}

static __always_inline u64 id_by_birth(u64 number, u64 created_ns, const volatile u64 *key)
{
	return hash_words(number, created_ns, 0, key);
}

#define NS_PER_TICK 10000000ULL /* of USER_HZ, as field 22 of /proc/PID/stat has it */

/* `leader` is the task_struct of the process's first thread. */
static __always_inline u64 id_by_process(u64 leader, const volatile u64 *key)
{
	return hash_words((u32)read_member(struct task_struct, leader, tgid),
			  read_member(struct task_struct, leader, start_boottime) / NS_PER_TICK, 1, key);
}

/* Whether its address space has no other VM (nor anybody else's notifier). */
static __always_inline bool is_alone(u64 kvm)
{
	u64 mm = (u64)read_member(struct kvm, kvm, mm);
	u64 list = (u64)read_member(struct mm_struct, mm, notifier_subscriptions) +
		   bpf_core_field_offset(struct mmu_notifier_subscriptions, list);

	return !read_member(struct kvm, kvm, mmu_notifier.hlist.next) &&
	       (u64)read_member(struct kvm, kvm, mmu_notifier.hlist.pprev) == list;
}

/* The vCPU that the current thread has loaded; 0 if none. */
static __always_inline u64 loaded_vcpu(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	u64 link = (u64)task->preempt_notifiers.first;

	return link ? link - bpf_core_field_offset(struct kvm_vcpu, preempt_notifier.link) : 0;
}

#endif
