// The relevance field e and the conditional mean (method: III-D, Eq. 7 and 8; section 7.1).
#include <algorithm>
#include <vector>

#include "box_mean.h"
#include "operators.h"
#include "parallel.h"
#include "simd.h"

namespace aosa {

namespace {

// Adds one channel's row: -J (mu - x), with the ReLU of `relu`, to the field.
AOSA_INLINE void add_row(const float* x, const float* grad, const float* mean, float* field, int64_t width, Relu relu) {
    switch (relu) {
        case Relu::element:
            for (int64_t i = 0; i < width; ++i) field[i] += std::max(grad[i] * (x[i] - mean[i]), 0.0f);
            break;
        case Relu::eq8_literal:  // -ReLU(J (mu - x)): keeps what raises the score, as Eq. 8 is printed
            for (int64_t i = 0; i < width; ++i) field[i] += std::min(grad[i] * (x[i] - mean[i]), 0.0f);
            break;
        default:
            for (int64_t i = 0; i < width; ++i) field[i] += grad[i] * (x[i] - mean[i]);
    }
}

struct FieldTask {
    const float *video, *grad, *fill;
    bool fill_per_channel;
    float* field;
    ClipShape shape;
    int64_t radius;
    Relu relu;
};

AOSA_INLINE void field_frames_body(const FieldTask& task, int64_t begin, int64_t end) {
    const auto [B, C, T, H, W] = task.shape;
    const int64_t plane = H * W;
    BoxMean box(H, W, task.radius);
    std::vector<float> mean(W);
    for (int64_t bt = begin; bt < end; ++bt) {
        const int64_t b = bt / T, t = bt % T;
        float* out = task.field + bt * plane;
        std::fill(out, out + plane, 0.0f);
        for (int64_t c = 0; c < C; ++c) {
            const int64_t offset = ((b * C + c) * T + t) * plane;
            const float* x = task.video + offset;
            const float* grad = task.grad + offset;
            if (!task.fill) box.start(x);
            if (task.fill_per_channel) std::fill(mean.begin(), mean.end(), task.fill[c]);
            for (int64_t y = 0; y < H; ++y) {
                const float* fill = mean.data();
                if (!task.fill)
                    box.row(x, y, mean.data());
                else if (!task.fill_per_channel)
                    fill = task.fill + offset + y * W;
                add_row(x + y * W, grad + y * W, fill, out + y * W, W, task.relu);
            }
        }
        if (task.relu == Relu::channel)
            for (int64_t i = 0; i < plane; ++i) out[i] = std::max(out[i], 0.0f);
    }
}
AOSA_MULTIVERSION(field_frames, (const FieldTask& task, int64_t begin, int64_t end), (task, begin, end))

AOSA_INLINE void mean_planes_body(const float* video, float* mean, int64_t H, int64_t W, int64_t radius, int64_t begin,
                                  int64_t end) {
    BoxMean box(H, W, radius);
    for (int64_t p = begin; p < end; ++p) {
        const float* plane = video + p * H * W;
        box.start(plane);
        for (int64_t y = 0; y < H; ++y) box.row(plane, y, mean + (p * H + y) * W);
    }
}
AOSA_MULTIVERSION(mean_planes,
                  (const float* video, float* mean, int64_t H, int64_t W, int64_t radius, int64_t begin, int64_t end),
                  (video, mean, H, W, radius, begin, end))

}  // namespace

void conditional_mean(const float* video, float* mean, ClipShape shape, int64_t radius, int threads) {
    radius = std::min(radius, std::max(shape.H, shape.W));  // farther neighbours are outside of every frame
    const int64_t planes = shape.B * shape.C * shape.T;
    parallel_for(planes, threads, planes * shape.H * shape.W,
                 [&](int64_t begin, int64_t end) { mean_planes(video, mean, shape.H, shape.W, radius, begin, end); });
}

void field(const float* video, const float* grad, const float* fill, bool fill_per_channel, float* field,
           ClipShape shape, int64_t radius, Relu relu, int threads) {
    radius = std::min(radius, std::max(shape.H, shape.W));
    const FieldTask task{video, grad, fill, fill_per_channel, field, shape, radius, relu};
    const int64_t frames = shape.B * shape.T;
    parallel_for(frames, threads, frames * shape.C * shape.H * shape.W,
                 [&](int64_t begin, int64_t end) { field_frames(task, begin, end); });
}

}  // namespace aosa
