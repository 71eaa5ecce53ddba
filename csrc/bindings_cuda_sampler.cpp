// The CUDA sampler: a decoder packed into a tensor on a GPU, and draws from it. Everything is put
// on the stream that the caller names, and nothing waits for the device; so only shapes, types and
// devices are checked here, not values.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "bindings.h"
#include "cuda/sampler.h"
#include "op_shapes.h"
#include "views.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

constexpr std::int64_t kMostUnits = 1 << 16;  // so that the kernel's indices fit
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

std::string named(const std::string& what) { return "cuda sampler: " + what; }

// A size of a tensor of this many dimensions, between 0 and the most that the kernel takes.
int size_of(const std::string& what, const py::handle& tensor, std::size_t dimensions,
            std::size_t which) {
  require_tensor(named(what), tensor);
  const Shape shape = shape_of(tensor);
  if (shape.size() != dimensions || shape[which] > kMostUnits) {
    throw py::value_error(named(what) + " has shape " + shape_text(shape) + "; it must have " +
                          std::to_string(dimensions) + " dimensions of at most " +
                          std::to_string(kMostUnits));
  }
  return static_cast<int>(shape[which]);
}

cuda::Cell cell_named(const std::string& op) {
  if (op == "lstm") return cuda::Cell::kLstm;
  if (op == "layer_norm_lstm") return cuda::Cell::kLayerNorm;
  return cuda::Cell::kHyper;
}

cuda::Storage storage_named(const std::string& name) {
  if (name == "float32") return cuda::Storage::kFloat32;
  if (name == "bfloat16") return cuda::Storage::kBFloat16;
  if (name == "float16") return cuda::Storage::kFloat16;
  throw py::value_error(named("storage is ") + name + "; it must be float32, bfloat16 or float16");
}

class CudaSampler {
 public:
  CudaSampler(const std::string& op_name, const py::list& weights, double forget_bias,
              const py::object& initial_weight, const py::object& initial_bias,
              const py::object& head_weight, const py::object& head_bias,
              const std::string& storage)
      : storage_(storage_named(storage)), forget_bias_(static_cast<float>(forget_bias)) {
    const Op& op = op_named(op_name);
    cuda::require_gpu();
    read_sizes(op, weights, head_weight);
    device_ = device_of(named("w_xh"), weights[0]);
    read_weights(op, weights);
    const std::int64_t N = sizes_.units, Z = sizes_.z_size, columns = sizes_.head_columns();
    sources_.head = floats("head_weight", head_weight, {N, columns});
    sources_.head_bias = floats("head_bias", head_bias, {columns});
    if (Z > 0) {
      const std::int64_t state = 2 * (N + sizes_.hyper_units);
      sources_.start = floats("initial_weight", initial_weight, {Z, state});
      sources_.start_bias = floats("initial_bias", initial_bias, {state});
    }
    tensors_ = py::make_tuple(weights, initial_weight, initial_bias, head_weight, head_bias);
    packed_size_ = cuda::describe(sizes_, storage_, {}).bytes;
  }

  std::size_t packed_size() const { return packed_size_; }

  void pack(const py::object& packed, cuda::StreamHandle stream) {
    if (tensors_.is_none()) throw py::value_error(named("the decoder is packed already"));
    void* const to = bytes("packed", packed, packed_size_);
    {
      const cuda::OnDevice on(device_);
      cuda::pack_decoder(sizes_, storage_, sources_, to, stream);
    }
    packed_ = packed;
    // What is freed now is reused on the same stream, after the packing.
    tensors_ = py::none();
  }

  std::size_t workspace_size(std::int64_t count) const {
    const cuda::OnDevice on(device_);
    const cuda::Plan plan = cuda::plan_on_device(sizes_, storage_, checked_count(count));
    return cuda::workspace_layout(sizes_, plan).bytes;
  }

  void draw(const py::object& seeds, const py::object& z, const py::object& prefix_points,
            const py::object& prefix_offsets, float softmax, float sigma, bool greedy,
            const py::object& points, const py::object& lengths, const py::object& outcome,
            const py::object& workspace, cuda::StreamHandle stream, int rounds, bool resume) const {
    if (packed_.is_none()) throw py::value_error(named("the decoder is not packed yet"));
    require_tensor(named("points"), points);
    const Shape shape = shape_of(points);
    if (shape.size() != 3 || shape[1] < 1 || shape[1] > kMost || shape[2] != 3) {
      throw py::value_error(named("points has shape ") + shape_text(shape) +
                            "; it takes [count, limit, 3], the limit at least 1");
    }
    cuda::Sketches sketches{};
    sketches.count = checked_count(shape[0]);
    sketches.limit = static_cast<int>(shape[1]);
    sketches.points = floats("points", points, shape);
    sketches.seeds = integers("seeds", seeds, {shape[0]});
    sketches.z = read_z(z, shape[0]);
    if (prefix_points.is_none() != prefix_offsets.is_none()) {
      throw py::value_error(named("prefix_points and prefix_offsets are given both or neither"));
    }
    if (!prefix_points.is_none()) {
      require_tensor(named("prefix_points"), prefix_points);
      const Shape all = shape_of(prefix_points);
      sketches.prefix = floats("prefix_points", prefix_points, {all.empty() ? 0 : all[0], 3});
      sketches.prefix_offsets = integers("prefix_offsets", prefix_offsets, {shape[0] + 1});
    }
    if (!greedy && !(softmax > 0.0f && sigma >= 0.0f)) {
      throw py::value_error(named("softmax is ") + std::to_string(softmax) + " and sigma " +
                            std::to_string(sigma) + "; they must be above 0 and at least 0");
    }
    sketches.temperature = {softmax, sigma, greedy};
    if (rounds < 0) {
      throw py::value_error(named("rounds is ") + std::to_string(rounds) +
                            "; it must be at least 1, or 0 for as many as it takes");
    }
    sketches.rounds = rounds;
    sketches.resume = resume;
    sketches.lengths = integers("lengths", lengths, {shape[0]});
    sketches.outcome = static_cast<std::uint8_t*>(
        device_view(named("outcome"), outcome, Scalar::kUInt8, {shape[0]}, device_).data);

    const cuda::OnDevice on(device_);
    const cuda::Plan plan = cuda::plan_on_device(sizes_, storage_, sketches.count);
    void* const work = bytes("workspace", workspace, cuda::workspace_layout(sizes_, plan).bytes);
    const void* const packed = bytes("packed", packed_, packed_size_);
    cuda::draw_sketches(sizes_, storage_, plan, forget_bias_, packed, work, sketches, stream);
  }

 private:
  void read_sizes(const Op& op, const py::list& weights, const py::object& head_weight) {
    if (weights.size() < 2 || (op.hyper && weights.size() < 14)) {
      throw py::value_error(named("weights has ") + std::to_string(weights.size()) +
                            " tensors, too few for " + op.name);
    }
    sizes_.cell = cell_named(op.name);
    sizes_.units = size_of("w_hh", weights[1], 2, 0);
    sizes_.z_size = size_of("w_xh", weights[0], 2, 0) - kStrokeWidth;
    if (op.hyper) {
      sizes_.hyper_units = size_of("hyper_w_hh", weights[8], 2, 0);
      sizes_.embedding = size_of("x_embedding", weights[13], 3, 2);
    }
    const int columns = size_of("head_weight", head_weight, 2, 1);
    if (columns < 9 || columns % 6 != 3) {
      throw py::value_error(named("head_weight has ") + std::to_string(columns) +
                            " columns; it takes 6 K + 3");
    }
    sizes_.mixtures = (columns - kPenStates) / 6;
    if (sizes_.units < 1 || sizes_.z_size < 0 ||
        (op.hyper && (sizes_.hyper_units < 1 || sizes_.embedding < 1))) {
      throw py::value_error(named("w_xh has ") + std::to_string(sizes_.z_size + kStrokeWidth) +
                            " rows and w_hh " + std::to_string(sizes_.units) +
                            "; they take 5 + Z and at least 1");
    }
  }

  void read_weights(const Op& op, const py::list& weights) {
    Sizes sizes{};
    sizes.X = kStrokeWidth;
    sizes.S = sizes_.z_size;
    sizes.N = sizes_.units;
    sizes.H = sizes_.hyper_units;
    sizes.E = sizes_.embedding;
    const std::vector<Shape> shapes = op.weights(sizes);
    if (weights.size() != shapes.size()) {
      throw py::value_error(named("weights has ") + std::to_string(weights.size()) + " tensors; " +
                            op.name + " takes " + std::to_string(shapes.size()));
    }
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      sources_.weights[i] = floats("weights " + std::to_string(i), weights[i], shapes[i]);
    }
  }

  static int checked_count(std::int64_t count) {
    if (count < 1 || count > kMost) {
      throw py::value_error(named("count is ") + std::to_string(count) +
                            "; it must be between 1 and " + std::to_string(kMost));
    }
    return static_cast<int>(count);
  }

  const float* read_z(const py::object& z, std::int64_t count) const {
    if ((sizes_.z_size > 0) == z.is_none()) {
      throw py::value_error(named(sizes_.z_size > 0
                                      ? "z is missing; this decoder takes one a sketch"
                                      : "z was given, but this decoder takes none"));
    }
    return z.is_none() ? nullptr : floats("z", z, {count, sizes_.z_size});
  }

  float* floats(const std::string& what, const py::handle& tensor, const Shape& shape) const {
    return static_cast<float*>(
        device_view(named(what), tensor, Scalar::kFloat32, shape, device_).data);
  }
  std::int64_t* integers(const std::string& what, const py::handle& tensor,
                         const Shape& shape) const {
    return static_cast<std::int64_t*>(
        device_view(named(what), tensor, Scalar::kInt64, shape, device_).data);
  }
  // A vector of at least so many bytes, on a whole 256 of them as allocators give.
  void* bytes(const std::string& what, const py::handle& tensor, std::size_t least) const {
    require_tensor(named(what), tensor);
    const Shape shape = shape_of(tensor);
    if (shape.size() != 1 || shape[0] < static_cast<std::int64_t>(least)) {
      throw py::value_error(named(what) + " has shape " + shape_text(shape) + "; it takes uint8 [" +
                            std::to_string(least) + "] or more");
    }
    void* const data = device_view(named(what), tensor, Scalar::kUInt8, shape, device_).data;
    if (reinterpret_cast<std::uintptr_t>(data) % 256 != 0) {
      throw py::value_error(named(what) + " does not begin at a multiple of 256 bytes; it must");
    }
    return data;
  }

  cuda::DecoderSizes sizes_{};
  cuda::Storage storage_;
  float forget_bias_;
  int device_ = 0;
  cuda::DecoderSources sources_{};
  std::size_t packed_size_ = 0;
  py::object tensors_ = py::none();  // what `sources_` points into, until it is packed
  py::object packed_ = py::none();
};

}  // namespace

void bind_cuda_sampler(py::module_& module) {
  py::class_<CudaSampler>(module, "CudaSampler", "A decoder on a GPU, packed for the sampler.")
      .def(py::init<const std::string&, const py::list&, double, const py::object&,
                    const py::object&, const py::object&, const py::object&, const std::string&>(),
           py::arg("op"), py::arg("weights"), py::arg("forget_bias"), py::arg("initial_weight"),
           py::arg("initial_bias"), py::arg("head_weight"), py::arg("head_bias"),
           py::arg("storage"))
      .def_property_readonly("packed_size", &CudaSampler::packed_size)
      .def("pack", &CudaSampler::pack, py::arg("packed"), py::arg("stream"))
      .def("workspace_size", &CudaSampler::workspace_size, py::arg("count"))
      .def("draw", &CudaSampler::draw, py::arg("seeds"), py::arg("z"), py::arg("prefix_points"),
           py::arg("prefix_offsets"), py::arg("softmax"), py::arg("sigma"), py::arg("greedy"),
           py::arg("points"), py::arg("lengths"), py::arg("outcome"), py::arg("workspace"),
           py::arg("stream"), py::arg("rounds") = 0, py::arg("resume") = false);
}

}  // namespace sketchrnn
