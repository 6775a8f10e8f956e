// SPDX-License-Identifier: Apache-2.0
// Every fault ends here: one line that the host turns into a message, then the end of the emulation.
//   @fault exception=4 cfsr=82 hfsr=0 address=20040000 pc=1a2 sp=200007f0
// `address` is there only when the core recorded one, `pc` only when the stacked frame can be trusted.
#include "board.h"
#include "semihost.h"

#define REG(address) (*(volatile uint32_t *)(address))
#define SCB_CFSR REG(0xe000ed28u)
#define SCB_HFSR REG(0xe000ed2cu)
#define SCB_MMFAR REG(0xe000ed34u)
#define SCB_BFAR REG(0xe000ed38u)

#define CFSR_STACKING ((1u << 4) | (1u << 12)) // memory or bus fault while the frame was being pushed
#define CFSR_MMFAR_VALID (1u << 7)
#define CFSR_BFAR_VALID (1u << 15)
enum { FRAME_PC = 6, FRAME_BYTES = 32, EXIT_FAULT = 3 };

void board_fault(void);
__attribute__((noreturn, used)) void board_fault_report(const uint32_t *frame);

void board_fault_report(const uint32_t *frame) {
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    const uint32_t cfsr = SCB_CFSR;
    const uint8_t *bytes = (const uint8_t *)frame;
    board_put("@fault");
    board_put_field("exception", exception);
    board_put_field("cfsr", cfsr);
    board_put_field("hfsr", SCB_HFSR);
    if ((cfsr & CFSR_MMFAR_VALID) != 0) {
        board_put_field("address", SCB_MMFAR);
    } else if ((cfsr & CFSR_BFAR_VALID) != 0) {
        board_put_field("address", SCB_BFAR);
    }
    if ((cfsr & CFSR_STACKING) == 0 && bytes >= board_sram_start && bytes + FRAME_BYTES <= board_sram_end) {
        board_put_field("pc", frame[FRAME_PC]);
    }
    board_put_field("sp", (uint32_t)(uintptr_t)frame);
    board_put("\n");
    board_exit(EXIT_FAULT);
}

// Bit 2 of EXC_RETURN says which stack holds the frame. Written for Armv6-M so that it assembles for every core.
__attribute__((naked)) void board_fault(void) {
    __asm__ volatile(
        "mov r1, lr\n\t"
        "mrs r0, msp\n\t"
        "lsls r1, r1, #29\n\t"
        "bpl 1f\n\t"
        "mrs r0, psp\n"
        "1:\n\t"
        "bl board_fault_report");
}
