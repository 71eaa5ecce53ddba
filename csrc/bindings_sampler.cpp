// The sampler: packing a decoder, and drawings that go on from call to call.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "bindings.h"
#include "cpu/level.h"
#include "cpu/thread_shares.h"
#include "op_shapes.h"
#include "views.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

constexpr std::int64_t kMostPoints = std::numeric_limits<std::int32_t>::max();

DecoderCell cell_named(const std::string& op) {
  if (op == "lstm") return DecoderCell::kLSTM;
  if (op == "layer_norm_lstm") return DecoderCell::kLayerNormLSTM;
  return DecoderCell::kHyperLSTM;
}

const float* floats(const std::string& what, const py::handle& tensor, const Shape& shape) {
  return static_cast<const float*>(view("sampler: " + what, tensor, Scalar::kFloat32, shape).data);
}

Shape matrix_shape(const std::string& what, const py::handle& tensor) {
  require_tensor("sampler: " + what, tensor);
  Shape shape = shape_of(tensor);
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    throw py::value_error("sampler: " + what + " has shape " + shape_text(shape) +
                          "; it must be a matrix");
  }
  return shape;
}

class Decoder {
 public:
  Decoder(const std::string& op_name, const py::list& weights, double forget_bias,
          const py::object& initial_weight, const py::object& initial_bias,
          const py::object& head_weight, const py::object& head_bias, bool bfloat16) {
    const Op& op = op_named(op_name);
    if (weights.size() < 2 || (op.hyper && weights.size() < 14)) {
      throw py::value_error("sampler: weights has " + std::to_string(weights.size()) +
                            " tensors, too few for " + op_name);
    }
    DecoderSpec spec{};
    spec.cell = cell_named(op_name);
    sizes_.X = kStrokeWidth;
    sizes_.N = matrix_shape("w_hh", weights[1])[0];
    sizes_.S = matrix_shape("w_xh", weights[0])[0] - kStrokeWidth;
    if (op.hyper) {
      sizes_.H = matrix_shape("hyper_w_hh", weights[8])[0];
      require_tensor("sampler: x_embedding", weights[13]);
      const Shape embedding = shape_of(weights[13]);
      if (embedding.size() != 3) throw py::value_error("sampler: x_embedding takes [4, H, E]");
      sizes_.E = embedding[2];
    }
    const std::vector<Shape> shapes = op.weights(sizes_);
    if (sizes_.S < 0 || weights.size() != shapes.size()) {
      throw py::value_error("sampler: weights do not fit " + op_name + " with an input of " +
                            std::to_string(kStrokeWidth));
    }
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      spec.call.weights[i] = floats("weights " + std::to_string(i), weights[i], shapes[i]);
    }
    spec.call.input = sizes_.X;
    spec.call.static_input = sizes_.S;
    spec.call.units = sizes_.N;
    spec.call.hyper_units = sizes_.H;
    spec.call.embedding = sizes_.E;
    spec.call.forget_bias = forget_bias;
    spec.call.dropout.keep_prob = 1.0;
    const std::int64_t columns = matrix_shape("head_weight", head_weight)[1];
    if (columns < 9 || columns % 6 != 3) {
      throw py::value_error("sampler: head_weight has " + std::to_string(columns) +
                            " columns; it takes 6 K + 3");
    }
    mixtures_ = (columns - kPenStates) / 6;
    spec.mixtures = static_cast<int>(mixtures_);
    spec.head_weight = floats("head_weight", head_weight, {sizes_.N, columns});
    spec.head_bias = floats("head_bias", head_bias, {columns});
    if (sizes_.S > 0) {
      const std::int64_t state = 2 * (sizes_.N + sizes_.H);
      spec.initial_weight = floats("initial_weight", initial_weight, {sizes_.S, state});
      spec.initial_bias = floats("initial_bias", initial_bias, {state});
    }
    spec.bfloat16 = bfloat16;
    const py::gil_scoped_release no_gil;
    packed_.reset(level().sampler->pack(spec));
  }

  const PackedDecoder& packed() const { return *packed_; }
  const Sizes& sizes() const { return sizes_; }
  std::int64_t mixtures() const { return mixtures_; }
  int threads_for(std::int64_t rows, int threads) const {
    RecurrentCall call{};
    call.input = sizes_.X;
    call.units = sizes_.N;
    call.hyper_units = sizes_.H;
    return threads_worth_using(call, rows, threads);
  }

 private:
  Sizes sizes_{};
  std::int64_t mixtures_ = 0;
  std::unique_ptr<PackedDecoder> packed_;
};

// z [count, Z], or null for a decoder that takes none.
const float* read_z(const Decoder& decoder, const py::object& z, std::int64_t count) {
  const std::int64_t Z = decoder.sizes().S;
  if ((Z > 0) == z.is_none()) {
    throw py::value_error(Z > 0 ? "sampler: z is missing; this decoder takes one a sketch"
                                : "sampler: z was given, but this decoder takes none");
  }
  return Z > 0 ? floats("z", z, {count, Z}) : nullptr;
}

// A drawing and the tensors that it reads and fills.
class Run {
 public:
  Run(std::shared_ptr<const Decoder> decoder, const py::object& seeds, const py::object& z,
      const py::object& prefix_points, const py::object& prefix_offsets, float softmax, float sigma,
      bool greedy, const py::object& points, const py::object& lengths, const py::object& ended,
      std::int64_t batch, int threads)
      : decoder_(std::move(decoder)),
        tensors_(py::make_tuple(seeds, z, prefix_points, prefix_offsets, points, lengths, ended)) {
    require_tensor("sampler: points", points);
    const Shape shape = shape_of(points);
    if (shape.size() != 3 || shape[1] < 1 || shape[1] > kMostPoints || shape[2] != 3) {
      throw py::value_error("sampler: points has shape " + shape_text(shape) +
                            "; it takes [count, limit, 3], the limit at least 1");
    }
    const std::int64_t count = shape[0];
    DrawCall call{};
    call.count = count;
    call.limit = shape[1];
    call.points = const_cast<float*>(floats("points", points, shape));
    call.seeds = integers("seeds", seeds, {count});
    call.z = read_z(*decoder_, z, count);
    if (!prefix_points.is_none()) read_prefixes(prefix_points, prefix_offsets, call);
    call.temperature = {softmax, sigma, greedy};
    call.lengths = const_cast<std::int64_t*>(integers("lengths", lengths, {count}));
    call.ended =
        static_cast<std::uint8_t*>(view("sampler: ended", ended, Scalar::kUInt8, {count}).data);
    if (batch < 1) {
      throw py::value_error("sampler: batch is " + std::to_string(batch) +
                            "; it must be at least 1");
    }
    call.batch = batch;
    call.threads = decoder_->threads_for(std::min(count, batch), threads);
    threads_ = call.threads;
    drawing_.reset(decoder_->packed().begin(call));
  }

  int threads() const { return threads_; }

  bool advance(std::int64_t steps) {
    if (busy_.exchange(true)) {
      throw std::runtime_error("sampler: this drawing is being advanced by another thread");
    }
    struct Free {
      std::atomic<bool>& busy;
      ~Free() { busy = false; }
    } free{busy_};
    bool unfinished;
    {
      const py::gil_scoped_release no_gil;
      unfinished = drawing_->advance(steps);
    }
    const Failure& failure = drawing_->failure;
    if (failure.fault != Fault::kNone) {
      const std::string where = "in step " + std::to_string(failure.step) + " of sketch " +
                                std::to_string(failure.sketch);
      throw py::value_error(failure.fault == Fault::kParameters
                                ? "the decoder's parameters are not finite " + where
                                : "the offset drawn " + where +
                                      " is not finite; the weights, z or the temperature are too "
                                      "large");
    }
    return unfinished;
  }

 private:
  static const std::int64_t* integers(const std::string& what, const py::handle& tensor,
                                      const Shape& shape) {
    return static_cast<const std::int64_t*>(
        view("sampler: " + what, tensor, Scalar::kInt64, shape).data);
  }

  static void read_prefixes(const py::object& points, const py::object& offsets, DrawCall& call) {
    require_tensor("sampler: prefix_points", points);
    const Shape shape = shape_of(points);
    const std::int64_t total = shape.empty() ? 0 : shape[0];
    call.prefix_points = floats("prefix_points", points, {total, 3});
    call.prefix_offsets = integers("prefix_offsets", offsets, {call.count + 1});
    for (std::int64_t i = 0; i < call.count; ++i) {
      const std::int64_t from = call.prefix_offsets[i], to = call.prefix_offsets[i + 1];
      if (from < 0 || to < from || to > total || to - from > call.limit) {
        throw py::value_error("sampler: the prefix of sketch " + std::to_string(i) + " is points " +
                              std::to_string(from) + " to " + std::to_string(to) + " of " +
                              std::to_string(total) + "; it has at most " +
                              std::to_string(call.limit));
      }
    }
    for (std::int64_t i = 0; i < total; ++i) {
      const float pen = call.prefix_points[3 * i + 2];
      if (pen != 0.0f && pen != 1.0f) {
        throw py::value_error("sampler: prefix point " + std::to_string(i) +
                              " has a pen that is neither 0 nor 1");
      }
    }
  }

  const std::shared_ptr<const Decoder> decoder_;
  const py::tuple tensors_;
  int threads_ = 1;
  std::unique_ptr<Drawing> drawing_;
  std::atomic<bool> busy_{false};
};

// The raw parameters [T, B, 6 K + 3] that the decoder gives for the inputs [T, B, 5].
void fill_parameters(const Decoder& decoder, const py::object& inputs, const py::object& z,
                     const py::object& parameters, int threads) {
  require_tensor("sampler: inputs", inputs);
  const Shape shape = shape_of(inputs);
  if (shape.size() != 3 || shape[0] < 1 || shape[2] != kStrokeWidth) {
    throw py::value_error("sampler: inputs has shape " + shape_text(shape) +
                          "; it takes [T, B, 5] with at least one step");
  }
  DrawCall call{};
  call.limit = shape[0];
  call.count = call.batch = shape[1];
  call.inputs = floats("inputs", inputs, shape);
  call.z = read_z(decoder, z, call.count);
  const std::int64_t columns = mixture_columns(static_cast<int>(decoder.mixtures()));
  call.parameters =
      const_cast<float*>(floats("parameters", parameters, {call.limit, call.count, columns}));
  if (call.count == 0) return;
  call.threads = decoder.threads_for(call.count, threads);
  const std::unique_ptr<Drawing> drawing(decoder.packed().begin(call));
  constexpr std::int64_t kSteps = 64;  // between two looks at Control-C
  for (bool unfinished = true; unfinished;) {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    const py::gil_scoped_release no_gil;
    unfinished = drawing->advance(kSteps);
  }
}

}  // namespace

void bind_sampler(py::module_& module) {
  py::class_<Decoder, std::shared_ptr<Decoder>>(module, "SamplerDecoder",
                                                "A decoder's weights, packed for the sampler.")
      .def(py::init<const std::string&, const py::list&, double, const py::object&,
                    const py::object&, const py::object&, const py::object&, bool>(),
           py::arg("op"), py::arg("weights"), py::arg("forget_bias"), py::arg("initial_weight"),
           py::arg("initial_bias"), py::arg("head_weight"), py::arg("head_bias"),
           py::arg("bfloat16"))
      .def_property_readonly(
          "bytes_of_step", [](const Decoder& decoder) { return decoder.packed().bytes_of_step(); })
      .def(
          "read_panels",
          [](const Decoder& decoder, int threads, std::int64_t times) {
            const py::gil_scoped_release no_gil;
            return decoder.packed().read_panels(std::max(threads, 1), times);
          },
          py::arg("threads"), py::arg("times"));
  py::class_<Run>(module, "SamplerRun", "A drawing that goes on from call to call.")
      .def(py::init<std::shared_ptr<const Decoder>, const py::object&, const py::object&,
                    const py::object&, const py::object&, float, float, bool, const py::object&,
                    const py::object&, const py::object&, std::int64_t, int>(),
           py::arg("decoder"), py::arg("seeds"), py::arg("z"), py::arg("prefix_points"),
           py::arg("prefix_offsets"), py::arg("softmax"), py::arg("sigma"), py::arg("greedy"),
           py::arg("points"), py::arg("lengths"), py::arg("ended"), py::arg("batch"),
           py::arg("threads"))
      .def_property_readonly("threads", &Run::threads)
      .def("advance", &Run::advance, py::arg("steps"));
  module.def("sampler_parameters", &fill_parameters, py::arg("decoder"), py::arg("inputs"),
             py::arg("z"), py::arg("parameters"), py::arg("threads"));
}

}  // namespace sketchrnn
