// SPDX-License-Identifier: Apache-2.0
#include "semihost.h"

enum { SYS_OPEN = 0x01, SYS_WRITE0 = 0x04, SYS_READ = 0x06, SYS_SEEK = 0x0a, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ_BINARY = 1, APPLICATION_EXIT = 0x20026, EXIT_FAILURE_CODE = 2 };

static int32_t semihost(uint32_t operation, const void *arguments) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (int32_t)r0;
}

int32_t board_open(const char *name, uint32_t length) {
    const uint32_t arguments[3] = {(uint32_t)(uintptr_t)name, MODE_READ_BINARY, length};
    return semihost(SYS_OPEN, arguments);
}

int32_t board_read(int32_t handle, void *buffer, uint32_t size) {
    const uint32_t arguments[3] = {(uint32_t)handle, (uint32_t)(uintptr_t)buffer, size};
    return semihost(SYS_READ, arguments) == 0 ? 0 : -1;
}

int32_t board_seek(int32_t handle, uint32_t position) {
    const uint32_t arguments[2] = {(uint32_t)handle, position};
    return semihost(SYS_SEEK, arguments);
}

void board_put(const char *text) { (void)semihost(SYS_WRITE0, text); }

void board_put_field(const char *name, uint64_t value) {
    char digits[17];
    uint32_t i = 16;
    digits[i] = '\0';
    do {
        digits[--i] = "0123456789abcdef"[value & 15u];
        value >>= 4;
    } while (value != 0);
    board_put(" ");
    board_put(name);
    board_put("=");
    board_put(&digits[i]);
}

void board_exit(uint32_t code) {
    const uint32_t arguments[2] = {APPLICATION_EXIT, code};
    for (;;) {
        (void)semihost(SYS_EXIT_EXTENDED, arguments);
    }
}

void board_fail(const char *text, uint32_t value) {
    board_put("@error ");
    board_put(text);
    board_put_field("value", value);
    board_put("\n");
    board_exit(EXIT_FAILURE_CODE);
}
