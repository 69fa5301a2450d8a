# Counts to N without ever leaving the guest by itself.
.include "guest.h"
start:
1:      incq COUNT(%rdi)
        cmpq %rsi, COUNT(%rdi)
        jb 1b
        done
