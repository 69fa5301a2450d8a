/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Group apicv: counts, in the kernel, what becomes of interrupts. Part of kvmscope.bpf.c.
 *
 * None of these programs is loaded unless the group is asked for ("?" in SEC). The loader (group.py) picks for each the
 * function of this kernel that it hooks, and leaves out what the kernel refuses.
 *
 * Whose event it is comes from a pointer, never from a guess: an argument of the hooked function where it has one, else
 * the vCPU that the current thread has loaded (KVM registers its preempt notifier with that thread from vcpu_load() to
 * vcpu_put()). Tracepoints that fire in somebody else's context and carry no pointer are not used.
 *
 * Counters live in maps keyed by the kernel's pointer and marked with the VM's id, since a pointer can come back for
 * another VM: entries go when the VM is destroyed, and the iterator starts one anew if its mark is not the VM's.
 */
#define MAX_COUNTED_VMS 16384
#define MAX_COUNTED_VCPUS 65536

struct vm_counts {
	u64 id;		/* of the VM, once the iterator has seen it; else 0 */
	u64 first_ns;	/* CLOCK_BOOTTIME when it was first seen */
	u64 word;	/* inhibit word after the last change */
	u64 inhibited_ns[INHIBIT_BITS]; /* up to the last change */
	u64 set[INHIBIT_BITS];
	u64 changed_ns[INHIBIT_BITS]; /* CLOCK_BOOTTIME */
};

struct vcpu_counts {
	u64 id;
	u64 since_ns;	/* CLOCK_BOOTTIME of the last transition */
	u32 active;
	u32 reserved;
	u64 words[VCPU_EVENT_WORDS]; /* the times up to the last transition */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_COUNTED_VMS);
	__type(key, u64);
	__type(value, struct vm_counts);
} vm_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_COUNTED_VCPUS);
	__type(key, u64);
	__type(value, struct vcpu_counts);
} vcpu_counts SEC(".maps");

/* The posted-interrupt log names a VM by its AVIC tag and a vCPU by a number. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_COUNTED_VCPUS);
	__type(key, u64);
	__type(value, u64);
} ga_log_counts SEC(".maps");

/* What a new entry starts from: too large for the stack, and never written. */
static struct vm_counts no_vm_counts;
static struct vcpu_counts no_vcpu_counts;

static struct vm_counts *find_vm(u64 kvm, u64 word)
{
	struct vm_counts *counts = bpf_map_lookup_elem(&vm_counts, &kvm);
	u64 now;
	u32 bit;

	if (counts)
		return counts;
	bpf_map_update_elem(&vm_counts, &kvm, &no_vm_counts, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&vm_counts, &kvm);
	if (!counts)
		return 0;
	now = bpf_ktime_get_boot_ns();
	counts->first_ns = now;
	counts->word = word;
	for (bit = 0; bit < INHIBIT_BITS; bit++)
		counts->changed_ns[bit] = now;
	return counts;
}

static u32 is_active(u64 vcpu)
{
	u64 apic = (u64)read_member(struct kvm_vcpu, vcpu, arch.apic);

	return apic ? read_member(struct kvm_lapic, apic, apicv_active) : 0;
}

static __noinline struct vcpu_counts *start_vcpu(u64 vcpu, u32 active)
{
	struct vcpu_counts *counts;

	bpf_map_update_elem(&vcpu_counts, &vcpu, &no_vcpu_counts, BPF_NOEXIST);
	counts = bpf_map_lookup_elem(&vcpu_counts, &vcpu);
	if (!counts)
		return 0;
	counts->active = active;
	counts->since_ns = bpf_ktime_get_boot_ns();
	return counts;
}

static __always_inline struct vcpu_counts *find_vcpu(u64 vcpu)
{
	struct vcpu_counts *counts = bpf_map_lookup_elem(&vcpu_counts, &vcpu);

	return counts ? counts : start_vcpu(vcpu, is_active(vcpu));
}

/* The hot path, hence in line: with today's mitigations a call costs more than what is done here. */
static __always_inline u64 *find_word(u64 vcpu, u32 word)
{
	struct vcpu_counts *counts = vcpu ? find_vcpu(vcpu) : 0;

	return counts && word < VCPU_EVENT_WORDS ? &counts->words[word] : 0;
}

/* What happens in the vCPU's own thread has one writer. */
static __always_inline void count_own(u64 vcpu, u32 word)
{
	u64 *counter = find_word(vcpu, word);

	if (counter)
		++*counter;
}

/* What others do to a vCPU has many. */
static __always_inline void count_from_anywhere(u64 vcpu, u32 word)
{
	u64 *counter = find_word(vcpu, word);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

/* -- state: who is inhibited, and since when ----------------------------------------------------------------------- */

/* Edges are taken from the word, since the kernel also tells of changes that change nothing, and since two hooks can
 * tell of one change. Whoever first puts the new word in place accounts for it. */
static void follow_word(struct vm_counts *counts, u64 word)
{
	u64 before = counts->word, changed = before ^ word, now = bpf_ktime_get_boot_ns();
	u32 bit;

	if (!changed || __sync_val_compare_and_swap(&counts->word, before, word) != before)
		return;
	for (bit = 0; bit < INHIBIT_BITS; bit++) {
		if (!(changed >> bit & 1))
			continue;
		if (word >> bit & 1)
			counts->set[bit]++;
		else
			counts->inhibited_ns[bit] += now - counts->changed_ns[bit];
		counts->changed_ns[bit] = now;
	}
}

static int before_change(u64 kvm)
{
	find_vm(kvm, read_member(struct kvm, kvm, arch.apicv_inhibit_reasons));
	return 0;
}

static int after_change(u64 kvm)
{
	u64 word = read_member(struct kvm, kvm, arch.apicv_inhibit_reasons);
	struct vm_counts *counts = find_vm(kvm, word);

	if (counts)
		follow_word(counts, word);
	return 0;
}

/* void __kvm_set_or_clear_apicv_inhibit(kvm, reason, set), with kvm->arch.apicv_update_lock held */
SEC("?fentry")
int before_inhibit(unsigned long long *ctx)
{
	return before_change(ctx[0]);
}

SEC("?fexit")
int after_inhibit(unsigned long long *ctx)
{
	return after_change(ctx[0]);
}

/* void kvm_set_or_clear_apicv_inhibit(kvm, reason, set), which takes the lock; some kernels have the other inlined */
SEC("?fentry")
int before_locked_inhibit(unsigned long long *ctx)
{
	return before_change(ctx[0]);
}

SEC("?fexit")
int after_locked_inhibit(unsigned long long *ctx)
{
	return after_change(ctx[0]);
}

static void follow_active(struct vcpu_counts *counts, u32 active)
{
	u64 now = bpf_ktime_get_boot_ns();

	if (counts->active == active || __sync_val_compare_and_swap(&counts->active, !active, active) != !active)
		return;
	counts->words[active ? VCPU_INACTIVE_NS : VCPU_ACTIVE_NS] += now - counts->since_ns;
	counts->words[VCPU_TRANSITIONS]++;
	counts->since_ns = now;
}

static int after_active(u64 vcpu)
{
	struct vcpu_counts *counts = find_vcpu(vcpu);

	if (counts)
		follow_active(counts, is_active(vcpu));
	return 0;
}

/* void __kvm_vcpu_update_apicv(vcpu), in the vCPU's own thread */
SEC("?fentry")
int before_update(unsigned long long *ctx)
{
	find_vcpu(ctx[0]);
	return 0;
}

SEC("?fexit")
int after_update(unsigned long long *ctx)
{
	return after_active(ctx[0]);
}

/* void kvm_vcpu_update_apicv(vcpu) */
SEC("?fentry")
int before_old_update(unsigned long long *ctx)
{
	find_vcpu(ctx[0]);
	return 0;
}

SEC("?fexit")
int after_old_update(unsigned long long *ctx)
{
	return after_active(ctx[0]);
}

/* void kvm_arch_destroy_vm(kvm) and kvm_arch_vcpu_destroy(vcpu): nobody else uses the pointer until these return. */
SEC("?fentry")
int vm_ends(unsigned long long *ctx)
{
	u64 kvm = ctx[0];

	bpf_map_delete_elem(&vm_counts, &kvm);
	return 0;
}

SEC("?fentry")
int vcpu_ends(unsigned long long *ctx)
{
	u64 vcpu = ctx[0];

	bpf_map_delete_elem(&vcpu_counts, &vcpu);
	return 0;
}

/* -- interrupts ---------------------------------------------------------------------------------------------------- */

/* void {svm,vmx}_deliver_interrupt(apic, delivery_mode, trig_mode, vector): hands it to APICv if that is active, else
 * makes a request and kicks the vCPU. */
SEC("?fentry")
int deliver(unsigned long long *ctx)
{
	struct kvm_lapic *apic = (void *)ctx[0];

	count_from_anywhere((u64)apic->vcpu, apic->apicv_active ? VCPU_DELIVERED_APICV : VCPU_DELIVERED_SOFTWARE);
	return 0;
}

/* (vector, soft, reinjected), in the vCPU's thread */
SEC("?tp_btf/kvm_inj_virq")
int inject(unsigned long long *ctx)
{
	bool soft = ctx[1], reinjected = ctx[2];

	count_own(loaded_vcpu(), reinjected ? VCPU_REINJECTED : soft ? VCPU_INJECTED_SOFTWARE : VCPU_INJECTED_HARDWARE);
	return 0;
}

/* (vcpu_id, icrh, icrl, id, index), in the vCPU's thread */
SEC("?tp_btf/kvm_avic_incomplete_ipi")
int incomplete_ipi(unsigned long long *ctx)
{
	u32 id = ctx[3];

	count_own(loaded_vcpu(), VCPU_INCOMPLETE_IPI + (id < 5 ? id : 5));
	return 0;
}

/* (vcpu_id, offset, ft, rw, vector), in the vCPU's thread */
SEC("?tp_btf/kvm_avic_unaccelerated_access")
int unaccelerated(unsigned long long *ctx)
{
	u32 offset = (u32)ctx[1] & 0xff0, class = 7;

	if (offset == 0x80)
		class = 0; /* TPR */
	else if (offset == 0xb0)
		class = 1; /* EOI */
	else if (offset == 0x300 || offset == 0x310)
		class = 2; /* ICR */
	else if (offset == 0x380 || offset == 0x390 || offset == 0x3e0)
		class = 3; /* timer */
	else if (offset == 0x20 || offset == 0xd0 || offset == 0xe0)
		class = 4; /* ID, LDR, DFR */
	else if (offset >= 0x320 && offset <= 0x370)
		class = 5; /* LVT */
	else if (offset == 0xf0 || offset == 0x280)
		class = 6; /* SPIV, ESR */
	count_own(loaded_vcpu(), VCPU_UNACCELERATED + class);
	return 0;
}

/* (icr_low, dest_id), in the vCPU's thread */
SEC("?tp_btf/kvm_apic_ipi")
int software_ipi(unsigned long long *ctx)
{
	count_own(loaded_vcpu(), VCPU_IPI_SOFTWARE);
	return 0;
}

/* (apic, vector), in the vCPU's thread */
SEC("?tp_btf/kvm_eoi")
int eoi(unsigned long long *ctx)
{
	struct kvm_lapic *apic = (void *)ctx[0];

	if (apic) /* 6.12 and later hold that any argument of a tracepoint may be NULL */
		count_own((u64)apic->vcpu, VCPU_EOI);
	return 0;
}

/* (vmid, vcpuid), from the IOMMU's interrupt */
SEC("?tp_btf/kvm_avic_ga_log")
int ga_log(unsigned long long *ctx)
{
	u64 key = (u64)(u32)ctx[0] << 32 | (u32)ctx[1], one = 1;
	u64 *counted = bpf_map_lookup_elem(&ga_log_counts, &key);

	if (counted)
		__sync_fetch_and_add(counted, 1);
	else
		bpf_map_update_elem(&ga_log_counts, &key, &one, BPF_NOEXIST);
	return 0;
}

/* -- into the snapshot --------------------------------------------------------------------------------------------- */

/* Of a VM that was alive when `word` was read; the VM itself is not looked at again. */
static void copy_vm_events(u64 kvm, u64 word, struct vm_record *record)
{
	struct vm_counts *counts = find_vm(kvm, word);
	u64 now;
	u64 *words = record->more;
	u32 bit;

	record->flags &= ~VM_HAS_EVENTS;
	if (counts && counts->id && counts->id != record->id) {
		bpf_map_delete_elem(&vm_counts, &kvm);
		counts = find_vm(kvm, word);
	}
	if (!counts)
		return;
	counts->id = record->id;
	record->flags |= VM_HAS_EVENTS;
	follow_word(counts, word); /* should a change ever go past the hooks, it is late but not lost */
	now = bpf_ktime_get_boot_ns();
	for (bit = 0; bit < INHIBIT_BITS; bit++) {
		u64 unchanged_ns = now - counts->changed_ns[bit];

		words[VM_INHIBITED_NS + bit] = counts->inhibited_ns[bit] + (counts->word >> bit & 1 ? unchanged_ns : 0);
		words[VM_INHIBIT_SET + bit] = counts->set[bit];
		words[VM_INHIBIT_UNCHANGED_NS + bit] = unchanged_ns;
	}
	words[VM_OBSERVED_NS] = now - counts->first_ns;
}

/* Up to 6.16 the log has the vCPU's id, since 6.17 its index: that series (KVM: SVM: use vcpu_idx, not vcpu_id, for GA
 * log tag) also brought the reason that is asked for here. */
static u32 number_in_log(u64 vcpu)
{
	if (bpf_core_enum_value_exists(enum kvm_apicv_inhibit, APICV_INHIBIT_REASON_PHYSICAL_ID_TOO_BIG))
		return read_member(struct kvm_vcpu, vcpu, vcpu_idx);
	return read_member(struct kvm_vcpu, vcpu, vcpu_id);
}

static u64 logged(u32 avic_vm_id, u32 number)
{
	u64 key = (u64)avic_vm_id << 32 | number, *counted;

	if (!config.is_svm || !bpf_core_field_exists(struct kvm_svm, avic_vm_id))
		return 0;
	counted = bpf_map_lookup_elem(&ga_log_counts, &key);
	return counted ? *counted : 0;
}

/* Of a vCPU that was alive when its record was made; the vCPU itself is not looked at again. */
static void copy_vcpu_events(struct walk *walk, u32 place, struct vcpu_record *record)
{
	u64 vcpu = walk->slots[(walk->base + place) & (CHUNK - 1)], lasting_ns, *words = record->more;
	u32 active = record->flags & VCPU_HAS_APIC ? record->apicv[VCPU_APICV_ACTIVE] : 0, i;
	struct vcpu_counts *counts = bpf_map_lookup_elem(&vcpu_counts, &vcpu);

	if (counts && counts->id && counts->id != walk->id) {
		bpf_map_delete_elem(&vcpu_counts, &vcpu);
		counts = 0;
	}
	if (!counts)
		counts = start_vcpu(vcpu, active);
	if (!counts)
		return;
	counts->id = walk->id;
	record->flags |= VCPU_HAS_EVENTS;
	follow_active(counts, active);
	lasting_ns = bpf_ktime_get_boot_ns() - counts->since_ns;
	for (i = 0; i < VCPU_EVENT_WORDS; i++)
		words[i] = counts->words[i];
	words[counts->active ? VCPU_ACTIVE_NS : VCPU_INACTIVE_NS] += lasting_ns;
	words[VCPU_GA_LOG] = logged(walk->avic_vm_id, walk->log_numbers[place & (CHUNK - 1)]);
}
