# From the loader to Rust: PVH starts the CPU in 32-bit protected mode with paging off and the physical address
# of hvm_start_info in EBX (https://xenbits.xen.org/docs/unstable/misc/pvh.html).

    .section .note.pvh, "a", @note
    .balign 4
    .long 4                         # size of the name
    .long 8                         # size of the value: QEMU reads 8 bytes whatever is written here
    .long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

    .section .text.entry, "ax", @progbits
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld

    # Four page directories map the first 4 GiB to themselves in pages of 2 MiB; the devices are at its end.
    movl $page_directories, %edi
    movl $0x83, %eax                # present, writable, 2 MiB
    movl $2048, %ecx
1:  movl %eax, (%edi)
    movl $0, 4(%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b

    movl $page_directory_pointers, %edi
    movl $page_directories + 3, %eax    # present, writable
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b

    movl $page_directory_pointers + 3, page_map
    movl $page_map, %eax
    movl %eax, %cr3

    movl %cr4, %eax
    orl $0x620, %eax                # PAE, and SSE: OSFXSR, OSXMMEXCPT
    movl %eax, %cr4

    movl $0xc0000080, %ecx          # EFER
    rdmsr
    orl $0x100, %eax                # long mode enable
    wrmsr

    movl %cr0, %eax
    andl $~0x6000000c, %eax         # caches on (CD, NW), SSE not trapped (EM, TS)
    orl $0x80010023, %eax           # paging, write protection, NE, MP, protected mode
    movl %eax, %cr0

    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    movl $16, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $stack_top, %esp
    xorl %ebp, %ebp
    movl %ebx, %edi                 # the first argument: hvm_start_info
    call start
    ud2

    .section .rodata.gdt, "a", @progbits
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        # 8: code, 64-bit, ring 0
    .quad 0x00cf93000000ffff        # 16: data
gdt_pointer:
    .word . - gdt - 1
    .quad gdt

    .section .bss.entry, "aw", @nobits
    .balign 4096
    .global page_map
page_map:
    .skip 4096
    .global page_directory_pointers
page_directory_pointers:
    .skip 4096
    .global page_directories
page_directories:
    .skip 4 * 4096
    .skip 65536
stack_top:
