# Writes N times to a page: r9 pages from r8 upwards in turn, again and again.
.include "guest.h"
start:
1:      mov %r8, %rbx
        mov %r9, %rcx
2:      movb $1, (%rbx)
        add $4096, %rbx
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jae 3f
        dec %rcx
        jnz 2b
        jmp 1b
3:      done
