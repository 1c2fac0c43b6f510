// Pictures as decoders give them: to a model's input, and to grey levels.
#include <algorithm>
#include <vector>

#include "operators.h"
#include "parallel.h"
#include "simd.h"

namespace aosa {

void normalize_frames(const uint8_t* frames, const float* mean, const float* deviation, float* video, int64_t clips,
                      int64_t voxels, int threads) {
    // There are 256 levels: each is divided once.
    std::vector<float> table(3 * 256);
    for (int64_t c = 0; c < 3; ++c)
        for (int64_t level = 0; level < 256; ++level)
            table[c * 256 + level] = (static_cast<float>(level) / 255.0f - mean[c]) / deviation[c];
    parallel_for(clips * voxels, threads, clips * voxels * 3, [&](int64_t begin, int64_t end) {
        while (begin < end) {
            const int64_t clip = begin / voxels, stop = std::min(end, (clip + 1) * voxels);
            float* out = video + clip * 2 * voxels;
            for (int64_t i = begin; i < stop; ++i)
                for (int64_t c = 0; c < 3; ++c) out[c * voxels + i] = table[c * 256 + frames[3 * i + c]];
            begin = stop;
        }
    });
}

namespace {

AOSA_INLINE void grey_pixels_body(const uint8_t* frames, uint8_t* grey, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
        const int32_t red = frames[3 * i], green = frames[3 * i + 1], blue = frames[3 * i + 2];
        grey[i] = static_cast<uint8_t>((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15);
    }
}
AOSA_MULTIVERSION(grey_pixels, (const uint8_t* frames, uint8_t* grey, int64_t begin, int64_t end),
                  (frames, grey, begin, end))

}  // namespace

void grey_frames(const uint8_t* frames, uint8_t* grey, int64_t pixels, int threads) {
    parallel_for(pixels, threads, pixels, [&](int64_t begin, int64_t end) { grey_pixels(frames, grey, begin, end); });
}

}  // namespace aosa
