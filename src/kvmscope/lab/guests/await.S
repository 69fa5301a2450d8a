# Runs on, without leaving the guest by itself, until the VMM has counted to N for it.
.include "guest.h"
start:
1:      pause
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
