# Halts N times; its own local APIC timer wakes it: twice after r8 nanoseconds, then after r9, and so on.
.include "guest.h"
start:
        load_tables
        write_msr X2APIC_SPURIOUS, 0x1ff
        write_msr X2APIC_TIMER_DIVIDE, 0xb
        write_msr X2APIC_TIMER, VECTOR_TIMER
1:      mov $3, %ebx
2:      cli
        mov %r8, %rax
        dec %ebx
        cmovz %r9, %rax
        xor %edx, %edx
        mov $X2APIC_TIMER_COUNT, %ecx
        wrmsr
        sti                             # holds interrupts off for one more instruction, so none comes before the halt
        hlt
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jae 3f
        test %ebx, %ebx
        jnz 2b
        jmp 1b
3:      cli
        done
handler:
        incq INTERRUPTS(%rdi)
        acknowledge
        iretq
        tables handler
