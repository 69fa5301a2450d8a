/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who a VM is, and which vCPU the current thread has: what all programs must agree on, for what they count to be joined.
 *
 * A VM is named by a number made of its kernel address and its birth under a secret of 16 bytes, so that no address of
 * the kernel is in anything that a reader can map. Programs of one secret give a VM one name.
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

static __always_inline u64 identity(u64 kvm, u64 created_ns, u64 number, const volatile u64 *secret)
{
	return mix(mix(mix(kvm ^ secret[0]) + created_ns) + number + secret[1]);
}

/* The vCPU that the current thread has loaded; 0 if none. */
static __always_inline u64 loaded_vcpu(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	u64 link = (u64)task->preempt_notifiers.first;

	return link ? link - bpf_core_field_offset(struct kvm_vcpu, preempt_notifier.link) : 0;
}

#endif
