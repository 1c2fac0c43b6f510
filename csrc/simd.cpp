#include "simd.h"

#include <atomic>

namespace aosa {

Simd simd_supported() {
#if AOSA_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return Simd::avx512;
    if (__builtin_cpu_supports("avx2")) return Simd::avx2;
#endif
    return Simd::baseline;
}

static std::atomic<Simd>& current() {
    static std::atomic<Simd> level{simd_supported()};
    return level;
}

Simd simd_level() {
    return current().load(std::memory_order_relaxed);
}

void set_simd_level(Simd level) {
    current().store(level, std::memory_order_relaxed);
}

}  // namespace aosa
