// The operators on plain memory. Shapes use the letters of the Python side: B clips, C channels, T frames, H x W
// pixels, N tubes, K1 = K + 1 members. All arrays are C-contiguous; all checks are made by the caller.
#pragma once

#include <cstdint>

namespace aosa {

enum class Relu { element = 0, channel = 1, none = 2, eq8_literal = 3 };

struct ClipShape {
    int64_t B, C, T, H, W;
};

struct TubeShape {
    int64_t B, N, K1, T, H, W;
};

// mean (B, C, T, H, W): the conditional mean of video (B, C, T, H, W).
void conditional_mean(const float* video, float* mean, ClipShape shape, int64_t radius, int threads);

// field (B, T, H, W). fill: nullptr for the conditional mean; else (B, C, T, H, W), or (C,) when fill_per_channel.
void field(const float* video, const float* grad, const float* fill, bool fill_per_channel, float* field,
           ClipShape shape, int64_t radius, Relu relu, int threads);

// scores (B, N): the integral of field (B, T, H, W) over the union of each tube's boxes.
void tube_scores(const float* field, const int32_t* boxes, const int32_t* members, float* scores, TubeShape shape,
                 int threads);

// saliency (B, T, H, W): the sum of scores (B, N) over the tubes that cover a voxel; coverage: how many they are.
void saliency_map(const float* scores, const int32_t* boxes, const int32_t* members, float* saliency, int32_t* coverage,
                  TubeShape shape, int threads);

// One clip occluded by n tubes, as bytes: `planes` planes of H rows of W pixels of `pixel` bytes; plane p shows frame
// p % T. Serves every dtype, contiguous (planes = C*T) and channels-last (planes = T, pixel = C * itemsize) alike.
struct ByteClip {
    int64_t planes, T, H, W, pixel;
};
void occlude(const char* video, const char* fill, const int32_t* boxes, const int32_t* members, char* out,
             ByteClip clip, int64_t n, int64_t K1, int threads);

// out (n, S, C, T, H, W): video (C, T, H, W), with conditional draws inside each tube. mean: its conditional mean;
// noise (n, S, T, 2r+1, 2r+1): standard normal coefficients of the shifted patches (the centre's is not used).
void occlude_sampled(const float* video, const float* mean, const int32_t* boxes, const int32_t* members,
                     const float* noise, float* out, ClipShape clip, int64_t N, int64_t n, int64_t K1, int64_t S,
                     int64_t radius, int threads);

}  // namespace aosa
