// The equations of one row of pixels and their solution, for farneback.cpp: loops with independent lanes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "farneback_expansion.h"
#include "simd.h"

namespace aosa {

inline constexpr float kBorder[] = {0.14f, 0.14f, 0.4472f, 0.4472f, 0.4472f};
inline constexpr int64_t kBorderSize = 5;
inline constexpr double kRegulariser = 1e-3;

inline float border_trust(int64_t i, int64_t size) {
    const int64_t last = size - 1 - i;
    return (i < kBorderSize ? kBorder[i] : 1.0f) * (last < kBorderSize ? kBorder[last] : 1.0f);
}

// Sums of `window` (odd) neighbours, out[i] = in[i] + ... + in[i + window - 1] for i < size: windows of 2, 4, 8, ... by
// doubling, added where the binary digits of `window` ask for them. Every step is a loop with independent lanes.
class WindowSum {
   public:
    WindowSum(int64_t size, int64_t window) : window_(window), even_(size + window), odd_(size + window) {}

    AOSA_INLINE void run(const float* in, float* out, int64_t size) {
        std::copy(in, in + size, out);
        const float* level = in;
        for (int64_t step = 2, offset = 1; step <= window_; step *= 2) {
            float* next = level == even_.data() ? odd_.data() : even_.data();
            add(level, level + step / 2, next, size + window_ - step);
            level = next;
            if (!(window_ & step)) continue;
            accumulate(out, level + offset, size);
            offset += step;
        }
    }

   private:
    AOSA_INLINE static void add(const float* __restrict a, const float* __restrict b, float* __restrict sum,
                                int64_t size) {
        for (int64_t i = 0; i < size; ++i) sum[i] = a[i] + b[i];
    }

    AOSA_INLINE static void accumulate(float* __restrict sum, const float* __restrict a, int64_t size) {
        for (int64_t i = 0; i < size; ++i) sum[i] += a[i];
    }

    int64_t window_;
    std::vector<float> even_, odd_;
};

// Where the flow leads: the pixel above and left of it, the part of a pixel from there, and whether it is inside.
AOSA_INLINE void locate(const float* __restrict dx, const float* __restrict dy, int32_t* __restrict offsets,
                        float* __restrict ax, float* __restrict ay, float* __restrict inside, float y, int64_t height,
                        int64_t width) {
    const float last_x = static_cast<float>(width - 1), last_y = static_cast<float>(height - 1);
    const int32_t stride = static_cast<int32_t>(width);
    for (int32_t x = 0; x < stride; ++x) {
        const float px = static_cast<float>(x) + dx[x], py = y + dy[x];
        // In this order NaN becomes 0, too: whatever the flow is, the look-up stays inside of its memory.
        const float here_x = std::min(std::max(0.0f, px), last_x), here_y = std::min(std::max(0.0f, py), last_y);
        const int32_t x0 = static_cast<int32_t>(here_x), y0 = static_cast<int32_t>(here_y);
        offsets[x] = y0 * stride + x0;
        ax[x] = here_x - static_cast<float>(x0);
        ay[x] = here_y - static_cast<float>(y0);
        // A product of choices, not `&&`: a loop with branches would not be vectorised.
        inside[x] = (px >= 0.0f ? 1.0f : 0.0f) * (px < last_x ? 1.0f : 0.0f) * (py >= 0.0f ? 1.0f : 0.0f) *
                    (py < last_y ? 1.0f : 0.0f);
    }
}

// record: the difference of the linear coefficients, and the sum of the quadratic ones.
AOSA_INLINE void look_up(const float* __restrict first, const float* __restrict second,
                         const int32_t* __restrict offsets, const float* __restrict ax, const float* __restrict ay,
                         const float* __restrict inside, float* __restrict record, int64_t width) {
    static constexpr float kSign[kRecord] = {-1.0f, -1.0f, 1.0f, 1.0f, 1.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t x = 0; x < width; ++x, first += kRecord, record += kRecord) {
        const float* __restrict top = second + offsets[x] * kRecord;
        const float* __restrict bottom = top + width * kRecord;
        const float right = ax[x] * inside[x], left = inside[x] - right, low = ay[x], high = 1.0f - low;
        const float w0 = left * high, w1 = right * high, w2 = left * low, w3 = right * low;
#ifdef __GNUC__
#pragma GCC unroll 1  // unrolled before it is vectorised, it would not be vectorised
#endif
        for (int64_t i = 0; i < kRecord; ++i)
            record[i] = first[i] + kSign[i] * ((w0 * top[i] + w1 * top[kRecord + i]) +
                                               (w2 * bottom[i] + w3 * bottom[kRecord + i]));
    }
}

AOSA_INLINE void fit(const float* __restrict record, const float* __restrict dx, const float* __restrict dy,
                     const float* __restrict inside, const float* __restrict trust, float row_trust,
                     float* __restrict G11, float* __restrict G12, float* __restrict G22, float* __restrict h1,
                     float* __restrict h2, int64_t width) {
    for (int64_t x = 0; x < width; ++x) {
        const float scale = trust[x] * row_trust, flat = 0.5f * scale, curved = scale - flat * inside[x];
        const float yy = record[x * kRecord + 2] * curved, xx = record[x * kRecord + 3] * curved,
                    xy = record[x * kRecord + 4] * curved * 0.5f;
        const float by = record[x * kRecord] * flat + (yy * dy[x] + xy * dx[x]),
                    bx = record[x * kRecord + 1] * flat + (xy * dy[x] + xx * dx[x]);
        G11[x] = yy * yy + xy * xy;
        G12[x] = (yy + xx) * xy;
        G22[x] = xx * xx + xy * xy;
        h1[x] = yy * by + xy * bx;
        h2[x] = xy * by + xx * bx;
    }
}

// Sums of rows, to the next row of windows: one row comes in, one goes out.
AOSA_INLINE void move(double* __restrict columns, const float* __restrict in, const float* __restrict out,
                      int64_t row) {
    if (out)
        for (int64_t i = 0; i < row; ++i) columns[i] += static_cast<double>(in[i]) - static_cast<double>(out[i]);
    else
        for (int64_t i = 0; i < row; ++i) columns[i] += static_cast<double>(in[i]);
}

AOSA_INLINE void solve(const double* __restrict sums, float* __restrict dx, float* __restrict dy, int64_t plane,
                       int64_t width, double scale) {
    for (int64_t x = 0; x < width; ++x) {
        const double G11 = sums[x] * scale, G12 = sums[plane + x] * scale, G22 = sums[2 * plane + x] * scale,
                     h1 = sums[3 * plane + x] * scale, h2 = sums[4 * plane + x] * scale;
        const double inverse = 1.0 / (G11 * G22 - G12 * G12 + kRegulariser);
        dx[x] = static_cast<float>((G11 * h2 - G12 * h1) * inverse);
        dy[x] = static_cast<float>((G22 * h1 - G12 * h2) * inverse);
    }
}

AOSA_INLINE void interleave(const float* __restrict dx, const float* __restrict dy, float* __restrict flow,
                            int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
        flow[2 * i] = dx[i];
        flow[2 * i + 1] = dy[i];
    }
}

}  // namespace aosa
