# Halts N times; each time its own local APIC timer, set to r8 nanoseconds, wakes it.
.include "guest.h"
start:
        load_tables
        write_msr X2APIC_SPURIOUS, 0x1ff
        write_msr X2APIC_TIMER_DIVIDE, 0xb
        write_msr X2APIC_TIMER, VECTOR_TIMER
1:      cli
        mov $X2APIC_TIMER_COUNT, %ecx
        mov %r8d, %eax
        xor %edx, %edx
        wrmsr
        sti                             # holds interrupts off for one more instruction, so none comes before the halt
        hlt
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
