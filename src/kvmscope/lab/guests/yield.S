# Asks N times that the vCPU with the APIC id r8 be run in its place.
.include "guest.h"
.set KVM_HC_SCHED_YIELD, 11
start:
1:      mov $KVM_HC_SCHED_YIELD, %eax
        mov %r8, %rbx
        vmcall                          # on AMD, KVM puts vmmcall in its place when it is met first
        incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
