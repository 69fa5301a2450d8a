# Halts N times where no APIC is in the kernel: each halt is an exit, from which the VMM lets it go on.
.include "guest.h"
start:
1:      hlt
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
