# What every guest shares: where things stand, the words it exchanges with its VMM, and how it takes interrupts.
# A guest is 64-bit and flat, with the first 4 GiB mapped to themselves; all of that is set by the VMM before it runs.
# On entry:  rdi its mailbox   rsi how often to do its thing   r8, r9 arguments of the workload   rsp its stack
# It keeps rdi, rsi, r8 and r9 as they are, and counts what it did in its mailbox.
# Those that need no privilege run at level 3 with IOPL 3: a KVM without hardware virtualization emulates level 0.

.set COUNT, 0                   # mailbox: things done
.set INTERRUPTS, 8              # mailbox: interrupts taken
.set LISTENING, 16              # mailbox: 1 once interrupts can be taken

.set PORT_WORK, 0x10            # written to cause an exit, nothing else
.set PORT_DONE, 0x11            # the guest has done all that it was to do
.set PORT_REQUEST, 0x12         # the VMM is to do the workload's other half before the guest goes on

.set FRESH_PAGES, 1024          # that each vCPU has, or two have in common

.set VECTOR_TIMER, 0x40         # also the base of the PIC, so that its input 0, the PIT, comes here
.set VECTOR_LINE, 0x41          # input 1 of the PIC, IOAPIC, message interrupts
.set VECTOR_IPI, 0x42

.set X2APIC_EOI, 0x80b
.set X2APIC_SPURIOUS, 0x80f
.set X2APIC_ICR, 0x830
.set X2APIC_TIMER, 0x832
.set X2APIC_TIMER_COUNT, 0x838
.set X2APIC_TIMER_DIVIDE, 0x83e

.code64
.section .text
.globl start

.macro write_msr number, value
        mov $\number, %ecx
        mov $\value, %eax
        xor %edx, %edx
        wrmsr
.endm

# Says that all is done; the VMM never runs the vCPU again.
.macro done
9:      outb %al, $PORT_DONE
        jmp 9b
.endm

.macro load_tables
        lgdt gdt_pointer
        lidt idt_pointer
.endm

# Acknowledges an interrupt of the local APIC and leaves every register as it was.
.macro acknowledge
        push %rax
        push %rcx
        push %rdx
        write_msr X2APIC_EOI, 0
        pop %rdx
        pop %rcx
        pop %rax
.endm

# The descriptor tables; `handler` takes every vector that is in use. They are padded by zeros, as each release of binutils
# has other instructions for nothing.
.macro tables handler
        .balign 16, 0
gdt:    .quad 0
        .quad 0x00af9b000000ffff        # 0x08 64-bit code
        .quad 0x00cf93000000ffff        # 0x10 data
gdt_pointer:
        .word gdt_pointer - gdt - 1
        .quad gdt
        .balign 16, 0
idt:    .fill VECTOR_TIMER * 2, 8, 0
        .rept VECTOR_IPI - VECTOR_TIMER + 1
        .word \handler, 0x08, 0x8e00, 0 # the image stands below 64 KiB, so that an address is one word
        .quad 0
        .endr
idt_pointer:
        .word idt_pointer - idt - 1
        .quad idt
.endm
