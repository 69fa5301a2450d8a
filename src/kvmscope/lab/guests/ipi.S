# Sends itself N interrupts through its local APIC and takes each before the next.
.include "guest.h"
start:
        load_tables
        write_msr X2APIC_SPURIOUS, 0x1ff
1:      write_msr X2APIC_ICR, 0x44000 + VECTOR_IPI      # fixed, asserted, to self
2:      cli
        mov COUNT(%rdi), %rax
        cmp %rax, INTERRUPTS(%rdi)
        jne 3f
        sti                     # takes effect after the next instruction, so that none slips in before the hlt
        hlt
        jmp 2b
3:      incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
handler:
        incq INTERRUPTS(%rdi)
        acknowledge
        iretq
        tables handler
