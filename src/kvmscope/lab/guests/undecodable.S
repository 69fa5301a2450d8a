# Reads N times from an address (r8) that no memory backs, by an instruction that KVM's emulator does not know.
# Where KVM gives up, the VMM lets the guest go on at rbx.
.include "guest.h"
start:
        lea 2f(%rip), %rbx
1:      popcntl (%r8), %eax
2:      incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
