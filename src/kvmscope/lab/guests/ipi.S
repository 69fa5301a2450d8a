# Sends itself N interrupts through its local APIC and takes each before the next.
.include "guest.h"
start:
        load_tables
        write_msr X2APIC_SPURIOUS, 0x1ff
        sti
1:      write_msr X2APIC_ICR, 0x44000 + VECTOR_IPI      # fixed, asserted, to self
2:      pause
        mov COUNT(%rdi), %rax
        cmp %rax, INTERRUPTS(%rdi)
        je 2b
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        cli
        done
handler:
        incq INTERRUPTS(%rdi)
        acknowledge
        iretq
        tables handler
