# An excursion to user mode and back (privilege.rs). No stack is used there, so none is needed.

    .section .text.ring3, "ax", @progbits

# Goes to user mode at the address in RDI; comes back when `ring3_back` is gone on at with `ring3_kernel_stack`.
    .global ring3_excursion
ring3_excursion:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, ring3_kernel_stack(%rip)
    pushq $32 + 3                   # the data segment of user mode
    pushq $0                        # no stack
    pushq $2                        # flags: none but the one that is always set
    pushq $40 + 3                   # the code segment of user mode
    pushq %rdi
    iretq

    .global ring3_back
ring3_back:
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

# What runs in user mode, at another address than this one.
    .global ring3_user
ring3_user:
    movl $0x746f7269, %edi
    syscall
    .global ring3_forbidden
ring3_forbidden:
    hlt

# Where `syscall` arrives, on the stack that user mode had: none. RCX has the way back, R11 the flags.
    .global ring3_call
ring3_call:
    movq %rdi, ring3_called_with(%rip)
    sysretq

    .section .bss.ring3, "aw", @nobits
    .balign 8
    .global ring3_kernel_stack
ring3_kernel_stack:
    .skip 8
    .global ring3_called_with
ring3_called_with:
    .skip 8
