// The occluded batch of exact AOSA, written straight into the model's input (method: section 4).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "rectangles.h"
#include "simd.h"

namespace aosa {

void occlude(const char* video, const char* fill, const TubeRows& rows, char* out, ByteClip clip, int threads) {
    const int64_t planes = clip.planes, T = clip.T, pixel = clip.pixel;
    const int64_t row = clip.W * pixel, plane = clip.H * row, size = planes * plane;
    parallel_for(rows.n * planes, threads, rows.n * size / 8, [&](int64_t begin, int64_t end) {
        for (int64_t ip = begin; ip < end; ++ip) {
            const int64_t i = ip / planes, p = ip % planes, t = p % T, b = rows.clips[i];
            const char* source = fill + (b * planes + p) * plane;
            char* target = out + ip * plane;
            std::memcpy(target, video + (b * planes + p) * plane, plane);
            const int32_t* tube = rows.members + i * rows.K1;
            for (int64_t k = 0; k < rows.K1; ++k) {
                if (tube[k] < 0) continue;
                const int32_t* box = rows.boxes + ((b * rows.N + tube[k]) * T + t) * 4;
                for (int64_t y = box[1]; y < box[3] && box[0] < box[2]; ++y)
                    std::memcpy(target + y * row + box[0] * pixel, source + y * row + box[0] * pixel,
                                (box[2] - box[0]) * pixel);
            }
        }
    });
}

namespace {

struct SampledTask {
    const float *video, *mean, *noise;
    TubeRows rows;
    float* out;
    ClipShape shape;
    int64_t radius;
};

// One row of one piece: mean + sum over shifts d of noise_d (x(q + d) - mean) / sqrt(neighbours - 1).
AOSA_INLINE void sampled_row(const float* x, const float* mean, const float* noise, float* out, int64_t H, int64_t W,
                             int64_t radius, int64_t y, int64_t x0, int64_t x1, double* sum, double* weight,
                             double* count) {
    const int64_t width = x1 - x0, side = 2 * radius + 1;
    for (int64_t i = 0; i < width; ++i) sum[i] = weight[i] = count[i] = 0.0;
    for (int64_t dy = std::max(-radius, -y); dy <= std::min(radius, H - 1 - y); ++dy) {
        for (int64_t dx = -radius; dx <= radius; ++dx) {
            if (dy == 0 && dx == 0) continue;
            const double coefficient = static_cast<double>(noise[(dy + radius) * side + dx + radius]);
            const float* row = x + (y + dy) * W + dx;
            for (int64_t i = std::max(x0, -dx); i < std::min(x1, W - dx); ++i) {
                sum[i - x0] += coefficient * static_cast<double>(row[i]);
                weight[i - x0] += coefficient;
                count[i - x0] += 1.0;
            }
        }
    }
    for (int64_t i = 0; i < width; ++i) {
        const double mu = static_cast<double>(mean[y * W + x0 + i]);
        const double spread = count[i] > 1.0 ? (sum[i] - mu * weight[i]) / std::sqrt(count[i] - 1.0) : 0.0;
        out[y * W + x0 + i] = static_cast<float>(mu + spread);
    }
}

AOSA_INLINE void sampled_clips_body(const SampledTask& task, int64_t begin, int64_t end) {
    const int64_t C = task.shape.C, T = task.shape.T, H = task.shape.H, W = task.shape.W;
    const auto [boxes, members, clips, N, n, K1] = task.rows;
    const int64_t plane = H * W, size = C * T * plane, side = 2 * task.radius + 1;
    std::vector<double> scratch(3 * W);
    DisjointUnion pieces(K1);
    for (int64_t i = begin; i < end; ++i) {
        const float *video = task.video + clips[i] * size, *mean = task.mean + clips[i] * size;
        float* out = task.out + i * size;
        std::memcpy(out, video, size * sizeof(float));
        for (int64_t t = 0; t < T; ++t) {
            const float* noise = task.noise + (i * T + t) * side * side;
            pieces.frame(boxes + clips[i] * N * T * 4, N, T, t);
            pieces(members + i * K1, K1, [&](const Box& box) {
                for (int64_t c = 0; c < C; ++c) {
                    const int64_t offset = (c * T + t) * plane;
                    for (int64_t y = box.y0; y < box.y1; ++y)
                        sampled_row(video + offset, mean + offset, noise, out + offset, H, W, task.radius, y, box.x0,
                                    box.x1, scratch.data(), scratch.data() + W, scratch.data() + 2 * W);
                }
            });
        }
    }
}
AOSA_MULTIVERSION(sampled_clips, (const SampledTask& task, int64_t begin, int64_t end), (task, begin, end))

}  // namespace

void occlude_sampled(const float* video, const float* mean, const TubeRows& rows, const float* noise, float* out,
                     ClipShape shape, int64_t radius, int threads) {
    const SampledTask task{video, mean, noise, rows, out, shape, radius};
    parallel_for(rows.n, threads, rows.n * shape.C * shape.T * shape.H * shape.W,
                 [&](int64_t begin, int64_t end) { sampled_clips(task, begin, end); });
}

}  // namespace aosa
