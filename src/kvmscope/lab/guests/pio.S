# Writes to a port N times; each write is an exit that the VMM handles.
.include "guest.h"
start:
1:      outb %al, $PORT_WORK
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
