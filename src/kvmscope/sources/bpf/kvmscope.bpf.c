// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One run of this iterator copies the statistics of every VM and vCPU of the host.
 *
 * It is not a tracer: it is attached to no event and costs nothing until a reader opens the iterator's file.
 *
 * Finding VMs. KVM registers an MMU notifier with the address space of the process that creates a VM, and unregisters
 * it when the VM is destroyed (kvm_init_mmu_notifier, kvm_destroy_vm in virt/kvm/kvm_main.c). So the list at
 * mm->notifier_subscriptions has each VM exactly once, however many files and processes hold it, and is empty for
 * nearly every other process. The program reads no open files and needs no symbol addresses.
 *
 * Consistency. The program takes no reference on a VM, so the VM may be destroyed while it is read. Therefore all that is
 * read goes to scratch memory that no reader can map; the program then checks that the VM was alive throughout; and
 * only after that check it follows the pointers that it read, or copies the scratch to the arrays that readers map.
 *
 * The check (is_alive) looks at the dentry of the VM's debugfs directory. kvm_destroy_vm() first removes that directory,
 * which unhashes the dentry for good (simple_recursive_removal, d_invalidate), then removes the VM from the list of its
 * address space (mmu_notifier_unregister), and only then frees its PIT, its vCPUs and itself. A dentry is freed by RCU,
 * and the whole program runs under rcu_read_lock(). So a dentry that was the VM's when the program reached the VM stays
 * valid until the program ends, even if the VM is destroyed; and while the dentry is hashed, the VM and its vCPUs
 * have not been freed. The program never reads memory that may have been reused.
 *
 * The program reaches a VM through a live object: the list head in the address space of a process, or the list node of
 * a VM that is_alive() checks afterwards. A few reads lead from there to the dentry. Between hlist_del and the
 * free of a VM lies a grace period of SRCU, for which other threads must run, so these reads are valid if the program was
 * neither descheduled nor slow during them (glance_holds). A VM without a debugfs directory is checked only in that way,
 * every few vCPUs: it is on the list, and it has users.
 *
 * Every read is one that cannot fault.
 */
#include "kernel.h"
#include "identity.h"
#include "snapshot.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_PROCESSES (1 << 22) /* the kernel's own limit on pids */
#define MAX_NOTIFIERS (1 << 16)
#define MAX_LEVELS 4 /* of an xarray: 64^4 vCPUs */
#define MAX_THREADS 32
#define MAX_ANCESTORS 512
#define MAX_GROUPS 16	    /* of tasks, from that of a thread up */
#define MAX_RECOUNTS 3	    /* of the threads of a process that end while they are counted */
#define MARKS 4096	    /* vCPU threads of one process, twice as many as are likely; a power of two */
#define MAX_PROBES 32
#define MAX_RESTARTS 16	    /* of one process whose VMs go while they are read */
#define MAX_REDOS 64	    /* of one part of a VM */
#define MAX_MEMSLOT_LOOKS 4 /* at the slots of a VM, whose VMM changes them meanwhile */
#define MAX_MEMSLOT_STEPS (1 << 16) /* KVM has 32,764 memory slots at most, in 128 buckets */
#define CHUNK 64	    /* vCPUs that are read before they are checked: those of one node of the xarray */
#define CHUNK_BY_LIST 4	    /* the same of a VM without a debugfs directory */
#define GLANCE_NS 100000ULL /* no VM is destroyed and another made in its place in twice this time */
#define GLANCE_PER_NODE_NS 100ULL

/* Numbers that the processor's or the kernel's ABI fixes. */
#define PF_KTHREAD 0x00200000
#define IRQCHIP_KERNEL 1
#define IRQCHIP_SPLIT 2
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
#define KVM_MEM_LOG_DIRTY_PAGES 1
#define MEMSLOT_BUCKETS 128
#define APIC_BASE_X2APIC (1ULL << 10)
#define APIC_BASE_ENABLE (1ULL << 11)
#define APIC_BASE_ADDRESS 0xffffff000ULL
#define APIC_DEFAULT_ADDRESS 0xfee00000ULL
#define APIC_ID 0x20
#define APIC_LDR 0xd0
#define APIC_DFR 0xe0

/* Sizes and numbers of elements are set by the loader: records end in this kernel's stat structures. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 4096);
} vms SEC(".maps"), vcpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

/* What readers of a pinned iterator need to know; written by the loader (pins.py), never by the program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 65536);
} meta SEC(".maps");

/* Whether the program reads no more. Where it is pinned, root alone can open this map, and sets it on detaching: who has
 * the iterator's file open could read by it, and open it again, for as long as the file is held. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} closed SEC(".maps");

/* Set by the loader before the program is loaded. */
const volatile struct {
	u64 key[2];    /* the boot id */
	u64 salt;      /* hides addresses; in no map that readers can open */
	u32 slots;     /* in use, so many readers at a time; at most SNAPSHOT_MAX_SLOTS */
	u32 vm_room;   /* VMs that a slot of `vms` can hold */
	u32 vcpu_room; /* vCPUs that a slot of `vcpus` can hold */
	u32 is_svm;    /* VMs are run by kvm_amd: a struct kvm is the head of a struct kvm_svm */
	u32 groups;    /* opt-in groups that are wanted: GROUP_ bits */
	u32 root_slots; /* of `slots`, the first, which no reader but root takes */
} config;

/* Where a record is put together until its VM is known to be alive. Not mmapable and never pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the loader: one for each slot */
	__uint(key_size, sizeof(u32));
	__uint(value_size, 4096);
} staged_vms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CHUNK); /* the loader: as many for each slot */
	__uint(key_size, sizeof(u32));
	__uint(value_size, 4096);
} staged_vcpus SEC(".maps");

/* The vCPU threads of the process that is being read, by a hash of their address, for each slot. */
struct mark {
	u64 task, stamp;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MARKS); /* the loader: as many for each slot */
	__type(key, u32);
	__type(value, struct mark);
} marks SEC(".maps");

struct walk {
	u64 task, first_task;	/* where the walk over processes is, and where it began */
	u64 ns;			/* pid namespace of the reader, and its level */
	u32 ns_level;
	u32 slot;
	u64 holder, mm;		/* thread that is being looked at, and its address space */
	s32 pid;
	u32 finished, unfinished;
	u64 list, node;		/* its notifiers: address of the list head, current node */
	u64 anchor;		/* VM whose node led to the current one; 0: the list head did */
	u64 anchor_dentry, anchor_inode;
	u64 glance_ns, glance_switches;
	u32 nodes;		/* that were passed in this glance */
	u32 restarts;
	u64 kvm, id;		/* VM that is being read, and its proof of life: see is_alive() */
	u64 dentry, inode, number, created_ns;
	u32 vm, vcpu;		/* records so far */
	u32 first_vm, first_vcpu; /* of this process */
	u32 vanished;
	u32 unreadable;		/* some stats of this VM could not be copied: zeros must not pass for them */
	u32 auto_eoi;		/* some vCPU of this VM uses it */
	u64 word;		/* inhibit reasons of this VM */
	u64 inhibits;		/* all bits that are set in some VM */
	u64 pit;
	u32 avic_vm_id;
	u64 memslots, memslot;	/* its memory slots, and the hash node that is being looked at */
	u64 logged_pages;	/* of the slots so far */
	u64 memslot_node;	/* offset of that node in a slot */
	u32 bucket;		/* of the hash of slots */
	u32 online, base;	/* vCPUs of this VM, and how many of them are done */
	u64 switches;		/* of the reader's thread when it began with this chunk */
	u64 slots[CHUNK];	/* vCPUs, 64 at a time; below what was read of those of this chunk */
	u64 pids[CHUNK], tasks[CHUNK], groups[CHUNK], apics[CHUNK], regs[CHUNK], hypervs[CHUNK];
	u32 log_numbers[CHUNK];
	u64 group, group_above;	/* of the vCPU before, and the one above that of the first */
	u64 stamp;		/* of this process's marks; never the same twice */
	bool is_alone;		/* this VM is the only one of its process */
	u32 unmarked;		/* there was no room for a mark */
	u64 thread, last_thread; /* where the walk over threads is: list nodes */
	u8 near[256];		/* scratch of read_near() */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SNAPSHOT_MAX_SLOTS);
	__type(key, u32);
	__type(value, struct walk);
} walks SEC(".maps"); /* not on the stack: the verifier would follow each value through all the loops */

#define GROUP_APICV 1 /* events are counted */
#define GROUP_APIC 2  /* registers of local APICs are read, each from a page of its own */

/* Where the kernel's stat structure goes in a record that has so many words of events if the group is attached. */
#define events_of(words) (config.groups & GROUP_APICV ? (words) : 0)
#define stat_after(record, event_words) ((record)->more + events_of(event_words))

#include "apicv_events.h"

static u64 upid_at(u64 pid, u32 level)
{
	return pid + bpf_core_field_offset(struct pid, numbers) + (u64)level * bpf_core_type_size(struct upid);
}

/* Fetches all from member `first` to member `last` into walk->near by one read, since a read costs some 25 ns however
 * small it is. near(type, first, member) is then the value of a member in between. Both are constants after relocation;
 * the verifier drops the branch that a kernel does not need. */
#define span(type, first, last)                                                                                        \
	(bpf_core_field_offset(type, last) + bpf_core_field_size(type, last) - bpf_core_field_offset(type, first))
#define is_near(type, first, middle, last)                                                                             \
	(bpf_core_field_offset(type, first) <= bpf_core_field_offset(type, middle) &&                                  \
	 bpf_core_field_offset(type, middle) < bpf_core_field_offset(type, last) &&                                    \
	 span(type, first, last) <= sizeof(((struct walk *)0)->near))
#define read_near(walk, type, base, first, last)                                                                       \
	bpf_probe_read_kernel((walk)->near, span(type, first, last),                                                   \
			      (void *)((base) + bpf_core_field_offset(type, first)))
#define near_member(walk, type, first, member)                                                                         \
	(*(typeof(((type *)0)->member) *)((walk)->near + bpf_core_field_offset(type, member) -                         \
					  bpf_core_field_offset(type, first)))

/* The number of a pid in the reader's namespace; 0 if it has none there. */
static s32 pid_number(struct walk *walk, u64 pid)
{
	u64 place = upid_at(pid, walk->ns_level);

	if (!pid)
		return 0;
	if (walk->ns_level && (read_member(struct pid, pid, level) < walk->ns_level ||
			       (u64)read_member(struct upid, place, ns) != walk->ns))
		return 0;
	return read_member(struct upid, place, nr);
}

/* Whether the notifier at `node` is the one inside a struct kvm of this process: the structure around it would have to
 * point back at the same address space and carry the id string of a VM in the right places. */
static bool is_vm(u64 kvm, u64 mm)
{
	u32 text = 0;

	if ((u64)read_member(struct kvm, kvm, mm) != mm)
		return 0;
	bpf_core_read(&text, sizeof(text), &((struct kvm *)kvm)->stats_id);
	return text == *(const u32 *)"kvm-";
}

static bool is_xa_node(u64 entry)
{
	return (entry & 3) == 2 && entry > 4096;
}

#define xa_slots(node) (void *)((node)-2 + bpf_core_field_offset(struct xa_node, slots))

/* Brings the entries of the xarray at index `i` and the 63 after it into walk->slots; `i` is a multiple of 64. */
static void load_slots(struct walk *walk, u32 i)
{
	u64 node = (u64)read_member(struct kvm, walk->kvm, vcpu_array.xa_head);
	int level;

	if (!is_xa_node(node))
		walk->slots[0] = node; /* an array of one */
	for (level = 0; level < MAX_LEVELS && is_xa_node(node); level++) {
		u32 shift = read_member(struct xa_node, node - 2, shift);

		if (bpf_probe_read_kernel(walk->slots, sizeof(walk->slots), xa_slots(node)) || !shift)
			break;
		node = walk->slots[(i >> (shift & 31)) & 63];
	}
}

/* -- proof of life ------------------------------------------------------------------------------------------------- */

/* How often the reader's thread was descheduled. */
static u64 count_switches(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

	return task->nvcsw + task->nivcsw;
}

static void begin_glance(struct walk *walk)
{
	walk->nodes = 0;
	walk->glance_switches = count_switches();
	walk->glance_ns = bpf_ktime_get_ns();
}

/* Whether nothing that was alive when this glance began can have been freed and used again since. The next one begins. */
static bool glance_holds(struct walk *walk)
{
	u64 now = bpf_ktime_get_ns(), switches = count_switches();
	bool holds = switches == walk->glance_switches &&
		     now - walk->glance_ns < GLANCE_NS + walk->nodes * GLANCE_PER_NODE_NS;

	walk->nodes = 0;
	walk->glance_switches = switches;
	walk->glance_ns = now;
	return holds;
}

/* The inode of a directory that has not been removed; else 0. */
static u64 inode_if_hashed(struct walk *walk, u64 dentry)
{
	u64 hashed, inode;

	if (is_near(struct dentry, d_hash, d_hash, d_inode)) {
		if (read_near(walk, struct dentry, dentry, d_hash, d_inode))
			return 0;
		hashed = (u64)near_member(walk, struct dentry, d_hash, d_hash.pprev);
		inode = (u64)near_member(walk, struct dentry, d_hash, d_inode);
	} else {
		hashed = (u64)read_member(struct dentry, dentry, d_hash.pprev);
		inode = (u64)read_member(struct dentry, dentry, d_inode);
	}
	return hashed ? inode : 0;
}

static bool is_on_list(u64 kvm)
{
	return read_member(struct kvm, kvm, mmu_notifier.hlist.pprev) &&
	       read_member(struct kvm, kvm, users_count.refs.counter);
}

static bool was_alive(struct walk *walk, u64 kvm, u64 dentry, u64 inode)
{
	return dentry ? inode_if_hashed(walk, dentry) == inode : is_on_list(kvm) && glance_holds(walk);
}

/* Whether all that was read of the VM up to here was the VM's. */
static bool is_alive(struct walk *walk)
{
	return was_alive(walk, walk->kvm, walk->dentry, walk->inode);
}

/* Finds out what vouches for the VM at walk->kvm from now on. False: it is still being made, or already destroyed. */
static bool find_proof(struct walk *walk)
{
	u64 dentry = (u64)read_member(struct kvm, walk->kvm, debugfs_dentry);

	walk->dentry = walk->inode = walk->number = walk->created_ns = 0;
	if (dentry && dentry < -4095ULL) {
		walk->dentry = dentry;
		walk->inode = inode_if_hashed(walk, dentry);
		if (!walk->inode)
			return 0;
		walk->number = read_member(struct inode, walk->inode, i_ino);
		walk->created_ns = birth_time(walk->inode);
		return 1;
	}
	/* KVM puts it on its own list once all is made. */
	return read_member(struct kvm, walk->kvm, vm_list.next) && is_on_list(walk->kvm);
}

/* -- vCPUs: read, check, follow, check, copy out ------------------------------------------------------------------- */

static struct vcpu_record *staged_vcpu(struct walk *walk, u32 i)
{
	u32 index = walk->slot * CHUNK + i;

	return bpf_map_lookup_elem(&staged_vcpus, &index);
}

/* Members of a vCPU that every record has: one read. */
static void read_identity(struct walk *walk, u64 vcpu, u32 i, struct vcpu_record *record)
{
	unsigned long debug;

	if (is_near(struct kvm_vcpu, vcpu_id, guest_debug, pid)) {
		read_near(walk, struct kvm_vcpu, vcpu, vcpu_id, pid);
		record->vcpu_id = near_member(walk, struct kvm_vcpu, vcpu_id, vcpu_id);
		debug = near_member(walk, struct kvm_vcpu, vcpu_id, guest_debug);
		walk->pids[i] = (u64)near_member(walk, struct kvm_vcpu, vcpu_id, pid);
	} else {
		record->vcpu_id = read_member(struct kvm_vcpu, vcpu, vcpu_id);
		debug = read_member(struct kvm_vcpu, vcpu, guest_debug);
		walk->pids[i] = (u64)read_member(struct kvm_vcpu, vcpu, pid);
	}
	record->apicv[VCPU_BLOCKIRQ] = !!(debug & KVM_GUESTDBG_BLOCKIRQ);
	record->flags = 0;
}

#define has_apicv                                                                                                      \
	(bpf_core_field_exists(struct kvm_vcpu_arch, apic) && bpf_core_field_exists(struct kvm_lapic, apicv_active))

/* Where an x86 vCPU's local APIC is, and how it is set: one read. */
static void read_apic_base(struct walk *walk, u64 vcpu, u32 i, struct vcpu_record *record)
{
	u64 base;

	if (is_near(struct kvm_vcpu, arch.apic_base, arch.apic_base, arch.apic)) {
		read_near(walk, struct kvm_vcpu, vcpu, arch.apic_base, arch.apic);
		base = near_member(walk, struct kvm_vcpu, arch.apic_base, arch.apic_base);
		walk->apics[i] = (u64)near_member(walk, struct kvm_vcpu, arch.apic_base, arch.apic);
	} else {
		base = read_member(struct kvm_vcpu, vcpu, arch.apic_base);
		walk->apics[i] = (u64)read_member(struct kvm_vcpu, vcpu, arch.apic);
	}
	record->apicv[VCPU_APIC_ENABLED] = !!(base & APIC_BASE_ENABLE);
	record->apicv[VCPU_APIC_X2APIC] = !!(base & APIC_BASE_X2APIC);
	record->apicv[VCPU_APIC_BASE_MOVED] = base & APIC_BASE_ENABLE && (base & APIC_BASE_ADDRESS) != APIC_DEFAULT_ADDRESS;
}

/* What a vCPU has in its own structure. */
static long read_vcpu(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *record = staged_vcpu(walk, i & (CHUNK - 1));
	u64 vcpu;

	i &= CHUNK - 1;
	vcpu = walk->slots[(walk->base + i) & (CHUNK - 1)];
	if (!record)
		return 1;
	if (bpf_probe_read_kernel(stat_after(record, VCPU_EVENT_WORDS), bpf_core_type_size(struct kvm_vcpu_stat),
				  (void *)(vcpu + bpf_core_field_offset(struct kvm_vcpu, stat))))
		walk->unreadable = 1;
	record->vm = walk->vm;
	read_identity(walk, vcpu, i, record);
	if (has_apicv)
		read_apic_base(walk, vcpu, i, record);
	if (config.groups & GROUP_APIC && bpf_core_field_exists(struct kvm_vcpu_arch, hyperv))
		walk->hypervs[i] = (u64)read_member(struct kvm_vcpu, vcpu, arch.hyperv);
	if (config.groups & GROUP_APICV)
		walk->log_numbers[i] = number_in_log(vcpu);
	return 0;
}

/* The state of a local APIC, and where its registers are: one read. */
static void follow_apic(struct walk *walk, u32 i, struct vcpu_record *record)
{
	u64 apic = walk->apics[i];

	walk->regs[i] = 0;
	if (!apic)
		return;
	if (is_near(struct kvm_lapic, apicv_active, apicv_active, regs)) {
		read_near(walk, struct kvm_lapic, apic, apicv_active, regs);
		record->apicv[VCPU_APICV_ACTIVE] = near_member(walk, struct kvm_lapic, apicv_active, apicv_active);
		walk->regs[i] = (u64)near_member(walk, struct kvm_lapic, apicv_active, regs);
	} else {
		record->apicv[VCPU_APICV_ACTIVE] = read_member(struct kvm_lapic, apic, apicv_active);
		walk->regs[i] = (u64)read_member(struct kvm_lapic, apic, regs);
	}
	record->flags |= VCPU_HAS_APIC;
}

/* Whether a SynIC has a SINT with AutoEOI. KVM's own count of them moves only while APICv is on. */
static bool has_auto_eoi(u64 hyperv)
{
	u64 words[4] = {};

	if (hyperv)
		bpf_core_read(words, sizeof(words), &((struct kvm_vcpu_hv *)hyperv)->synic.auto_eoi_bitmap);
	return words[0] | words[1] | words[2] | words[3];
}

/* What is read of a pid in the first namespace by one read: from its threads to its number there. */
#define pid_span                                                                                                       \
	(bpf_core_field_offset(struct pid, numbers) + bpf_core_field_offset(struct upid, nr) + sizeof(s32) -           \
	 bpf_core_field_offset(struct pid, tasks))
#define pid_is_near                                                                                                    \
	(bpf_core_field_offset(struct pid, tasks) < bpf_core_field_offset(struct pid, numbers) &&                      \
	 pid_span <= sizeof(((struct walk *)0)->near))

/* The thread that last ran the vCPU. KVM lets go of the pid of the one before at once since 6.13 (KVM: Protect vCPU's
 * "last run PID" with rwlock, not RCU), so there the number counts only if the vCPU has the same pid after it was read.
 * A vCPU keeps the pid of a thread that has ended, as after it was unplugged, and its number may be another thread's by
 * now; but no thread is at that pid any more. */
static s32 follow_pid(struct walk *walk, u64 vcpu, u32 i)
{
	u64 pid = walk->pids[i], link;
	s32 tid;

	walk->tasks[i] = 0;
	if (!pid)
		return 0;
	if (!walk->ns_level && pid_is_near) {
		bpf_probe_read_kernel(walk->near, pid_span, (void *)(pid + bpf_core_field_offset(struct pid, tasks)));
		link = *(u64 *)walk->near;
		tid = link ? *(s32 *)(walk->near + pid_span - sizeof(tid)) : 0;
	} else {
		link = (u64)read_member(struct pid, pid, tasks[0].first);
		tid = link ? pid_number(walk, pid) : 0;
	}
	if (bpf_core_field_exists(struct kvm_vcpu, pid_lock) &&
	    (u64)read_member(struct kvm_vcpu, vcpu, pid) != pid)
		return 0;
	walk->tasks[i] = link ? link - bpf_core_field_offset(struct task_struct, pid_links) : 0;
	return tid;
}

/* What a vCPU points to. */
static long follow_vcpu(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *record = staged_vcpu(walk, i & (CHUNK - 1));

	i &= CHUNK - 1;
	if (!record)
		return 1;
	record->tid = follow_pid(walk, walk->slots[(walk->base + i) & (CHUNK - 1)], i);
	if (has_apicv)
		follow_apic(walk, i, record);
	if (config.groups & GROUP_APIC && bpf_core_field_exists(struct kvm_vcpu_arch, hyperv))
		walk->auto_eoi |= has_auto_eoi(walk->hypervs[i]);
	return 0;
}

#define has_sched_info bpf_core_field_exists(struct sched_info, run_delay)
#define has_cpu_quota                                                                                                  \
	(bpf_core_field_exists(struct task_struct, sched_task_group) &&                                                \
	 bpf_core_field_exists(struct cfs_bandwidth, throttled_time))

struct probe {
	struct walk *walk;
	u64 task;
	bool sets, is_found;
};

/* One place where a mark may be. Places are taken in a row from that of the hash on, and none is given back, so a thread
 * that is not marked has come to a place that this process has not taken. */
static long probe_mark(u32 i, struct probe **context)
{
	struct probe *probe = *context;
	u32 index = ((u32)(probe->task * 0x9e3779b97f4a7c15ULL >> 40) + i) & (MARKS - 1);
	struct mark *mark;

	index += probe->walk->slot * MARKS;
	mark = bpf_map_lookup_elem(&marks, &index);
	if (!mark)
		return 1;
	if (mark->stamp == probe->walk->stamp) {
		probe->is_found = mark->task == probe->task;
		return probe->is_found;
	}
	if (probe->sets) {
		mark->task = probe->task;
		mark->stamp = probe->walk->stamp;
		probe->is_found = 1;
	}
	return 1;
}

/* Whether a thread is a vCPU of the process that is being read. */
static bool is_marked(struct walk *walk, u64 task)
{
	struct probe probe = {.walk = walk, .task = task}, *context = &probe;

	bpf_loop(MAX_PROBES, probe_mark, &context, 0);
	return probe.is_found;
}

static void set_mark(struct walk *walk, u64 task)
{
	struct probe probe = {.walk = walk, .task = task, .sets = 1}, *context = &probe;

	bpf_loop(MAX_PROBES, probe_mark, &context, 0);
	if (!probe.is_found)
		walk->unmarked = 1;
}

/* What the scheduler has counted for a vCPU's thread. The thread was at the vCPU's pid in this run, and a task_struct that
 * somebody could come to is freed by RCU, so it is the thread's until the program ends. */
static long read_sched(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *record = staged_vcpu(walk, i & (CHUNK - 1));
	struct sched_info info = {};
	u64 task;

	i &= CHUNK - 1;
	task = walk->tasks[i];
	walk->groups[i] = 0;
	if (!record)
		return 1;
	if (!task || bpf_core_read(&info, sizeof(info), &((struct task_struct *)task)->sched_info))
		return 0;
	record->sched[VCPU_RUN_NS] = read_member(struct task_struct, task, se.sum_exec_runtime);
	record->sched[VCPU_RUN_DELAY_NS] = info.run_delay;
	record->sched[VCPU_TIMESLICES] = info.pcount;
	record->flags |= VCPU_HAS_SCHED;
	if (has_cpu_quota)
		walk->groups[i] = (u64)read_member(struct task_struct, task, sched_task_group);
	if (walk->is_alone)
		set_mark(walk, task);
	return 0;
}

/* Registers of a local APIC: one read of a page that is in no cache. */
static long read_registers(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *record = staged_vcpu(walk, i & (CHUNK - 1));
	u64 regs;

	i &= CHUNK - 1;
	regs = walk->regs[i];
	if (!record)
		return 1;
	if (!regs || bpf_probe_read_kernel(walk->near, APIC_DFR + 4 - APIC_ID, (void *)(regs + APIC_ID)))
		return 0;
	record->apicv[VCPU_APIC_ID] = *(u32 *)walk->near >> (record->apicv[VCPU_APIC_X2APIC] ? 0 : 24);
	record->apicv[VCPU_APIC_LDR] = *(u32 *)(walk->near + APIC_LDR - APIC_ID);
	record->apicv[VCPU_APIC_DFR] = *(u32 *)(walk->near + APIC_DFR - APIC_ID);
	return 0;
}

/* Adds the quota of one group of threads. Of several the one that allows least is told. */
static void add_quota(struct vm_record *record, u64 group)
{
	u64 quota = read_member(struct task_group, group, cfs_bandwidth.quota), period;

	if (quota == -1ULL)
		return;
	period = read_member(struct task_group, group, cfs_bandwidth.period);
	if (!record->quota[VM_QUOTA_SET] ||
	    quota * (record->quota[VM_PERIOD_NS] >> 10) < record->quota[VM_QUOTA_NS] * (period >> 10)) {
		record->quota[VM_QUOTA_NS] = quota;
		record->quota[VM_PERIOD_NS] = period;
	}
	record->quota[VM_QUOTA_SET] = 1;
	record->quota[VM_NR_PERIODS] += (u32)read_member(struct task_group, group, cfs_bandwidth.nr_periods);
	record->quota[VM_NR_THROTTLED] += (u32)read_member(struct task_group, group, cfs_bandwidth.nr_throttled);
	record->quota[VM_THROTTLED_NS] += read_member(struct task_group, group, cfs_bandwidth.throttled_time);
}

/* The quotas to which a vCPU's thread is subject: those of its group and of all above. vCPUs share a group, or each has its
 * own (libvirt) and they share those above, which count once. A group is freed by RCU, after all that are below it. */
static void add_groups(struct walk *walk, u64 group)
{
	u32 index = walk->slot, i;
	struct vm_record *record = bpf_map_lookup_elem(&staged_vms, &index);

	if (!record || !group || group == walk->group)
		return;
	walk->group = group;
	record->flags |= VM_HAS_QUOTA;
	for (i = 0; i < MAX_GROUPS && group; i++) {
		add_quota(record, group);
		group = (u64)read_member(struct task_group, group, parent);
		if (!i && group && group == walk->group_above)
			break;
		if (!i)
			walk->group_above = group;
	}
}

/* Updating an element copies it by the processor's fastest way; bpf_probe_read_kernel() copies word by word. */
static long publish_vcpu(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *staged = staged_vcpu(walk, i & (CHUNK - 1));
	u32 index = walk->slot * config.vcpu_room + walk->vcpu;

	if (has_cpu_quota)
		add_groups(walk, walk->groups[i & (CHUNK - 1)]);
	if (walk->vcpu++ >= config.vcpu_room)
		return 0; /* go on counting, so that the reader learns how much room it needs */
	if (!staged)
		return 1;
	if (config.groups & GROUP_APICV)
		copy_vcpu_events(walk, i & (CHUNK - 1), staged);
	return bpf_map_update_elem(&vcpus, &index, staged, BPF_ANY) != 0;
}

/* The vCPUs from walk->base on, as many as are read before they are checked. A chunk in which the reader was descheduled
 * is read again: a pid could have come back meanwhile, as another thread's. */
static long copy_chunk(u32 again, struct walk **context)
{
	struct walk *walk = *context;
	u32 n = CHUNK - (walk->base & (CHUNK - 1)), most = walk->dentry ? CHUNK : CHUNK_BY_LIST;

	if (walk->vcpu >= config.vcpu_room) {
		walk->vcpu += walk->online - walk->base;
		walk->base = walk->online;
		return 1;
	}
	n = n < most ? n : most;
	n = n < walk->online - walk->base ? n : walk->online - walk->base;
	walk->switches = count_switches();
	load_slots(walk, walk->base & ~(CHUNK - 1));
	if (!is_alive(walk))
		return 1;
	bpf_loop(n, read_vcpu, &walk, 0);
	if (!is_alive(walk))
		return 1;
	bpf_loop(n, follow_vcpu, &walk, 0);
	if (!is_alive(walk))
		return 1;
	if (has_sched_info)
		bpf_loop(n, read_sched, &walk, 0); /* of threads, which need not be checked again */
	if (has_apicv && config.groups & GROUP_APIC) {
		bpf_loop(n, read_registers, &walk, 0);
		if (!is_alive(walk))
			return 1;
	}
	if (walk->unreadable)
		return 1;
	if (walk->switches != count_switches())
		return 0;
	bpf_loop(n, publish_vcpu, &walk, 0);
	walk->base += n;
	return walk->base >= walk->online;
}

/* -- threads that are no vCPUs -------------------------------------------------------------------------------------- */

static void add_thread(u64 *words, u64 task)
{
	struct sched_info info = {};

	bpf_core_read(&info, sizeof(info), &((struct task_struct *)task)->sched_info);
	words[0] += read_member(struct task_struct, task, se.sum_exec_runtime);
	words[1] += info.run_delay;
}

/* Names of threads, compared as one number each. */
#define is_vhost(name) (*(u32 *)(name) == *(const u32 *)"vhos" && *(u16 *)((name) + 4) == *(const u16 *)"t-")
#define is_qemu_io(name) (*(u16 *)(name) == *(const u16 *)"IO" && (name)[2] == ' ')
#define is_clh_device(name) ((name)[0] == '_') /* cloud-hypervisor: _disk0_q0 */

static long visit_thread(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u32 index = walk->slot;
	struct vm_record *record = bpf_map_lookup_elem(&staged_vms, &index);
	u64 task = walk->thread - bpf_core_field_offset(struct task_struct, thread_node);
	char name[8] __attribute__((aligned(8))) = {};

	if (!record || walk->thread == walk->last_thread)
		return 1;
	walk->thread = (u64)read_member(struct list_head, walk->thread, next);
	if (is_marked(walk, task))
		return 0;
	bpf_probe_read_kernel(name, sizeof(name), (void *)(task + bpf_core_field_offset(struct task_struct, comm)));
	if (task == walk->task)
		add_thread(&record->sched[VM_MAIN_RUN_NS], task);
	else if (is_vhost(name))
		add_thread(&record->sched[VM_VHOST_RUN_NS], task);
	else if (is_qemu_io(name) || is_clh_device(name))
		add_thread(&record->sched[VM_IOTHREAD_RUN_NS], task);
	record->sched[VM_VMM_RUN_NS] += read_member(struct task_struct, task, se.sum_exec_runtime);
	return 0;
}

/* kernel/exit.c, __exit_signal(): under this lock the time of a thread that ends is added to its process, and then the
 * thread leaves the list. In between it would count twice. */
static u32 read_endings(u64 signal)
{
	if (!bpf_core_field_exists(struct signal_struct, stats_lock.seqcount.seqcount.sequence))
		return 0;
	return read_member(struct signal_struct, signal, stats_lock.seqcount.seqcount.sequence);
}

/* Every thread of the process once. The time of a thread that ends goes over to its process, which it must not do while
 * they are read; then all are read again. */
static void read_threads(struct walk *walk, struct vm_record *record)
{
	u64 signal = (u64)read_member(struct task_struct, walk->task, signal);
	u32 endings;
	u64 ended;
	int i, word;

	if (!walk->is_alone || walk->unmarked)
		return;
	for (i = 0; i < MAX_RECOUNTS && !(record->flags & VM_HAS_SCHED); i++) {
		for (word = VM_VMM_RUN_NS; word <= VM_VHOST_RUN_DELAY_NS; word++)
			record->sched[word] = 0;
		endings = read_endings(signal);
		ended = read_member(struct signal_struct, signal, sum_sched_runtime);
		walk->last_thread = signal + bpf_core_field_offset(struct signal_struct, thread_head);
		walk->thread = (u64)read_member(struct list_head, walk->last_thread, next);
		bpf_loop(MAX_PROCESSES, visit_thread, &walk, 0);
		if (walk->thread == walk->last_thread && !(endings & 1) && read_endings(signal) == endings)
			record->flags |= VM_HAS_SCHED;
	}
	record->sched[VM_VMM_RUN_NS] += ended;
}

/* The kernel thread of the PIT, which lives as long as the VM. Each pointer is followed once the VM is known to be alive. */
static bool read_pit_thread(struct walk *walk, struct vm_record *record)
{
	u64 worker = (u64)read_member(struct kvm_pit, walk->pit, worker), task;

	if (!is_alive(walk))
		return 0;
	task = (u64)read_member(struct kthread_worker, worker, task);
	if (!is_alive(walk))
		return 0;
	add_thread(&record->sched[VM_PIT_RUN_NS], task);
	return 1;
}

/* -- VMs ----------------------------------------------------------------------------------------------------------- */

/* What decides whether interrupts of this VM can be accelerated, besides its vCPUs. */
static void read_interrupts(struct walk *walk, u64 kvm, struct vm_record *record)
{
	u64 inhibits;
	u32 bit, mode;
	bool wide_ids;

	walk->pit = 0;
	if (!bpf_core_field_exists(struct kvm_arch, apicv_inhibit_reasons))
		return;
	if (bpf_core_field_exists(struct kvm_arch, vpit) &&
	    is_near(struct kvm, arch.vpit, arch.vpit, arch.apicv_inhibit_reasons)) {
		read_near(walk, struct kvm, kvm, arch.vpit, arch.apicv_inhibit_reasons);
		walk->pit = (u64)near_member(walk, struct kvm, arch.vpit, arch.vpit);
		inhibits = near_member(walk, struct kvm, arch.vpit, arch.apicv_inhibit_reasons);
	} else {
		inhibits = read_member(struct kvm, kvm, arch.apicv_inhibit_reasons);
		if (bpf_core_field_exists(struct kvm_arch, vpit))
			walk->pit = (u64)read_member(struct kvm, kvm, arch.vpit);
	}
	walk->word = inhibits;
	for (bit = 0; bit < INHIBIT_BITS; bit++)
		record->apicv[bit] = inhibits >> bit & 1;
	if (is_near(struct kvm, arch.irqchip_mode, arch.irqchip_mode, arch.x2apic_format)) {
		read_near(walk, struct kvm, kvm, arch.irqchip_mode, arch.x2apic_format);
		mode = near_member(walk, struct kvm, arch.irqchip_mode, arch.irqchip_mode);
		wide_ids = near_member(walk, struct kvm, arch.irqchip_mode, arch.x2apic_format);
	} else {
		mode = read_member(struct kvm, kvm, arch.irqchip_mode);
		wide_ids = read_member(struct kvm, kvm, arch.x2apic_format);
	}
	record->apicv[VM_IRQCHIP_KERNEL] = mode == IRQCHIP_KERNEL;
	record->apicv[VM_IRQCHIP_SPLIT] = mode == IRQCHIP_SPLIT;
	record->apicv[VM_PIT_IN_KERNEL] = !!walk->pit;
	record->apicv[VM_PIT_REINJECT] = 0;
	record->apicv[VM_X2APIC_32BIT_IDS] = wide_ids;
	if (config.is_svm && bpf_core_field_exists(struct kvm_svm, sev_info.active))
		record->apicv[VM_SEV] = read_member(struct kvm_svm, kvm, sev_info.active);
	if (config.is_svm && bpf_core_field_exists(struct kvm_svm, avic_vm_id))
		walk->avic_vm_id = read_member(struct kvm_svm, kvm, avic_vm_id);
}

#define DISABLE_EXITS_HLT 2 /* KVM_X86_DISABLE_EXITS_HLT */
#define has_disabled_exits bpf_core_field_exists(struct kvm_arch___6_17, disabled_exits)
#define has_hlt_in_guest bpf_core_field_exists(struct kvm_arch, hlt_in_guest)

#define has_memslots                                                                                                   \
	(bpf_core_field_exists(struct kvm_memslots, id_hash) && bpf_core_field_exists(struct kvm, nr_memslot_pages))

/* One slot of the hash, or the next bucket of it. Slots are freed only after others have become the active ones. */
static long visit_memslot(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 slot;

	if (!walk->memslot) {
		if (walk->bucket >= MEMSLOT_BUCKETS)
			return 1;
		if (walk->bucket % CHUNK == 0)
			bpf_probe_read_kernel(walk->slots, sizeof(walk->slots),
					      (void *)(walk->memslots + bpf_core_field_offset(struct kvm_memslots, id_hash) +
						       walk->bucket * sizeof(u64)));
		walk->memslot = walk->slots[walk->bucket++ % CHUNK];
		return 0;
	}
	slot = walk->memslot - walk->memslot_node;
	if (read_member(struct kvm_memory_slot, slot, flags) & KVM_MEM_LOG_DIRTY_PAGES)
		walk->logged_pages += read_member(struct kvm_memory_slot, slot, npages);
	walk->memslot = (u64)read_member(struct hlist_node, walk->memslot, next);
	return 0;
}

static long sum_memslots(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 kvm = walk->kvm, generation;

	walk->memslots = (u64)read_member(struct kvm, kvm, memslots[0]);
	walk->memslot_node = bpf_core_field_offset(struct kvm_memory_slot, id_node) +
			     (read_member(struct kvm_memslots, walk->memslots, node_idx) & 1) *
				     sizeof(struct hlist_node);
	walk->logged_pages = walk->memslot = walk->bucket = 0;
	generation = read_member(struct kvm_memslots, walk->memslots, generation);
	bpf_loop(MAX_MEMSLOT_STEPS, visit_memslot, context, 0);
	return (u64)read_member(struct kvm, kvm, memslots[0]) == walk->memslots &&
	       read_member(struct kvm_memslots, walk->memslots, generation) == generation;
}

/* How much memory the VM has, and how much of it is logged for dirty pages: no slot is, for nearly all VMs, and where
 * KVM keeps their number, none is looked at. */
static void read_memory(struct walk *walk, u64 kvm, struct vm_record *record)
{
	record->settings[VM_MEMORY_PAGES] = read_member(struct kvm, kvm, nr_memslot_pages);
	walk->logged_pages = 0;
	if (!bpf_core_field_exists(struct kvm, nr_memslots_dirty_logging) ||
	    read_member(struct kvm, kvm, nr_memslots_dirty_logging.counter))
		bpf_loop(MAX_MEMSLOT_LOOKS, sum_memslots, &walk, 0);
	record->settings[VM_DIRTY_LOGGED_PAGES] = walk->logged_pages;
}

/* What decides how halts of this VM are counted. */
static void read_settings(u64 kvm, struct vm_record *record)
{
	if (has_disabled_exits)
		record->settings[VM_HLT_EXITS_DISABLED] =
			!!(read_member(struct kvm___6_17, kvm, arch.disabled_exits) & DISABLE_EXITS_HLT);
	else if (has_hlt_in_guest)
		record->settings[VM_HLT_EXITS_DISABLED] = read_member(struct kvm, kvm, arch.hlt_in_guest);
	if (bpf_core_field_exists(struct kvm, override_halt_poll_ns))
		record->settings[VM_HALT_POLL_CAP_SET] = read_member(struct kvm, kvm, override_halt_poll_ns);
	if (bpf_core_field_exists(struct kvm, max_halt_poll_ns))
		record->settings[VM_HALT_POLL_CAP_NS] = read_member(struct kvm, kvm, max_halt_poll_ns);
}

static u32 features(void)
{
	u32 found = 0;

	if (has_disabled_exits || has_hlt_in_guest)
		found |= FEATURE_HLT_EXITS;
	if (bpf_core_field_exists(struct kvm, max_halt_poll_ns))
		found |= FEATURE_HALT_POLL_CAP;
	if (bpf_core_field_exists(struct kvm, override_halt_poll_ns))
		found |= FEATURE_HALT_POLL_CAP_SET;
	if (has_memslots)
		found |= FEATURE_DIRTY_LOG;

	if (has_sched_info)
		found |= FEATURE_SCHED_INFO;
	if (has_sched_info && has_cpu_quota)
		found |= FEATURE_CPU_QUOTA;
	if (bpf_core_field_exists(struct kvm_arch, apicv_inhibit_reasons) &&
	    bpf_core_field_exists(struct kvm_lapic, apicv_active))
		found |= FEATURE_APICV;
	if (bpf_core_field_exists(struct kvm_vcpu_arch, hyperv))
		found |= FEATURE_SYNIC;
	if (config.is_svm && bpf_core_field_exists(struct kvm_svm, sev_info.active))
		found |= FEATURE_SEV;
	return found;
}

/* Of several VMs of one process that have no directory nothing tells which is which but the address, so their ids last
 * as long as this program. */
static u64 identify(struct walk *walk)
{
	if (walk->dentry)
		return id_by_birth(walk->number, walk->created_ns, config.key);
	if (is_alone(walk->kvm))
		return id_by_process(walk->task, config.key);
	return mix(mix(walk->kvm ^ config.salt) + config.key[0]);
}

/* Marks of another process or VM mean nothing from here on. */
static void begin_sched(struct walk *walk, struct vm_record *record)
{
	int word;

	for (word = 0; word < VM_SCHED_WORDS; word++)
		record->sched[word] = 0;
	for (word = 0; word < VM_QUOTA_WORDS; word++)
		record->quota[word] = 0;
	walk->is_alone = is_alone(walk->kvm);
	walk->unmarked = 0;
	walk->group = walk->group_above = 0;
	walk->stamp++;
}

enum outcome {
	COPIED,
	LEFT_OUT, /* it cannot be read */
	VANISHED, /* it was destroyed while it was read */
};

static enum outcome copy_vm(struct walk *walk)
{
	u32 index = walk->slot, first = walk->vcpu;
	struct vm_record *staged = bpf_map_lookup_elem(&staged_vms, &index);
	u64 kvm = walk->kvm;

	if (!staged)
		return LEFT_OUT;
	walk->unreadable = bpf_probe_read_kernel(stat_after(staged, VM_EVENT_WORDS), bpf_core_type_size(struct kvm_vm_stat),
						 (void *)(kvm + bpf_core_field_offset(struct kvm, stat))) != 0;
	staged->id = walk->id = identify(walk);
	staged->created_ns = walk->created_ns;
	staged->pid = walk->pid;
	staged->first_vcpu = first;
	staged->flags = walk->created_ns ? VM_HAS_CREATED : 0;
	read_settings(kvm, staged);
	if (has_memslots)
		read_memory(walk, kvm, staged);
	read_interrupts(walk, kvm, staged);
	walk->online = read_member(struct kvm, kvm, online_vcpus.counter);
	begin_sched(walk, staged);
	if (!is_alive(walk))
		return VANISHED;
	if (walk->unreadable)
		return LEFT_OUT;
	if (bpf_core_field_exists(struct kvm_arch, vpit) && walk->pit) {
		staged->apicv[VM_PIT_REINJECT] = !!read_member(struct kvm_pit, walk->pit, pit_state.reinject.counter);
		if (!is_alive(walk) || (has_sched_info && !read_pit_thread(walk, staged)))
			return VANISHED;
	}
	walk->base = walk->auto_eoi = 0;
	if (walk->online)
		bpf_loop(walk->online + MAX_REDOS, copy_chunk, &walk, 0);
	if (walk->base < walk->online)
		return walk->unreadable ? LEFT_OUT : VANISHED;
	if (has_sched_info)
		read_threads(walk, staged);
	if (config.groups & GROUP_APICV)
		copy_vm_events(kvm, walk->word, staged);
	staged->vcpus = walk->vcpu - first;
	staged->apicv[VM_SYNIC_AUTO_EOI] = walk->auto_eoi;
	walk->inhibits |= walk->word;
	index = walk->slot * config.vm_room + walk->vm;
	if (walk->vm++ < config.vm_room)
		bpf_map_update_elem(&vms, &index, staged, BPF_ANY);
	return COPIED;
}

/* hlist_add_head() puts the newest first; the walk goes from the tail, so that VMs come in order of creation. */
static long find_tail(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 next = (u64)read_member(struct hlist_node, walk->node, next);

	if (!next)
		return 1;
	walk->node = next;
	walk->nodes++;
	return 0;
}

/* Whether what led to the current node was alive when it did, and all of that was a moment ago. */
static bool came_rightly(struct walk *walk)
{
	if (walk->anchor && walk->anchor_dentry &&
	    inode_if_hashed(walk, walk->anchor_dentry) != walk->anchor_inode)
		return 0;
	if (walk->anchor && !walk->anchor_dentry && !is_on_list(walk->anchor))
		return 0;
	return glance_holds(walk);
}

/* A node is looked at, and nothing more, until it is known to be that of a VM that is alive. What belongs to somebody
 * else, or to a VM that is on its way in or out, is passed within the same glance. */
static long visit_notifier(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	enum outcome outcome;
	u32 vcpu = walk->vcpu;

	walk->kvm = walk->node - bpf_core_field_offset(struct kvm, mmu_notifier.hlist);
	if (is_vm(walk->kvm, walk->mm) && find_proof(walk)) {
		if (!came_rightly(walk))
			return 1;
		outcome = copy_vm(walk);
		if (outcome != COPIED) {
			walk->vcpu = vcpu;
			walk->vanished++;
		}
		if (outcome == VANISHED)
			return 1; /* and its node leads nowhere */
		walk->anchor = walk->kvm;
		walk->anchor_dentry = walk->dentry;
		walk->anchor_inode = walk->inode;
		if (walk->dentry)
			begin_glance(walk); /* else is_alive() began it */
	}
	walk->nodes++;
	walk->node = (u64)read_member(struct hlist_node, walk->node, pprev);
	if (walk->node != walk->list)
		return !walk->node;
	walk->list = came_rightly(walk) ? 0 : walk->list;
	return 1;
}

/* Every VM of one address space. False: its list changed under the walk. */
static bool visit_list(struct walk *walk)
{
	u64 subscriptions;

	begin_glance(walk);
	if ((u64)read_member(struct task_struct, walk->holder, mm) != walk->mm)
		return 1; /* it has ended, or become another program */
	subscriptions = (u64)read_member(struct mm_struct, walk->mm, notifier_subscriptions);
	walk->list = subscriptions + bpf_core_field_offset(struct mmu_notifier_subscriptions, list);
	walk->node = (u64)read_member(struct hlist_head, walk->list, first);
	walk->anchor = 0;
	if (!subscriptions || !walk->node)
		return 1;
	bpf_loop(MAX_NOTIFIERS, find_tail, &walk, 0);
	if ((u64)read_member(struct task_struct, walk->holder, mm) != walk->mm)
		return 1;
	bpf_loop(MAX_NOTIFIERS, visit_notifier, &walk, 0);
	return !walk->list;
}

/* The address space of a process; that of another thread if the first one has ended before the rest. */
static u64 process_mm(struct walk *walk)
{
	u64 task = walk->task, mm = (u64)read_member(struct task_struct, task, mm);
	u64 thread, head;
	int i;

	walk->holder = task;
	if (mm || read_member(struct task_struct, task, flags) & PF_KTHREAD)
		return mm;
	head = (u64)read_member(struct task_struct, task, signal) + bpf_core_field_offset(struct signal_struct, thread_head);
	thread = task;
	for (i = 0; i < MAX_THREADS && !mm; i++) {
		u64 next = (u64)read_member(struct task_struct, thread, thread_node.next);

		if (!next || next == head)
			break;
		thread = next - bpf_core_field_offset(struct task_struct, thread_node);
		mm = (u64)read_member(struct task_struct, thread, mm);
	}
	walk->holder = thread;
	return mm;
}

/* A child between vfork() and exec() shares its parent's address space; the VM is the parent's. */
static bool owns_mm(u64 task, u64 mm)
{
	u64 owner;

	if (!bpf_core_field_exists(struct mm_struct, owner))
		return 1;
	owner = (u64)read_member(struct mm_struct, mm, owner);
	return !owner ||
	       read_member(struct task_struct, owner, tgid) == read_member(struct task_struct, task, tgid);
}

/* Visited again, from where its records begin, if a VM went while it was read. */
static long visit_process(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 task = walk->task, mm = process_mm(walk);

	if (mm && read_member(struct mm_struct, mm, notifier_subscriptions) && owns_mm(task, mm)) {
		walk->mm = mm;
		walk->pid = pid_number(walk, (u64)read_member(struct task_struct, task, thread_pid));
		walk->first_vm = walk->restarts ? walk->first_vm : walk->vm;
		walk->first_vcpu = walk->restarts ? walk->first_vcpu : walk->vcpu;
		if (!visit_list(walk)) {
			if (++walk->restarts <= MAX_RESTARTS) {
				walk->vm = walk->first_vm;
				walk->vcpu = walk->first_vcpu;
				return 0;
			}
			walk->unfinished = 1;
		}
	}
	walk->restarts = 0;
	walk->task = (u64)read_member(struct task_struct, task, tasks.next) -
		     bpf_core_field_offset(struct task_struct, tasks);
	walk->finished = walk->task == walk->first_task;
	return walk->finished;
}

/* The list of processes starts at the idle task, the parent of them all, and has them in order of creation. */
static u64 idle_task(u64 task)
{
	int i;

	for (i = 0; i < MAX_ANCESTORS && task && read_member(struct task_struct, task, tgid); i++)
		task = (u64)read_member(struct task_struct, task, real_parent);
	return task;
}

static void start(struct walk *walk, u32 slot)
{
	u64 task = bpf_get_current_task(), pid = (u64)read_member(struct task_struct, task, thread_pid);

	walk->slot = slot;
	walk->finished = walk->unfinished = walk->restarts = 0;
	walk->vm = walk->vcpu = walk->vanished = 0;
	walk->inhibits = walk->word = 0;
	walk->task = walk->first_task = idle_task(task);
	walk->ns_level = read_member(struct pid, pid, level);
	walk->ns = (u64)read_member(struct upid, upid_at(pid, walk->ns_level), ns);
}

/* Takes a slot that nobody is writing; SNAPSHOT_MAX_SLOTS if there is none. A reader that is descheduled in a run holds
 * its slot until it is scheduled again, so members of the group could keep root from reading. */
static u32 claim_slot(struct control *control)
{
	u32 slot = (u32)bpf_get_current_uid_gid() ? config.root_slots : 0;

	for (; slot < SNAPSHOT_MAX_SLOTS && slot < config.slots; slot++)
		if (!__sync_val_compare_and_swap(&control->busy[slot], 0, 1))
			return slot;
	return SNAPSHOT_MAX_SLOTS;
}

/* Attached to the map `control`, which has one element: one open and read of the file is one run. */
SEC("iter/bpf_map_elem")
int read_host(struct bpf_iter__bpf_map_elem *ctx)
{
	struct snapshot snapshot = {.magic = SNAPSHOT_MAGIC, .version = SNAPSHOT_VERSION};
	struct seq_file *seq = ctx->meta->seq;
	struct control *state;
	struct walk *walk;
	u32 zero = 0, slot, key, *is_closed;

	if (!ctx->value)
		return 0; /* after the last element */
	state = bpf_map_lookup_elem(&control, &zero);
	is_closed = bpf_map_lookup_elem(&closed, &zero);
	if (!state || !is_closed || *is_closed)
		return 0;
	snapshot.boot_ns = bpf_ktime_get_boot_ns();
	snapshot.features = features();
	slot = claim_slot(state);
	if (slot >= SNAPSHOT_MAX_SLOTS) {
		snapshot.flags = SNAPSHOT_BUSY;
		bpf_seq_write(seq, &snapshot, sizeof(snapshot));
		return 0;
	}
	snapshot.slot = slot;
	snapshot.generation = __sync_fetch_and_add(&state->generation[slot], 1) + 1;
	key = slot; /* the verifier forgets the bounds of what a helper gets a pointer to */
	walk = bpf_map_lookup_elem(&walks, &key);
	if (!walk)
		return 0;
	start(walk, slot);
	bpf_loop(MAX_PROCESSES, visit_process, &walk, 0);
	if (!walk->finished || walk->unfinished)
		snapshot.flags |= SNAPSHOT_UNFINISHED;
	if (walk->vm > config.vm_room || walk->vcpu > config.vcpu_room)
		snapshot.flags |= SNAPSHOT_OVERFLOW;
	snapshot.vms = walk->vm;
	snapshot.vcpus = walk->vcpu;
	snapshot.vanished = walk->vanished;
	snapshot.inhibits = walk->inhibits;
	__sync_lock_test_and_set(&state->busy[slot], 0);
	bpf_seq_write(seq, &snapshot, sizeof(snapshot));
	return 0;
}
