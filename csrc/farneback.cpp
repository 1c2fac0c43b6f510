// Farneback's optical flow of all frame pairs; the stages and names are those of kernels/farneback_reference.py.
#include <algorithm>
#include <utility>
#include <vector>

#include "farneback_equations.h"
#include "farneback_expansion.h"
#include "operators.h"
#include "parallel.h"
#include "simd.h"

namespace aosa {

namespace {

struct FlowTask {
    const uint8_t* frames;
    float* flow;
    ClipShape shape;
    const std::vector<PyramidLevel>& levels;
    const FarnebackOptions& options;
};

// The work of one thread: the expansions of two frames, and the flow from the first to the second.
class PairFlow {
   public:
    explicit PairFlow(const FlowTask& task)
        : task_(task),
          radius_(task.options.winsize / 2),
          row_(kCoefficients * (task.shape.W + 2 * radius_)),
          resampler_(task.shape.W),
          expansion_(task.shape.W, task.options),
          window_(row_, 2 * radius_ + 1),
          image_(task.shape.H * task.shape.W),
          dx_(image_.size()),
          dy_(image_.size()),
          coarse_(image_.size()),
          M_(task.shape.H * row_),
          M_row_(row_ + 2 * radius_),
          columns_(row_),
          offsets_(task.shape.W),
          ax_(task.shape.W),
          ay_(task.shape.W),
          inside_(task.shape.W),
          trust_(task.shape.W),
          record_(task.shape.W * kRecord) {
        for (auto* frame : {&first_, &second_})
            for (const PyramidLevel& level : task.levels)
                // One row and one pixel more: a point that left the image looks up what does not count.
                frame->emplace_back(((level.rows.size + 1) * level.columns.size + 1) * kRecord);
    }

    AOSA_INLINE void expand_next(const uint8_t* frame) {
        std::swap(first_, second_);
        for (size_t i = 0; i < task_.levels.size(); ++i) {
            const PyramidLevel& level = task_.levels[i];
            resampler_.run(frame, task_.shape.W, level.rows, level.columns, image_.data());
            expansion_.run(image_.data(), level.rows.size, level.columns.size, second_[i].data());
        }
    }

    AOSA_INLINE void run(float* flow) {
        int64_t coarser = 0;
        for (size_t i = 0; i < task_.levels.size(); ++i) {
            const PyramidLevel& level = task_.levels[i];
            const int64_t height = level.rows.size, width = level.columns.size;
            for (auto* plane : {&dx_, &dy_}) {
                std::swap(*plane, coarse_);
                resampler_.run(coarse_.data(), coarser, level.flow_rows, level.flow_columns, plane->data());
            }
            coarser = width;
            for (int64_t x = 0; x < width; ++x) trust_[x] = border_trust(x, width);
            for (int64_t k = 0; k < task_.options.iterations; ++k) {
                for (int64_t y = 0; y < height; ++y) matrices(first_[i].data(), second_[i].data(), y, height, width);
                update(height, width);
            }
        }
        interleave(dx_.data(), dy_.data(), flow, task_.shape.H * task_.shape.W);
    }

   private:
    // Row y of M: the sums of 2 radius + 1 neighbours in each of the 5 planes, border pixels continued.
    AOSA_INLINE void matrices(const float* first, const float* second, int64_t y, int64_t height, int64_t width) {
        const float *dx = dx_.data() + y * width, *dy = dy_.data() + y * width;
        locate(dx, dy, offsets_.data(), ax_.data(), ay_.data(), inside_.data(), static_cast<float>(y), height, width);
        look_up(first + y * width * kRecord, second, offsets_.data(), ax_.data(), ay_.data(), inside_.data(),
                record_.data(), width);
        const int64_t plane = width + 2 * radius_, row = kCoefficients * plane;
        float* M = M_row_.data() + radius_;
        fit(record_.data(), dx, dy, inside_.data(), trust_.data(), border_trust(y, height), M, M + plane, M + 2 * plane,
            M + 3 * plane, M + 4 * plane, width);
        for (int64_t i = 0; i < kCoefficients; ++i, M += plane) {
            std::fill(M - radius_, M, M[0]);
            std::fill(M + width, M + width + radius_, M[width - 1]);
        }
        window_.run(M_row_.data(), M_.data() + y * row, row - 2 * radius_);
    }

    // The flow that solves the equations of every window. Sums of rows run from window to window, in double: so they do
    // not drift, and the determinant, most of which cancels where there is only an edge, loses nothing more.
    AOSA_INLINE void update(int64_t height, int64_t width) {
        const int64_t plane = width + 2 * radius_, row = kCoefficients * plane;
        const double scale = 1.0 / static_cast<double>(task_.options.winsize * task_.options.winsize);
        const float* M = M_.data();
        std::fill(columns_.begin(), columns_.end(), 0.0);
        for (int64_t y = -radius_; y < radius_; ++y)
            move(columns_.data(), M + std::clamp<int64_t>(y, 0, height - 1) * row, nullptr, row);
        for (int64_t y = 0; y < height; ++y) {
            move(columns_.data(), M + std::min(y + radius_, height - 1) * row,
                 y > 0 ? M + std::max<int64_t>(y - radius_ - 1, 0) * row : nullptr, row);
            solve(columns_.data(), dx_.data() + y * width, dy_.data() + y * width, plane, width, scale);
        }
    }

    const FlowTask& task_;
    int64_t radius_, row_;
    Resampler resampler_;
    Expansion expansion_;
    WindowSum window_;
    std::vector<std::vector<float>> first_, second_;  // expansions by level
    std::vector<float> image_, dx_, dy_, coarse_;
    std::vector<float> M_, M_row_;  // rows of 5 planes, G11, G12, G22, h1, h2, each with radius_ pixels at both ends
    std::vector<double> columns_;   // sums of rows of M_
    std::vector<int32_t> offsets_;
    std::vector<float> ax_, ay_, inside_, trust_, record_;
};

AOSA_INLINE void flow_pairs_body(const FlowTask& task, int64_t begin, int64_t end) {
    const int64_t steps = task.shape.T - 1, plane = task.shape.H * task.shape.W;
    PairFlow pair(task);
    for (int64_t p = begin; p < end; ++p) {
        const uint8_t* frame = task.frames + (p / steps * task.shape.T + p % steps) * plane;
        if (p == begin || p % steps == 0) pair.expand_next(frame);
        pair.expand_next(frame + plane);
        pair.run(task.flow + p * plane * 2);
    }
}
AOSA_MULTIVERSION(flow_pairs, (const FlowTask& task, int64_t begin, int64_t end), (task, begin, end))

}  // namespace

void farneback(const uint8_t* frames, float* flow, ClipShape shape, const std::vector<PyramidLevel>& levels,
               const FarnebackOptions& options, int threads) {
    const FlowTask task{frames, flow, shape, levels, options};
    const int64_t pairs = shape.B * (shape.T - 1), steps_per_pixel = 10 * (options.iterations + 1);
    parallel_for(pairs, threads, pairs * shape.H * shape.W * steps_per_pixel,
                 [&](int64_t begin, int64_t end) { flow_pairs(task, begin, end); });
}

}  // namespace aosa
