// The operators on plain memory. Shapes use the letters of the Python side: B clips, C channels, T frames, H x W
// pixels, N tubes, K1 = K + 1 members. All arrays are C-contiguous; all checks are made by the caller.
#pragma once

#include <cstdint>
#include <vector>

namespace aosa {

enum class Relu { element = 0, channel = 1, none = 2, eq8_literal = 3 };

struct ClipShape {
    int64_t B, C, T, H, W;
};

struct TubeShape {
    int64_t B, N, K1, T, H, W;
};

// video (clips, 3, voxels): (x / 255 - mean) / std of frames (clips, voxels, 3); mean and std (3,).
void normalize_frames(const uint8_t* frames, const float* mean, const float* std, float* video, int64_t clips,
                      int64_t voxels, int threads);

// grey (pixels,): OpenCV's luma of frames (pixels, 3).
void grey_frames(const uint8_t* frames, uint8_t* grey, int64_t pixels, int threads);

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

// overlaps (B, N, N): the sum over cells of weights (B, T, H, W) times the shares of the cell that tubes i and j cover.
// Of the shape H and W are cells, of side `cell`; the frame is cell H x cell W pixels.
void tube_overlaps(const float* weights, const int32_t* boxes, const int32_t* members, float* overlaps, TubeShape shape,
                   int64_t cell, int threads);

// The rows of an occluded batch: row i is clip clips[i] (n,), without the union of members[i] (n, K1) of that clip's
// boxes (B, N, T, 4).
struct TubeRows {
    const int32_t *boxes, *members, *clips;
    int64_t N, n, K1;
};

// Clips as bytes: `planes` planes of H rows of W pixels of `pixel` bytes; plane p shows frame p % T. Serves every
// dtype, contiguous (planes = C*T) and channels-last (planes = T, pixel = C * itemsize) alike.
struct ByteClip {
    int64_t planes, T, H, W, pixel;
};
void occlude(const char* video, const char* fill, const TubeRows& rows, char* out, ByteClip clip, int threads);

// out (n, C, T, H, W): clips of video (B, C, T, H, W), with a conditional draw inside each tube. mean: the conditional
// mean of video; noise (n, T, 2r+1, 2r+1): standard normal coefficients of the shifted patches (the centre's is not
// used).
void occlude_sampled(const float* video, const float* mean, const TubeRows& rows, const float* noise, float* out,
                     ClipShape shape, int64_t radius, int threads);

// One axis of a separable filter: out[i] is the sum over k of weight[k][i] * in[index[k][i]].
struct AxisTable {
    const int32_t* index;  // (taps, size)
    const float* weight;   // (taps, size)
    int64_t taps, size;
};

// From the frame's rows and columns to a level of the pyramid, and to its first flow from that of the coarser level.
struct PyramidLevel {
    AxisTable rows, columns, flow_rows, flow_columns;
};

struct FarnebackOptions {
    const float* weights;  // (3, 2 poly_n + 1): g, x g, x^2 g
    const float* inverse;  // (4,): see expansion_weights in kernels/pyramid.py
    int64_t poly_n, winsize, iterations;
};

// flow (B, T-1, H, W, 2): from each of the frames (B, T, H, W) to the next; C is 1. levels: coarsest first.
void farneback(const uint8_t* frames, float* flow, ClipShape shape, const std::vector<PyramidLevel>& levels,
               const FarnebackOptions& options, int threads);

}  // namespace aosa
