# Changes N times the entry at r8 of its own page tables, to the one frame or the other of 2 MiB, and reads through it
# at r9.
.include "guest.h"
start:
        movq $0xe7, (%r8)               # the frame at 0: present, writable, for every level, accessed, dirty, large
        mov (%r9), %al
1:      xorq $0x200000, (%r8)
        mov (%r9), %al
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
