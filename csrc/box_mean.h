// The conditional mean of one plane, row by row (method: section 3).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simd.h"

namespace aosa {

// Running sums over the (2r+1)^2 window, centre excluded, normalised by the number of neighbours inside the frame.
// Sums are in double: a constant plane gives its own value. A frame of one pixel has no
// neighbours; its mean is then the pixel itself.
class BoxMean {
   public:
    BoxMean(int64_t height, int64_t width, int64_t radius)
        : height_(height),
          width_(width),
          radius_(radius),
          columns_(width + 2 * radius),
          even_(width + 2 * radius),
          odd_(width + 2 * radius),
          sum_(width),
          count_(width),
          inverse_(width) {}

    // Call before the first row of a plane.
    AOSA_INLINE void start(const float* plane) {
        std::fill(columns_.begin(), columns_.end(), 0.0);
        for (int64_t y = 0; y < std::min(radius_, height_); ++y) update(plane + y * width_, nullptr);
    }

    // Writes the mean of row y; rows must come in order.
    AOSA_INLINE void row(const float* plane, int64_t y, float* __restrict mean) {
        update(y + radius_ < height_ ? plane + (y + radius_) * width_ : nullptr,
               y - radius_ - 1 >= 0 ? plane + (y - radius_ - 1) * width_ : nullptr);
        count_neighbours(y);
        const float* __restrict centre = plane + y * width_;
        const double* __restrict even = even_window();
        const double* __restrict last = columns_.data() + 2 * radius_;
        const double* __restrict count = count_.data();
        const double* __restrict inverse = inverse_.data();
        for (int64_t x = 0; x < width_; ++x) {
            const double value = static_cast<double>(centre[x]);
            mean[x] = static_cast<float>(value + (even[x] + last[x] - value * count[x]) * inverse[x]);
        }
    }

   private:
    // count: pixels of the window inside the frame; inverse: 1 / (count - 1), or 0 where there is no neighbour.
    AOSA_INLINE void count_neighbours(int64_t y) {
        const int64_t rows = std::min(y + radius_, height_ - 1) - std::max<int64_t>(y - radius_, 0) + 1;
        if (rows == rows_counted_) return;
        rows_counted_ = rows;
        for (int64_t x = 0; x < width_; ++x) {
            const int64_t columns = std::min(x + radius_, width_ - 1) - std::max<int64_t>(x - radius_, 0) + 1;
            count_[x] = static_cast<double>(rows * columns);
            inverse_[x] = rows * columns > 1 ? 1.0 / static_cast<double>(rows * columns - 1) : 0.0;
        }
    }

    // Column sums of the window's rows: one row comes in, one goes out.
    AOSA_INLINE void update(const float* __restrict in, const float* __restrict out) {
        double* __restrict columns = columns_.data() + radius_;
        if (in && out)
            for (int64_t x = 0; x < width_; ++x) columns[x] += static_cast<double>(in[x]) - static_cast<double>(out[x]);
        else if (in)
            for (int64_t x = 0; x < width_; ++x) columns[x] += static_cast<double>(in[x]);
        else if (out)
            for (int64_t x = 0; x < width_; ++x) columns[x] -= static_cast<double>(out[x]);
    }

    // Sums of 2r neighbouring columns, columns[x .. x + 2r - 1]: windows of 2, 4, 8, ... by doubling, added where the
    // binary digits of 2r ask for them. Every step is a loop with independent lanes.
    AOSA_INLINE const double* even_window() {
        const int64_t window = 2 * radius_, padded = width_ + window;
        double* sum = sum_.data();
        if (window == 0) std::fill(sum_.begin(), sum_.end(), 0.0);
        const double* level = columns_.data();
        int64_t offset = 0;
        for (int64_t size = 2; size <= window; size *= 2) {
            double* next = level == even_.data() ? odd_.data() : even_.data();
            double_window(level, level + size / 2, next, padded - size + 1);
            level = next;
            if (!(window & size)) continue;
            if (window == size) return level;
            add_window(level + offset, sum, offset == 0);
            offset += size;
        }
        return sum;
    }

    AOSA_INLINE static void double_window(const double* __restrict a, const double* __restrict b,
                                          double* __restrict next, int64_t size) {
        for (int64_t x = 0; x < size; ++x) next[x] = a[x] + b[x];
    }

    AOSA_INLINE void add_window(const double* __restrict level, double* __restrict sum, bool first) {
        for (int64_t x = 0; x < width_; ++x) sum[x] = first ? level[x] : sum[x] + level[x];
    }

    int64_t height_, width_, radius_;
    int64_t rows_counted_ = -1;
    std::vector<double> columns_, even_, odd_, sum_, count_, inverse_;
};

}  // namespace aosa
