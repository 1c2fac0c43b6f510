// One wheel for every machine: hot loops are compiled for three instruction sets and chosen at run time. Together with
// -ffp-contract=off (setup.py) and loops whose lanes are independent, every level gives the same bits.
#pragma once

namespace aosa {

enum class Simd { baseline = 0, avx2 = 1, avx512 = 2 };

Simd simd_supported();  // the best that this processor and this build have
Simd simd_level();      // the one in use
void set_simd_level(Simd level);

}  // namespace aosa

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define AOSA_X86 1
#define AOSA_INLINE inline __attribute__((always_inline))
#define AOSA_AVX2 __attribute__((target("avx2")))
#ifdef __clang__  // has no such preference, and would ignore the whole attribute
#define AOSA_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl")))
#else
#define AOSA_AVX512 __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")))
#endif
#else
#define AOSA_X86 0
#define AOSA_INLINE inline
#endif

// AOSA_MULTIVERSION(name, (parameters), (arguments)) defines `void name parameters` that forwards to name##_body, an
// AOSA_INLINE function, compiled once per instruction set.
#if AOSA_X86
#define AOSA_MULTIVERSION(name, parameters, arguments) \
    static void name##_baseline parameters {           \
        name##_body arguments;                         \
    }                                                  \
    AOSA_AVX2 static void name##_avx2 parameters {     \
        name##_body arguments;                         \
    }                                                  \
    AOSA_AVX512 static void name##_avx512 parameters { \
        name##_body arguments;                         \
    }                                                  \
    static void name parameters {                      \
        switch (simd_level()) {                        \
            case Simd::avx512:                         \
                return name##_avx512 arguments;        \
            case Simd::avx2:                           \
                return name##_avx2 arguments;          \
            default:                                   \
                return name##_baseline arguments;      \
        }                                              \
    }
#else
#define AOSA_MULTIVERSION(name, parameters, arguments) \
    static void name parameters {                      \
        name##_body arguments;                         \
    }
#endif
