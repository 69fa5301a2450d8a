# Writes N times to an address (r8) that no memory backs; each write is an exit that the VMM handles.
.include "guest.h"
start:
1:      movl %eax, (%r8)
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
