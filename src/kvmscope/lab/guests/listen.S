# Runs on until it has taken N interrupts, which others send. r8 says from where: 0 PIC, 1 a local APIC;
# r9 how it waits: 0 it spins with interrupts enabled, 1 it halts.
.include "guest.h"
start:
        load_tables
        test %r8, %r8
        jz 1f
        write_msr X2APIC_SPURIOUS, 0x1ff
1:      movq $1, LISTENING(%rdi)
        test %r9, %r9
        jnz 3f
        sti
2:      pause
        mov INTERRUPTS(%rdi), %rax
        mov %rax, COUNT(%rdi)
        cmp %rsi, %rax
        jb 2b
        jmp 4f
3:      cli
        mov INTERRUPTS(%rdi), %rax
        cmp %rsi, %rax
        cmova %rsi, %rax                # ticks that were held back come in bursts, past N
        mov %rax, COUNT(%rdi)
        jae 4f
        sti                             # holds interrupts off for one more instruction, so none comes before the halt
        hlt
        jmp 3b
4:      cli
        done
handler:
        incq INTERRUPTS(%rdi)
        test %r8, %r8
        jz 5f                           # the PIC is set to acknowledge by itself
        acknowledge
5:      iretq
        tables handler
