// SPDX-License-Identifier: Apache-2.0
// Runs kernels on an emulated board, on memory that the host sends and gets back (tests/emulated.py).
//
// Files "jobs" and "results" are pipes. At the start the board writes the address of its memory and its size. A job is
// four words {bytes, rows, address of the rows, bytes to send back}, then the bytes of memory from its start on. A row
// is two words {kernel, address of its arguments}. A job of no bytes ends the emulation.
#include "board.h"
#include "kernel_table.h"
#include "semihost.h"

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, READ_BINARY = 1, WRITE_BINARY = 5 };

static uint8_t memory[MEMORY_BYTES] __attribute__((aligned(16)));

static uint32_t semihost(uint32_t operation, const void *arguments) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t open(const char *name, uint32_t mode, uint32_t length) {
    const uint32_t arguments[3] = {(uint32_t)(uintptr_t)name, mode, length};
    return semihost(SYS_OPEN, arguments);
}

// A pipe gives and takes less than it is asked to; semihosting returns what is left.
static void transfer(uint32_t operation, uint32_t handle, void *bytes, uint32_t count) {
    uint8_t *at = bytes;
    while (count > 0) {
        const uint32_t arguments[3] = {handle, (uint32_t)(uintptr_t)at, count};
        const uint32_t left = semihost(operation, arguments);
        if (left >= count) { board_fail("the host has gone", left); }
        at += count - left;
        count = left;
    }
}

int main(void) {
    const uint32_t jobs = open("jobs", READ_BINARY, 4), results = open("results", WRITE_BINARY, 7);
    uint32_t hello[2] = {(uint32_t)(uintptr_t)memory, sizeof memory}, job[4];
    transfer(SYS_WRITE, results, hello, sizeof hello);
    for (;;) {
        transfer(SYS_READ, jobs, job, sizeof job);
        if (job[0] == 0 || job[0] > sizeof memory) { board_exit(0); }
        transfer(SYS_READ, jobs, memory, job[0]);
        const uint32_t *row = (const uint32_t *)(uintptr_t)job[2];
        for (uint32_t i = 0; i < job[1]; i++, row += 2) { kernels[row[0]]((const void *)(uintptr_t)row[1]); }
        transfer(SYS_WRITE, results, memory, job[3]);
    }
}
