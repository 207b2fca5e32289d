// Where PSCI starts a CPU: with the MMU off, at its physical address. The identity map holds this page, as it holds the
// switch of `boot/entry.s`. x0: the physical address of its `Start`.

    .section .head.secondary, "ax"
    .global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mov     x19, x0
    mrs     x22, CurrentEL
    lsr     x22, x22, #2
    msr     spsel, #0
    ldr     x0, [x19, #48]          // the stack's end, physical: gone once the MMU is on
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    ldr     x23, =0x30d00800        // SCTLR_EL1: MMU and caches off, RES1 bits of Armv8.0 set
    msr     sctlr_el1, x23
    isb
    cmp     x22, #2
    b.lo    1f

    bl      prepare_el1
    msr     sctlr_el1, x23          // again: had HCR_EL2.E2H been set, the first write went to SCTLR_EL2
    adr     x0, 1f
    msr     elr_el2, x0
    mov     x0, #0x3c4              // SPSR: EL1t (on SP_EL0), DAIF masked
    msr     spsr_el2, x0
    eret

1:  msr     cpacr_el1, xzr          // floating point and SIMD trap: the kernel has none
    ldp     x24, x25, [x19]         // MAIR, TCR
    ldp     x26, x27, [x19, #16]    // TTBR0, TTBR1
    ldp     x28, x22, [x19, #32]    // SCTLR, TCR without TTBR0
    ldp     x20, x21, [x19, #56]    // ends of the stacks where they are mapped: its own, for exceptions
    ldp     x19, x0, [x19, #72]     // its number, and where `secondary_mmu_on` is linked
    b       switch_on

    .global secondary_mmu_on
secondary_mmu_on:                   // at its link address from here on
    msr     tcr_el1, x22
    isb
    msr     ttbr0_el1, xzr
    isb
    mov     x0, x21
    mov     x1, x19
    bl      install_vectors
    mov     sp, x20
    mov     x29, xzr
    mov     x30, xzr
    b       secondary_start

    .ltorg
