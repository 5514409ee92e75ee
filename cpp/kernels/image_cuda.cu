// SPDX-License-Identifier: Apache-2.0
#include "kernels/image_cuda.h"
#include "kernels/image_element.h"

namespace zerolane::kernels {
namespace {

constexpr unsigned kColumns = 32;
constexpr unsigned kRows = 8;
constexpr int64_t kMostDepth = 65535;  // of a grid

// One thread a pixel of the output, all of its channels.
template <class Element>
__global__ void image_pixels(const ImageToPlanes what, const uint8_t* __restrict__ images,
                             int64_t batch, Element* __restrict__ planes) {
  const auto x = static_cast<int32_t>(blockIdx.x * kColumns + threadIdx.x);
  const auto y = static_cast<int32_t>(blockIdx.y * kRows + threadIdx.y);
  if (x >= what.out_width || y >= what.out_height) return;
  const int64_t plane = static_cast<int64_t>(what.out_height) * what.out_width;
  const int64_t image = static_cast<int64_t>(what.in_height) * what.in_width * what.channels;
  const int64_t at = static_cast<int64_t>(y) * what.out_width + x;
  for (int64_t n = blockIdx.z; n < batch; n += gridDim.z) {
    float values[kMostChannels];
    image_element(what, images + n * image, y, x, values);
#pragma unroll
    for (int32_t c = 0; c < kMostChannels; ++c) {
      if (c < what.channels) {
        planes[(n * what.channels + what.plane[c]) * plane + at] = static_cast<Element>(values[c]);
      }
    }
  }
}

struct FillTransform {
  float scale;
  float pad_x;
  float pad_y;
  float* transforms;

  ZL_HOST_DEVICE void operator()(int64_t i) const {
    transforms[3 * i] = scale;
    transforms[3 * i + 1] = pad_x;
    transforms[3 * i + 2] = pad_y;
  }
};

template <class Element>
int launch(const ImageToPlanes& what, const uint8_t* images, int64_t batch, Element* planes,
           void* stream) {
  if (batch <= 0) return 0;
  const dim3 grid((static_cast<unsigned>(what.out_width) + kColumns - 1) / kColumns,
                  (static_cast<unsigned>(what.out_height) + kRows - 1) / kRows,
                  static_cast<unsigned>(batch < kMostDepth ? batch : kMostDepth));
  image_pixels<<<grid, dim3(kColumns, kRows), 0, static_cast<cudaStream_t>(stream)>>>(
      what, images, batch, planes);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int launch_image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                           float* planes, void* stream) noexcept {
  return launch(what, images, batch, planes, stream);
}

int launch_image_to_planes(const ImageToPlanes& what, const uint8_t* images, int64_t batch,
                           Half* planes, void* stream) noexcept {
  return launch(what, images, batch, planes, stream);
}

int launch_transforms(float scale, float pad_x, float pad_y, int64_t batch, float* transforms,
                      void* stream) noexcept {
  return for_each_on(stream, batch, FillTransform{scale, pad_x, pad_y, transforms});
}

}  // namespace zerolane::kernels
