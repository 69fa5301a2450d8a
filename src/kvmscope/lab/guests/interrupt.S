# Asks N times for an interrupt and takes it. It asks with interrupts enabled and waits for each before the next,
# so that none is held back or merged with another. r8 says where interrupts come from: 0 PIC, 1 a local APIC.
.include "guest.h"
start:
        load_tables
        test %r8, %r8
        jz 1f
        write_msr X2APIC_SPURIOUS, 0x1ff
1:      sti
2:      outb %al, $PORT_REQUEST
3:      pause
        mov COUNT(%rdi), %rax
        cmp %rax, INTERRUPTS(%rdi)
        je 3b
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 2b
        cli
        done
handler:
        incq INTERRUPTS(%rdi)
        test %r8, %r8
        jz 4f                           # the PIC is set to acknowledge by itself
        acknowledge
4:      iretq
        tables handler
