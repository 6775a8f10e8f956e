// SPDX-License-Identifier: Apache-2.0
// The board's only link to the outside: Arm semihosting. Files are read from the host, text goes to its console.
#ifndef BOARD_SEMIHOST_H
#define BOARD_SEMIHOST_H

#include <stdint.h>

// A handle, or -1. The file is opened for reading, relative to the directory the emulator runs in.
int32_t board_open(const char *name, uint32_t length);

// Reads `size` bytes at the file's position into `buffer`; 0, or -1 when fewer could be read.
// Semihosting writes past the MPU, so the caller makes sure that the buffer lies in SRAM.
int32_t board_read(int32_t handle, void *buffer, uint32_t size);

int32_t board_seek(int32_t handle, uint32_t position);

void board_put(const char *text);

// Appends " name=1a2b", in hexadecimal: printing decimal would need a division, which half of these cores lack.
void board_put_field(const char *name, uint64_t value);

__attribute__((noreturn)) void board_exit(uint32_t code);

// Prints "@error text value=..." and ends the emulation.
__attribute__((noreturn)) void board_fail(const char *text, uint32_t value);

#endif
