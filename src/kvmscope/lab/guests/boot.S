# For QEMU, in place of its firmware: writes to port 0x80 as often as the word at 0x1f8 says, writes 'D' to QEMU's debug
# console (port 0xe9), and halts for good with interrupts off, so that every count then stands still.
# It also is a boot sector: it runs at offset 0x7c00 of its segment, whichever that is.
.code16
.section .text
.globl start
start:  cli
        mov %cs:0x7c00 + 0x1f8, %ecx
        test %ecx, %ecx
        jz 2f
1:      out %al, $0x80
        dec %ecx
        jnz 1b
2:      mov $'D', %al
        out %al, $0xe9
3:      hlt
        jmp 3b
        .org 0x1f8
count:  .long 0
        .org 0x1fe
        .word 0xaa55
