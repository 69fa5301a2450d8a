# Halts with interrupts off: nothing but its VMM can end it.
.include "guest.h"
start:
1:      incq COUNT(%rdi)
        hlt
        jmp 1b
