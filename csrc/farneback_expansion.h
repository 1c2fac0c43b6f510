// The pyramid and the polynomial expansion of one frame, for farneback.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "operators.h"
#include "simd.h"

namespace aosa {

// An expansion has 5 coefficients a pixel, those of y, x, y^2, x^2 and xy. They are kept in records of 8 floats, so
// that a look-up between pixels is four loads of one vector each, and not twenty gathers.
constexpr int64_t kCoefficients = 5, kRecord = 8;

// out[i] = sum over the taps of weight * in[index], along rows, then along columns. in: rows of in_width values.
class Resampler {
   public:
    explicit Resampler(int64_t in_width) : row_(in_width) {}

    template <class Value>
    AOSA_INLINE void run(const Value* in, int64_t in_width, const AxisTable& rows, const AxisTable& columns,
                         float* out) {
        for (int64_t y = 0; y < rows.size; ++y) {
            float* row = row_.data();
            std::fill(row, row + in_width, 0.0f);
            for (int64_t k = 0; k < rows.taps; ++k)
                add_row(row, in + rows.index[k * rows.size + y] * in_width, rows.weight[k * rows.size + y], in_width);
            float* target = out + y * columns.size;
            std::fill(target, target + columns.size, 0.0f);
            for (int64_t k = 0; k < columns.taps; ++k)
                add_tap(target, row, columns.index + k * columns.size, columns.weight + k * columns.size, columns.size);
        }
    }

   private:
    template <class Value>
    AOSA_INLINE static void add_row(float* __restrict out, const Value* __restrict in, float weight, int64_t size) {
        for (int64_t i = 0; i < size; ++i) out[i] += weight * static_cast<float>(in[i]);
    }

    AOSA_INLINE static void add_tap(float* __restrict out, const float* __restrict in, const int32_t* __restrict index,
                                    const float* __restrict weight, int64_t size) {
        for (int64_t i = 0; i < size; ++i) out[i] += weight[i] * in[index[i]];
    }

    std::vector<float> row_;
};

// Fits a quadratic polynomial around every pixel: Gaussian-weighted moments, separable, and their fixed combination.
class Expansion {
   public:
    Expansion(int64_t width, const FarnebackOptions& options)
        : n_(options.poly_n),
          padded_(width + 2 * options.poly_n),
          g_(options.weights + n_),
          xg_(g_ + 2 * n_ + 1),
          xxg_(xg_ + 2 * n_ + 1),
          inverse_(options.inverse),
          vertical_(3 * padded_),
          moments_(6 * width) {}

    // records: (height, width, kRecord).
    AOSA_INLINE void run(const float* image, int64_t height, int64_t width, float* records) {
        for (int64_t y = 0; y < height; ++y) {
            add_rows(image, y, height, width);
            add_columns(width);
            combine(width, records + y * width * kRecord);
        }
    }

   private:
    // Adds the moments up to `order` of the taps k to both sides: g, x g and x^2 g.
    template <int order>
    AOSA_INLINE void add(const float* before, const float* after, int64_t k, float* moment, float* first, float* second,
                         int64_t size) const {
        add_taps<order>(before, after, g_[k], xg_[k], xxg_[k], moment, first, second, size);
    }

    template <int order>
    AOSA_INLINE static void add_taps(const float* __restrict before, const float* __restrict after, float g, float xg,
                                     float xxg, float* __restrict moment, float* __restrict first,
                                     float* __restrict second, int64_t size) {
        for (int64_t i = 0; i < size; ++i) {
            const float sum = after[i] + before[i];
            moment[i] += g * sum;
            if constexpr (order >= 1) first[i] += xg * (after[i] - before[i]);
            if constexpr (order >= 2) second[i] += xxg * sum;
        }
    }

    // The tap at the centre, where x is 0.
    AOSA_INLINE void start(const float* __restrict centre, float* __restrict moment, int64_t size) const {
        const float g = g_[0];
        for (int64_t i = 0; i < size; ++i) moment[i] = g * centre[i];
    }

    // Moments of 1, y and y^2 along the columns of row y.
    AOSA_INLINE void add_rows(const float* image, int64_t y, int64_t height, int64_t width) {
        float *one = vertical_.data() + n_, *first = one + padded_, *second = first + padded_;
        start(image + y * width, one, width);
        for (float* moment : {first, second}) std::fill(moment, moment + width, 0.0f);
        for (int64_t k = 1; k <= n_; ++k)
            add<2>(image + std::max<int64_t>(y - k, 0) * width, image + std::min(y + k, height - 1) * width, k, one,
                   first, second, width);
        for (float* row : {one, first, second}) {
            std::fill(row - n_, row, row[0]);
            std::fill(row + width, row + width + n_, row[width - 1]);
        }
    }

    // Moments of 1, y, x, y^2, x^2 and xy, from those of the columns.
    AOSA_INLINE void add_columns(int64_t width) {
        const float *rows = vertical_.data() + n_, *rows_y = rows + padded_, *rows_yy = rows_y + padded_;
        float *one = moments_.data(), *y = one + width, *x = y + width, *yy = x + width, *xx = yy + width,
              *xy = xx + width;
        start(rows, one, width);
        start(rows_y, y, width);
        start(rows_yy, yy, width);
        for (float* moment : {x, xx, xy}) std::fill(moment, moment + width, 0.0f);
        for (int64_t k = 1; k <= n_; ++k) {
            add<2>(rows - k, rows + k, k, one, x, xx, width);
            add<1>(rows_y - k, rows_y + k, k, y, xy, nullptr, width);
            add<0>(rows_yy - k, rows_yy + k, k, yy, nullptr, nullptr, width);
        }
    }

    AOSA_INLINE void combine(int64_t width, float* __restrict record) {
        const float *one = moments_.data(), *y = one + width, *x = y + width, *yy = x + width, *xx = yy + width,
                    *xy = xx + width;
        const float linear = inverse_[0], constant = inverse_[1], square = inverse_[2], mixed = inverse_[3];
        for (int64_t i = 0; i < width; ++i, record += kRecord) {
            record[0] = linear * y[i];
            record[1] = linear * x[i];
            record[2] = constant * one[i] + square * yy[i];
            record[3] = constant * one[i] + square * xx[i];
            record[4] = mixed * xy[i];
            record[5] = record[6] = record[7] = 0.0f;
        }
    }

    int64_t n_, padded_;
    const float *g_, *xg_, *xxg_, *inverse_;
    std::vector<float> vertical_;  // moments of 1, y and y^2 along the column, n_ more at both ends
    std::vector<float> moments_;   // of 1, y, x, y^2, x^2 and xy
};

}  // namespace aosa
