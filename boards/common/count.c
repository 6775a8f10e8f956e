// SPDX-License-Identifier: Apache-2.0
#include "board.h"

#define REG(address) (*(volatile uint32_t *)(address))
#define SYST_CSR REG(0xe000e010u)
#define SYST_RVR REG(0xe000e014u)
#define SYST_CVR REG(0xe000e018u)
#define SCB_ICSR REG(0xe000ed04u)

enum { PENDSTSET_BIT = 26, COUNTER_BITS = 24 };
#define COUNTER_MAX 0xffffffu

volatile uint32_t board_wraps; // the harness' only static
void board_count_wrapped(void);

// SysTick interrupt. In assembly because the host subtracts its length (HANDLER_INSTRUCTIONS in count.py).
__attribute__((naked)) void board_count_wrapped(void) {
    __asm__ volatile(
        "ldr r0, =board_wraps\n\t"
        "ldr r1, [r0]\n\t"
        "adds r1, r1, #1\n\t"
        "str r1, [r0]\n\t"
        "bx lr\n\t"
        ".ltorg");
}

void board_count_start(void) {
    SYST_RVR = COUNTER_MAX;
    SYST_CVR = 0;
    SYST_CSR = 7u; // core clock, interrupt, on
}

// Branch-free, so that it always costs the same. A wrap that is pending but not yet handled shows as a set PENDSTSET
// with a counter that has just been reloaded; it belongs to the time but not to the handled wraps.
board_count board_count_now(void) {
    __asm__ volatile("cpsid i" ::: "memory");
    const uint32_t value = SYST_CVR;
    const uint32_t pending = (SCB_ICSR >> PENDSTSET_BIT) & 1u & (value >> (COUNTER_BITS - 1));
    const uint32_t handled = board_wraps;
    __asm__ volatile("cpsie i" ::: "memory");
    const board_count count = {((uint64_t)(handled + pending) << COUNTER_BITS) + (COUNTER_MAX - value), handled};
    return count;
}

board_count board_count_since(board_count begin) {
    const board_count end = board_count_now();
    const board_count spent = {end.ticks - begin.ticks, end.wraps - begin.wraps};
    return spent;
}

__attribute__((noinline)) board_count board_count_call(void (*function)(const void *), const void *argument) {
    const board_count begin = board_count_now();
    function(argument);
    return board_count_since(begin);
}
