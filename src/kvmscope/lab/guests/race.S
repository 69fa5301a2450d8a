# Writes to N pages from r8 upwards that nobody has touched, each at the same time as another vCPU, whose mailbox is r9.
# The first of the two asks for fresh ones after each FRESH_PAGES.
.include "guest.h"
start:
1:      mov %r8, %rbx
        mov $FRESH_PAGES, %ecx
2:      movb $1, (%rbx)
        add $4096, %rbx
        dec %ecx
        jnz 3f
        cmp %r9, %rdi
        ja 3f
        outb %al, $PORT_REQUEST         # the other waits for the count meanwhile
3:      incq COUNT(%rdi)
        mov COUNT(%rdi), %rax
        cmp %rsi, %rax
        jae 5f
4:      pause
        cmp %rax, COUNT(%r9)
        jb 4b
        test %ecx, %ecx
        jnz 2b
        jmp 1b
5:      done
