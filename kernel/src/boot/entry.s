// From the first instruction to `kernel_start`, both in Rust's terms and in the machine's.
//
// The image runs where it was loaded, with the MMU off, until `mmu_on`. Every pointer that the compiler stored in memory
// (string slices, vtables, match tables) stands in `.rela.dyn` as R_AARCH64_RELATIVE; `relocate` writes them all: first
// for the place where the image runs, and once more, for the place where it is linked, just before the MMU goes on.
// Code itself is relative to the program counter and needs nothing.
//
// Registers that last until the MMU is on:
//   x19  device tree (x0 at entry)      x20  where the image runs
//   x21  x20 - where it is linked       x22  exception level at entry
//   x23  relocations of an unknown type                x24  SCTLR_EL1 with the MMU off

    .section .head, "ax"
    .global _start
_start:
    b       entry                   // the Linux arm64 Image header: code0
    nop                             // code1
    .quad   0                       // load at a multiple of 2 MiB, plus 0
    .quad   image_size
    .quad   0x8                     // little-endian, any page size, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

    .global image_link
image_link:
    .quad   IMAGE_LINK              // absolute symbols: no relocation
image_load:
    .quad   IMAGE_LOAD
image_file_bytes:
    .quad   IMAGE_FILE_BYTES

entry:
    msr     daifset, #0xf
    mov     x19, x0
    mrs     x22, CurrentEL
    lsr     x22, x22, #2
    cmp     x22, #3
    b.lo    alone
    mrs     x1, mpidr_el1           // nobody holds the other CPUs back at EL3: one says that it is refused
    tst     x1, #0xffffff
    b.ne    park

alone:
    adrp    x20, _start
    cbnz    x20, in_ram

// At address 0 there is flash: the image is the machine's firmware, which QEMU wants before it gives the machine an ACPI
// device. It copies itself to RAM and starts again there; the device tree is at the start of RAM.
    ldr     x1, image_load
    ldr     x2, image_file_bytes
    add     x2, x1, x2
1:  ldp     x3, x4, [x20], #16
    stp     x3, x4, [x1], #16
    cmp     x1, x2
    b.lo    1b
    dsb     sy
    ic      iallu
    dsb     sy
    isb
    mov     x0, xzr
    ldr     x1, image_load
    br      x1

in_ram:
    ldr     x21, image_link
    sub     x21, x20, x21

    // One stack for all levels: SP_EL0. SP_EL1 is for exceptions.
    msr     spsel, #0
    adrp    x0, main_stack_end
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr

    ldr     x24, =0x30d00800        // SCTLR_EL1: MMU and caches off, RES1 bits of Armv8.0 set
    msr     sctlr_el1, x24
    isb

    bl      zero_bss
    mov     x0, x21
    bl      relocate
    mov     x23, x0

    cmp     x22, #2
    b.lo    at_el1
    b.hi    at_el3

    bl      prepare_el1
    msr     sctlr_el1, x24          // again: had HCR_EL2.E2H been set, the first write went to SCTLR_EL2
    adr     x0, at_el1
    msr     elr_el2, x0
    mov     x0, #0x3c4              // SPSR: EL1t (on SP_EL0), DAIF masked
    msr     spsr_el2, x0
    eret

at_el3:                             // only to say on the console that it is refused
    adrp    x0, el3_vectors
    add     x0, x0, :lo12:el3_vectors
    msr     vbar_el3, x0
    isb
    b       1f

at_el1:
    msr     cpacr_el1, xzr          // floating point and SIMD trap: the kernel has none
    bl      install_boot_vectors

1:  mov     x0, x19
    mov     x1, x22
    mov     x2, x23
    sub     sp, sp, #48
    mov     x3, sp
    bl      early                   // fills in the `Switch` at x3

// Switches the MMU on. The identity map holds this page; the image's window holds it too, executable in both.
    ldp     x24, x25, [sp]          // MAIR, TCR
    ldp     x26, x27, [sp, #16]     // TTBR0, TTBR1
    ldp     x28, x22, [sp, #32]     // SCTLR, TCR without TTBR0
    mov     x0, xzr
    bl      relocate
    // The caches were off: what they hold of these addresses, if anything, is older than what memory holds.
    adrp    x0, rodata_start
    adrp    x1, image_end
    bl      discard_cache_lines
    adr     x0, mmu_on
    sub     x0, x0, x21

// Where other CPUs come too. x0: where to go on, a link address; x24 to x28: MAIR, TCR, TTBR0, TTBR1, SCTLR.
    .global switch_on
switch_on:
    tlbi    vmalle1
    dsb     nsh
    msr     mair_el1, x24
    msr     tcr_el1, x25
    msr     ttbr0_el1, x26
    msr     ttbr1_el1, x27
    isb
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el1, x28
    isb
    br      x0

    .global mmu_on
mmu_on:                             // at its link address from here on
    msr     tcr_el1, x22
    isb
    msr     ttbr0_el1, xzr
    isb
    bl      install_boot_vectors
    adrp    x0, main_stack_end
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    b       kernel_start

park:
    wfi
    b       park

install_boot_vectors:
    adrp    x0, exception_stack_end
    mov     x1, xzr

// x0: the end of a stack for exceptions, which vectors.s finds again in TPIDR_EL1. x1: the number of this CPU, which
// TPIDRRO_EL0 holds from now on: EL0, which could read it, is never used. Changes x2.
    .global install_vectors
install_vectors:
    adrp    x2, vectors
    add     x2, x2, :lo12:vectors
    msr     vbar_el1, x2
    msr     tpidr_el1, x0
    msr     tpidrro_el0, x1
    msr     spsel, #1
    mov     sp, x0
    msr     spsel, #0
    isb
    ret

zero_bss:
    adrp    x0, bss_start
    add     x0, x0, :lo12:bss_start
    adrp    x1, bss_end
    add     x1, x1, :lo12:bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  ret

// Writes every stored pointer of the image. x0: what to add to its link-time value. x21: from link to run address.
// Returns in x0 how many entries are of another type than R_AARCH64_RELATIVE (1027): those are left alone.
relocate:
    adrp    x1, rela_start
    add     x1, x1, :lo12:rela_start
    adrp    x2, rela_end
    add     x2, x2, :lo12:rela_end
    mov     x3, xzr
1:  cmp     x1, x2
    b.hs    3f
    ldp     x4, x5, [x1], #16       // offset, info
    ldr     x6, [x1], #8            // addend
    cmp     x5, #1027
    b.ne    2f
    add     x6, x6, x0
    str     x6, [x4, x21]
    b       1b
2:  add     x3, x3, #1
    b       1b
3:  mov     x0, x3
    ret

// Discards cache lines of x0 up to x1, both multiples of 4 KiB. Changes x0 to x3.
    .global discard_cache_lines
discard_cache_lines:
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4         // DminLine: log2 of words
    mov     x3, #4
    lsl     x2, x3, x2
    dmb     sy
1:  cmp     x0, x1
    b.hs    2f
    dc      ivac, x0
    add     x0, x0, x2
    b       1b
2:  dsb     sy
    ret

    .ltorg

// With semihosting absent, the exit by HLT traps; at EL3 that is the only exception that we expect.
    .text
    .balign 2048
el3_vectors:
    adrp    x0, exception_stack_end
    mov     sp, x0
    b       power_off
