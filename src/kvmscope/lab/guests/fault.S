# Writes to N pages that nobody has touched: r9 pages from r8 upwards, then asks for as many fresh ones, and so on.
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
        outb %al, $PORT_REQUEST
        jmp 1b
3:      done
