// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One run of this iterator copies the statistics of every VM and vCPU of the host.
 *
 * It is not a tracer: it is attached to no event and costs nothing until somebody reads the iterator's file.
 *
 * How VMs are found. KVM registers an MMU notifier with the address space of the process that creates a VM, and takes
 * it away when the VM is destroyed (kvm_init_mmu_notifier, kvm_destroy_vm in virt/kvm/kvm_main.c). So the list at
 * mm->notifier_subscriptions names each VM exactly once, however many files and processes hold it, and is empty for
 * nearly every other process. No open file is looked at and no symbol address is needed.
 *
 * Why what it reads is true. The program runs under rcu_read_lock(), which keeps tasks from being freed but not VMs. So
 * each VM is read first and then checked: if it is still on the list with the identity that it had before, it lived
 * through the whole copy; if not, its records are dropped. Every pointer is followed by a read that cannot fault.
 */
#include "kernel.h"
#include "identity.h"
#include "snapshot.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MAX_PROCESSES (1 << 22) /* the kernel's own limit on pids */
#define MAX_NOTIFIERS (1 << 16)
#define MAX_VCPUS (1 << 16)
#define MAX_LEVELS 4 /* of an xarray: 64^4 vCPUs */
#define MAX_THREADS 32
#define MAX_ANCESTORS 512

/* Numbers that the processor's or the kernel's ABI fixes. */
#define PF_KTHREAD 0x00200000
#define IRQCHIP_KERNEL 1
#define IRQCHIP_SPLIT 2
#define KVM_GUESTDBG_BLOCKIRQ 0x00100000
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

/* Set by the loader before the program is loaded. */
const volatile struct {
	u64 secret[2]; /* hides kernel addresses in ids; in no map that readers can open */
	u32 slots;     /* in use, so many readers at a time; at most SNAPSHOT_MAX_SLOTS */
	u32 vm_room;   /* VMs that a slot of `vms` can hold */
	u32 vcpu_room; /* vCPUs that a slot of `vcpus` can hold */
	u32 is_svm;    /* VMs are run by kvm_amd: a struct kvm is the head of a struct kvm_svm */
	u32 groups;    /* opt-in groups that are wanted: GROUP_ bits */
	u32 reserved;
} config;

struct walk {
	u64 task, first_task;	/* where the walk over processes is, and where it began */
	u64 ns;			/* pid namespace of the reader, and its level */
	u32 ns_level;
	u32 slot;
	u64 mm;			/* process that is being looked at */
	s32 pid;
	u32 finished;
	u64 list, node;		/* its notifiers: address of the list head, current node */
	u64 kvm, id;		/* VM that is being read */
	u32 vm, vcpu;		/* records so far */
	u32 vanished;
	u32 unreadable;		/* some stats of this VM could not be copied: zeros must not pass for them */
	u32 auto_eoi;		/* some vCPU of this VM uses it */
	u64 inhibits;		/* all bits that are set in some VM */
	u64 slots[64];		/* its vCPUs, 64 at a time */
	u8 near[256];		/* scratch of read_near() */
} walks[SNAPSHOT_MAX_SLOTS]; /* not on the stack: the verifier would follow each value through all the loops */

#define GROUP_APICV 1 /* events are counted */
#define GROUP_APIC 2  /* registers of local APICs are read, each from a page of its own */

/* Where the kernel's stat structure goes in a record that has so many words of events if the group is attached. */
#define stat_after(record, event_words) ((record)->more + (config.groups & GROUP_APICV ? event_words : 0))

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

/* Members of a vCPU that every record has: two reads. */
static void copy_identity(struct walk *walk, u64 vcpu, struct vcpu_record *record)
{
	unsigned long debug;
	u64 pid;

	if (is_near(struct kvm_vcpu, vcpu_id, guest_debug, pid)) {
		read_near(walk, struct kvm_vcpu, vcpu, vcpu_id, pid);
		record->vcpu_id = near_member(walk, struct kvm_vcpu, vcpu_id, vcpu_id);
		debug = near_member(walk, struct kvm_vcpu, vcpu_id, guest_debug);
		pid = (u64)near_member(walk, struct kvm_vcpu, vcpu_id, pid);
	} else {
		record->vcpu_id = read_member(struct kvm_vcpu, vcpu, vcpu_id);
		debug = read_member(struct kvm_vcpu, vcpu, guest_debug);
		pid = (u64)read_member(struct kvm_vcpu, vcpu, pid);
	}
	record->tid = pid_number(walk, pid);
	record->apicv[VCPU_BLOCKIRQ] = !!(debug & KVM_GUESTDBG_BLOCKIRQ);
	record->flags = 0;
}

/* The state of an x86 vCPU's local APIC: two reads, and one of a page that is in no cache with group apic. */
static void copy_apic(struct walk *walk, u64 vcpu, struct vcpu_record *record)
{
	u64 base, apic, regs;
	bool active;

	if (!bpf_core_field_exists(struct kvm_vcpu_arch, apic) || !bpf_core_field_exists(struct kvm_lapic, apicv_active))
		return;
	if (is_near(struct kvm_vcpu, arch.apic_base, arch.apic_base, arch.apic)) {
		read_near(walk, struct kvm_vcpu, vcpu, arch.apic_base, arch.apic);
		base = near_member(walk, struct kvm_vcpu, arch.apic_base, arch.apic_base);
		apic = (u64)near_member(walk, struct kvm_vcpu, arch.apic_base, arch.apic);
	} else {
		base = read_member(struct kvm_vcpu, vcpu, arch.apic_base);
		apic = (u64)read_member(struct kvm_vcpu, vcpu, arch.apic);
	}
	if (!apic)
		return;
	if (is_near(struct kvm_lapic, apicv_active, apicv_active, regs)) {
		read_near(walk, struct kvm_lapic, apic, apicv_active, regs);
		active = near_member(walk, struct kvm_lapic, apicv_active, apicv_active);
		regs = (u64)near_member(walk, struct kvm_lapic, apicv_active, regs);
	} else {
		active = read_member(struct kvm_lapic, apic, apicv_active);
		regs = (u64)read_member(struct kvm_lapic, apic, regs);
	}
	record->flags = VCPU_HAS_APIC;
	record->apicv[VCPU_APICV_ACTIVE] = active;
	record->apicv[VCPU_APIC_ENABLED] = !!(base & APIC_BASE_ENABLE);
	record->apicv[VCPU_APIC_X2APIC] = !!(base & APIC_BASE_X2APIC);
	record->apicv[VCPU_APIC_BASE_MOVED] = base & APIC_BASE_ENABLE && (base & APIC_BASE_ADDRESS) != APIC_DEFAULT_ADDRESS;
	if (!(config.groups & GROUP_APIC) ||
	    bpf_probe_read_kernel(walk->near, APIC_DFR + 4 - APIC_ID, (void *)(regs + APIC_ID)))
		return;
	record->apicv[VCPU_APIC_ID] = *(u32 *)walk->near >> (base & APIC_BASE_X2APIC ? 0 : 24);
	record->apicv[VCPU_APIC_LDR] = *(u32 *)(walk->near + APIC_LDR - APIC_ID);
	record->apicv[VCPU_APIC_DFR] = *(u32 *)(walk->near + APIC_DFR - APIC_ID);
}

/* Whether the vCPU's SynIC has a SINT with AutoEOI. KVM's own count of them moves only while APICv is on. */
static bool has_auto_eoi(u64 vcpu)
{
	u64 words[4] = {}, hyperv;

	if (!bpf_core_field_exists(struct kvm_vcpu_arch, hyperv))
		return 0;
	hyperv = (u64)read_member(struct kvm_vcpu, vcpu, arch.hyperv);
	if (hyperv)
		bpf_core_read(words, sizeof(words), &((struct kvm_vcpu_hv *)hyperv)->synic.auto_eoi_bitmap);
	return words[0] | words[1] | words[2] | words[3];
}

static long copy_vcpu(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	struct vcpu_record *record;
	u32 index = walk->slot * config.vcpu_room + walk->vcpu;
	u64 vcpu;

	if (!(i & 63))
		load_slots(walk, i);
	vcpu = walk->slots[i & 63];
	if (walk->vcpu++ >= config.vcpu_room)
		return 0; /* go on counting, so that the reader learns how much room it needs */
	record = bpf_map_lookup_elem(&vcpus, &index);
	if (!record)
		return 1;
	if (bpf_probe_read_kernel(stat_after(record, VCPU_EVENT_WORDS), bpf_core_type_size(struct kvm_vcpu_stat),
				  (void *)(vcpu + bpf_core_field_offset(struct kvm_vcpu, stat))))
		walk->unreadable = 1;
	record->vm = walk->vm;
	copy_identity(walk, vcpu, record);
	copy_apic(walk, vcpu, record);
	if (config.groups & GROUP_APIC)
		walk->auto_eoi |= has_auto_eoi(vcpu);
	if (config.groups & GROUP_APICV)
		copy_vcpu_events(vcpu, walk->kvm, walk->id, record);
	return 0;
}

/* What decides whether interrupts of this VM can be accelerated, besides its vCPUs. */
static void copy_interrupts(struct walk *walk, u64 kvm, struct vm_record *record)
{
	u64 inhibits, pit = 0;
	u32 bit, mode;
	bool wide_ids;

	if (!bpf_core_field_exists(struct kvm_arch, apicv_inhibit_reasons))
		return;
	if (bpf_core_field_exists(struct kvm_arch, vpit) &&
	    is_near(struct kvm, arch.vpit, arch.vpit, arch.apicv_inhibit_reasons)) {
		read_near(walk, struct kvm, kvm, arch.vpit, arch.apicv_inhibit_reasons);
		pit = (u64)near_member(walk, struct kvm, arch.vpit, arch.vpit);
		inhibits = near_member(walk, struct kvm, arch.vpit, arch.apicv_inhibit_reasons);
	} else {
		inhibits = read_member(struct kvm, kvm, arch.apicv_inhibit_reasons);
		if (bpf_core_field_exists(struct kvm_arch, vpit))
			pit = (u64)read_member(struct kvm, kvm, arch.vpit);
	}
	walk->inhibits |= inhibits;
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
	record->apicv[VM_PIT_IN_KERNEL] = !!pit;
	record->apicv[VM_PIT_REINJECT] = pit && read_member(struct kvm_pit, pit, pit_state.reinject.counter);
	record->apicv[VM_X2APIC_32BIT_IDS] = wide_ids;
	if (config.is_svm && bpf_core_field_exists(struct kvm_svm, sev_info.active))
		record->apicv[VM_SEV] = read_member(struct kvm_svm, kvm, sev_info.active);
}

#define DISABLE_EXITS_HLT 2 /* KVM_X86_DISABLE_EXITS_HLT */
#define has_disabled_exits bpf_core_field_exists(struct kvm_arch___6_17, disabled_exits)
#define has_hlt_in_guest bpf_core_field_exists(struct kvm_arch, hlt_in_guest)

/* What decides how halts of this VM are counted. */
static void copy_settings(u64 kvm, struct vm_record *record)
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

	if (bpf_core_field_exists(struct kvm_arch, apicv_inhibit_reasons) &&
	    bpf_core_field_exists(struct kvm_lapic, apicv_active))
		found |= FEATURE_APICV;
	if (bpf_core_field_exists(struct kvm_vcpu_arch, hyperv))
		found |= FEATURE_SYNIC;
	if (config.is_svm && bpf_core_field_exists(struct kvm_svm, sev_info.active))
		found |= FEATURE_SEV;
	return found;
}

static void copy_vm(struct walk *walk, u64 kvm)
{
	u32 before = walk->vcpu, index = walk->slot * config.vm_room + walk->vm;
	u64 inode = birth_inode(kvm), number = inode ? read_member(struct inode, inode, i_ino) : 0;
	u64 created_ns = inode ? birth_time(inode) : 0;
	u32 online = read_member(struct kvm, kvm, online_vcpus.counter);
	struct vm_record *record = 0;

	walk->unreadable = 0;
	if (walk->vm < config.vm_room)
		record = bpf_map_lookup_elem(&vms, &index);
	if (record) {
		if (bpf_probe_read_kernel(stat_after(record, VM_EVENT_WORDS), bpf_core_type_size(struct kvm_vm_stat),
					  (void *)(kvm + bpf_core_field_offset(struct kvm, stat))))
			walk->unreadable = 1;
		record->id = walk->id = identity(kvm, created_ns, number, config.secret);
		record->created_ns = created_ns;
		record->pid = walk->pid;
		record->first_vcpu = before;
		record->flags = created_ns ? VM_HAS_CREATED : 0;
		copy_settings(kvm, record);
		copy_interrupts(walk, kvm, record);
		if (config.groups & GROUP_APICV)
			copy_vm_events(kvm, record);
	}
	walk->kvm = kvm;
	walk->auto_eoi = 0;
	bpf_loop(online, copy_vcpu, &walk, 0);

	/* Still on the list, still itself: then it was there all the time. */
	if (walk->unreadable || !read_member(struct kvm, kvm, mmu_notifier.hlist.pprev) || birth_inode(kvm) != inode ||
	    (inode && read_member(struct inode, inode, i_ino) != number)) {
		walk->vcpu = before;
		walk->vanished++;
		return;
	}
	if (record) {
		record->vcpus = walk->vcpu - before;
		record->apicv[VM_SYNIC_AUTO_EOI] = walk->auto_eoi;
	}
	walk->vm++;
}

/* hlist_add_head() puts the newest first; the walk goes from the tail, so that VMs come in order of creation. */
static long find_tail(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 next = (u64)read_member(struct hlist_node, walk->node, next);

	if (!next)
		return 1;
	walk->node = next;
	return 0;
}

static long visit_notifier(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 node = walk->node, kvm = node - bpf_core_field_offset(struct kvm, mmu_notifier.hlist);

	if (is_vm(kvm, walk->mm))
		copy_vm(walk, kvm);
	walk->node = (u64)read_member(struct hlist_node, node, pprev);
	return walk->node == walk->list || !walk->node;
}

/* The address space of a process; that of another thread if the first one has ended before the rest. */
static u64 process_mm(u64 task)
{
	u64 mm = (u64)read_member(struct task_struct, task, mm);
	u64 thread, head;
	int i;

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

static long visit_process(u32 i, struct walk **context)
{
	struct walk *walk = *context;
	u64 task = walk->task, mm = process_mm(task), subscriptions = 0;

	if (mm)
		subscriptions = (u64)read_member(struct mm_struct, mm, notifier_subscriptions);
	if (subscriptions && owns_mm(task, mm)) {
		walk->list = subscriptions + bpf_core_field_offset(struct mmu_notifier_subscriptions, list);
		walk->node = (u64)read_member(struct hlist_head, walk->list, first);
		walk->mm = mm;
		walk->pid = pid_number(walk, (u64)read_member(struct task_struct, task, thread_pid));
		if (walk->node) {
			bpf_loop(MAX_NOTIFIERS, find_tail, &walk, 0);
			bpf_loop(MAX_NOTIFIERS, visit_notifier, &walk, 0);
		}
	}
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

	__builtin_memset(walk, 0, sizeof(*walk));
	walk->slot = slot;
	walk->task = walk->first_task = idle_task(task);
	walk->ns_level = read_member(struct pid, pid, level);
	walk->ns = (u64)read_member(struct upid, upid_at(pid, walk->ns_level), ns);
}

/* Takes a slot that nobody is writing; SNAPSHOT_MAX_SLOTS if there is none. */
static u32 claim_slot(struct control *control)
{
	u32 slot;

	for (slot = 0; slot < SNAPSHOT_MAX_SLOTS && slot < config.slots; slot++)
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
	u32 zero = 0, slot;

	if (!ctx->value)
		return 0; /* after the last element */
	state = bpf_map_lookup_elem(&control, &zero);
	if (!state)
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
	walk = &walks[slot];
	start(walk, slot);
	bpf_loop(MAX_PROCESSES, visit_process, &walk, 0);
	if (!walk->finished)
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
