// The vectors. The kernel runs on SP_EL0 and takes exceptions on SP_EL1, so that a stack that ran into its guard page can
// still be reported. An exception on SP_EL1 is a fault of the handler itself: one line, and the end.

    .macro  vector kind
    .balign 128
    sub     sp, sp, #288
    stp     x0, x1, [sp]
    mov     x1, #\kind
    b       save_and_handle
    .endm

    .macro  nested_vector
    .balign 128
    mrs     x0, tpidr_el1           // the end of this CPU's exception stack
    mov     sp, x0
    mrs     x0, esr_el1
    mrs     x1, far_el1
    mrs     x2, elr_el1
    b       exception_in_handler
    .endm

    .text
    .balign 2048
    .global vectors
vectors:
    vector  0                       // from EL1 on SP_EL0: synchronous, IRQ, FIQ, SError
    vector  1
    vector  2
    vector  3
    nested_vector                   // from EL1 on SP_EL1
    nested_vector
    nested_vector
    nested_vector
    vector  4                       // from EL0: we never go there
    vector  4
    vector  4
    vector  4
    vector  4
    vector  4
    vector  4
    vector  4
    .balign 128

// Fills in a `Frame`, hands it to Rust, and goes on where the frame then says.
save_and_handle:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, sp_el0
    stp     x30, x2, [sp, #240]
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    stp     x2, x3, [sp, #256]
    mrs     x2, esr_el1
    mrs     x3, far_el1
    stp     x2, x3, [sp, #272]
    mov     x0, sp
    bl      handle_exception
    ldp     x2, x3, [sp, #256]
    msr     elr_el1, x2
    msr     spsr_el1, x3
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp], #288
    eret

// One access each, at a known address, so that the handler can step over it. x0: the address; store: x1 is the value.
// Returns x0: what was loaded, x1: 0, or ESR of the fault, x2: its FAR.
    .global probe_load, probe_load_access, probe_store, probe_store_access
probe_load:
    mov     x1, xzr
    mov     x2, xzr
probe_load_access:
    ldr     x0, [x0]
    ret
probe_store:
    mov     x3, x1
    mov     x1, xzr
    mov     x2, xzr
probe_store_access:
    str     x3, [x0]
    ret
