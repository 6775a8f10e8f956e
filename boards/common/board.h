// SPDX-License-Identifier: Apache-2.0
// What start-up gives the harness: where memory begins and ends, and the instruction counter.
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

// From the linker script. SRAM, lowest address first: main stack, handler stack, .data, .bss (the arena among it).
// The main stack lies at the very bottom, so an overflow leaves SRAM and the MPU stops it.
extern uint8_t board_sram_start[], board_sram_end[];
extern uint8_t board_stack_start[], board_stack_end[];
extern uint8_t board_handler_stack_start[], board_handler_stack_end[];

#define BOARD_STACK_PAINT 0xc5u

// Bytes of a painted stack [start, end) that were ever written: its high-water mark.
uint32_t board_stack_used(const uint8_t *start, const uint8_t *end);

// The instruction counter is SysTick under the emulator's `-icount`: every instruction advances it by the same,
// known time, which the host knows and divides by. SysTick has 24 bits; an interrupt extends it, and the handler's own
// instructions are taken out again, which is why `wraps` is reported beside `ticks`.
typedef struct {
    uint64_t ticks;
    uint32_t wraps; // interrupts that were handled
} board_count;

void board_count_start(void);
board_count board_count_now(void);
board_count board_count_since(board_count begin);

// Ticks spent in function(argument), plus a constant overhead: measure an empty function to learn it.
board_count board_count_call(void (*function)(const void *), const void *argument);

#endif
