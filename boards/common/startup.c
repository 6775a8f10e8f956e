// SPDX-License-Identifier: Apache-2.0
// From reset to main(): vectors, memory initialisation, FPU or Helium, MPU, and the switch to the main stack.
//
// Two stacks: exceptions run on MSP (the handler stack), the program on PSP (the main stack). A program that overflows
// its stack thus still leaves the fault handler a stack to report from.
#include <string.h>

#include "board.h"
#include "board_config.h"
#include "semihost.h"

#define REG(address) (*(volatile uint32_t *)(address))
#define SCB_VTOR REG(0xe000ed08u)
#define SCB_CCR REG(0xe000ed14u)
#define SCB_SHCSR REG(0xe000ed24u)
#define SCB_CPACR REG(0xe000ed88u)
#define MPU_TYPE REG(0xe000ed90u)
#define MPU_CTRL REG(0xe000ed94u)
#define MPU_RNR REG(0xe000ed98u)
#define MPU_RBAR REG(0xe000ed9cu)
#define MPU_RASR REG(0xe000eda0u) // RLAR on v8-M: the same place and, for us, the same use
#define MPU_MAIR0 REG(0xe000edc0u)

#define CCR_UNALIGN_TRP (1u << 3)
#define SHCSR_FAULTS_ENABLED (7u << 16) // memory, bus and usage faults keep their own vectors
#define CPACR_FPU (0xfu << 20)
#define PAINT_GAP 32 // more than memset itself uses while it paints the stack it runs on
#define MAIR0_NORMAL_MEMORY 0x44u // non-cacheable

extern uint8_t board_data_load[], board_data_start[], board_data_end[], board_bss_start[], board_bss_end[];

int main(void);
void Reset_Handler(void);
void board_fault(void);
void board_count_wrapped(void);

typedef struct {
    void *stack;
    void (*handler[15])(void);
} vector_table;

__attribute__((used, section(".vectors"))) const vector_table board_vectors = {
    board_handler_stack_end,
    {
        Reset_Handler, board_fault, board_fault, board_fault, board_fault, // reset, NMI, hard, memory, bus fault
        board_fault,   board_fault, board_fault, board_fault, board_fault, // usage, secure fault, reserved
        board_fault,   board_fault, board_fault, board_fault,              // SVCall, debug, reserved, PendSV
        board_count_wrapped,                                               // SysTick
    },
};

#ifdef BOARD_BOOT
// This core fetches its first two words away from the flash that holds the rest.
__attribute__((used, section(".boot"))) const vector_table *const board_boot[2] = {
    (const vector_table *)board_handler_stack_end, (const vector_table *)(const void *)Reset_Handler};
#endif

// Whitelist: what no region names faults, for reads as for writes. The table is computed at export (board_config.h).
static void enable_mpu(void) {
    const uint32_t regions = (MPU_TYPE >> 8) & 0xffu;
    if (regions < BOARD_MPU_REGIONS) {
        board_fail("this core has too few MPU regions", regions);
    }
#ifdef BOARD_MPU_V8M
    MPU_MAIR0 = MAIR0_NORMAL_MEMORY;
#endif
    for (uint32_t i = 0; i < BOARD_MPU_REGIONS; i++) {
        MPU_RNR = i;
        MPU_RBAR = board_mpu[i][0];
        MPU_RASR = board_mpu[i][1];
    }
    SCB_SHCSR |= SHCSR_FAULTS_ENABLED;
    MPU_CTRL = 1u; // no default map for privileged code
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

void Reset_Handler(void) {
    SCB_VTOR = (uint32_t)(uintptr_t)&board_vectors;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= CPACR_FPU;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
#if __ARM_ARCH == 6
    SCB_CCR |= CCR_UNALIGN_TRP; // a stand-in core must be as strict as the M0+
#endif
    memcpy(board_data_start, board_data_load, (size_t)(board_data_end - board_data_start));
    memset(board_bss_start, 0, (size_t)(board_bss_end - board_bss_start));
    uint8_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    memset(board_handler_stack_start, BOARD_STACK_PAINT, (size_t)(sp - PAINT_GAP - board_handler_stack_start));
    memset(board_stack_start, BOARD_STACK_PAINT, (size_t)(board_stack_end - board_stack_start));
    enable_mpu();
    __asm__ volatile(
        "msr psp, %0\n\t"
        "movs r0, #2\n\t"
        "msr control, r0\n\t"
        "isb\n\t"
        "bl main"
        :: "r"(board_stack_end) : "r0", "memory");
    __builtin_unreachable();
}

uint32_t board_stack_used(const uint8_t *start, const uint8_t *end) {
    while (start < end && *start == BOARD_STACK_PAINT) {
        start++;
    }
    return (uint32_t)(end - start);
}
