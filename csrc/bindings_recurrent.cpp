// The recurrent ops: checks shapes and types, sorts the rows, and calls the level's kernels.

#include <pybind11/stl.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "bindings.h"
#include "cpu/level.h"
#include "cpu/schedule.h"
#include "cpu/thread_shares.h"
#include "op_shapes.h"
#include "views.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

// The arguments that forward and backward share, as Python passes them.
struct Arguments {
  py::object x, static_input;
  py::list weights, state;
  py::object lengths, seed;
  bool reverse;
  double forget_bias, keep_prob;
  std::int64_t row_offset;
};

// What forward fills and backward reads, or its gradients; None for what there is not.
struct Results {
  py::object hidden;
  py::list final_state;
  py::object saved;
};

struct Gradients {
  py::object x, static_input;  // None where not wanted
  py::list weights, state;
};

// A checked call, with what it points to.
class Call {
 public:
  Call(const Op& op, const Arguments& given) : op_(op) {
    require_tensor(named("x"), given.x);
    for (const py::handle weight : given.weights) require_tensor(named("a weight"), weight);
    scalar_ = scalar_of(given.x);
    if (scalar_ != Scalar::kFloat32 && scalar_ != Scalar::kFloat64) {
      throw py::value_error(named("x") + " has another type; it must be float32 or float64");
    }
    const Shape x = shape_of(given.x);
    const Shape w_hh = given.weights.size() > 1 ? shape_of(given.weights[1]) : Shape{};
    if (x.size() != 3 || w_hh.size() != 2) {
      throw py::value_error(named("x") + " has shape " + shape_text(x) + " and w_hh " +
                            shape_text(w_hh) + "; they take [T, B, X] and [N, 4 N]");
    }
    if (x[0] < 1) throw py::value_error(named("x") + " has no steps; it takes at least one");
    sizes_ = {x[0], x[1], x[2], 0, w_hh[0], 0, 0};
    if (!given.static_input.is_none()) {
      require_tensor(named("static_input"), given.static_input);
      const Shape shape = shape_of(given.static_input);
      if (shape.size() != 2) {
        throw py::value_error(named("static_input") + " has shape " + shape_text(shape) +
                              "; it takes [B, S]");
      }
      sizes_.S = shape[1];
    }
    if (op.hyper && given.weights.size() > 13) {
      const Shape w_hh_hyper = shape_of(given.weights[8]), embedding = shape_of(given.weights[13]);
      if (w_hh_hyper.size() != 2 || embedding.size() != 3) {
        throw py::value_error(named("weights") + " 8 and 13 have shapes " + shape_text(w_hh_hyper) +
                              " and " + shape_text(embedding) +
                              "; they take [H, 4 H] and [4, H, E]");
      }
      sizes_.H = w_hh_hyper[0];
      sizes_.E = embedding[2];
    }
    call_.hyper_units = sizes_.H;
    call_.embedding = sizes_.E;
    call_.input = sizes_.X;
    call_.static_input = sizes_.S;
    call_.units = sizes_.N;
    call_.x = read("x", given.x, {sizes_.T, sizes_.B, sizes_.X});
    if (sizes_.S > 0) {
      call_.static_values = read("static_input", given.static_input, {sizes_.B, sizes_.S});
    }
    read_all("weights", given.weights, op.weights(sizes_), call_.weights);
    read_all("state", given.state, op.state(sizes_), call_.state);
    call_.forget_bias = given.forget_bias;
    read_dropout(given);
    const std::int64_t* lengths = nullptr;
    if (!given.lengths.is_none()) {
      lengths = static_cast<const std::int64_t*>(
          view(named("lengths"), given.lengths, Scalar::kInt64, {sizes_.B}).data);
      for (std::int64_t b = 0; b < sizes_.B; ++b) {
        if (lengths[b] < 0 || lengths[b] > sizes_.T) {
          throw py::value_error(named("lengths") + " has " + std::to_string(lengths[b]) +
                                "; they must lie between 0 and " + std::to_string(sizes_.T));
        }
      }
    }
    rows_.emplace(lengths, sizes_.T, sizes_.B, given.reverse);
    call_.schedule = rows_->schedule();
  }

  std::string named(const std::string& what) const { return std::string(op_.name) + ": " + what; }
  const RecurrentCall& call() const { return call_; }
  const RecurrentKernels& kernels() const { return *(level().*op_.kernels); }
  int type_index() const { return scalar_ == Scalar::kFloat32 ? 0 : 1; }
  const Sizes& sizes() const { return sizes_; }

  void* read(const char* what, const py::handle& tensor, const Shape& shape) const {
    return view(named(what), tensor, scalar_, shape).data;
  }

  template <class Pointer>
  void read_all(const char* what, const py::list& tensors, const std::vector<Shape>& shapes,
                Pointer* to) const {
    if (tensors.size() != shapes.size()) {
      throw py::value_error(named(what) + " has " + std::to_string(tensors.size()) +
                            " tensors; it takes " + std::to_string(shapes.size()));
    }
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      to[i] = read((std::string(what) + " " + std::to_string(i)).c_str(), tensors[i], shapes[i]);
    }
  }

  template <class Pointer>
  void read_weights(const char* what, const py::list& tensors, Pointer* to) const {
    read_all(what, tensors, op_.weights(sizes_), to);
  }
  template <class Pointer>
  void read_state(const char* what, const py::list& tensors, Pointer* to) const {
    read_all(what, tensors, op_.state(sizes_), to);
  }

  // Saved values are one vector, as long as a batch without lengths needs.
  void* read_saved(const py::object& saved) const {
    if (saved.is_none()) return nullptr;
    const SavedSizes sizes{sizes_.T * sizes_.B, sizes_.N, sizes_.H, sizes_.E};
    return read("saved", saved, {kernels().saved_size(sizes)});
  }

 private:
  void read_dropout(const Arguments& given) {
    if (!(given.keep_prob > 0.0 && given.keep_prob <= 1.0)) {
      throw py::value_error(named("keep_prob") + " must be above 0 and at most 1");
    }
    if (given.row_offset < 0 || given.row_offset > (std::int64_t{1} << 32) - sizes_.B) {
      throw py::value_error(named("row_offset") + " is " + std::to_string(given.row_offset) +
                            "; its rows must lie between 0 and 4294967295");
    }
    call_.dropout = {0, 0, static_cast<std::uint32_t>(given.row_offset), given.keep_prob};
    if (given.keep_prob < 1.0) {
      require_tensor(named("seed"), given.seed);
      const Shape shape = shape_of(given.seed);
      const View seed =
          view(named("seed"), given.seed, Scalar::kInt64, shape.empty() ? shape : Shape{1});
      call_.dropout.seed = *static_cast<const std::uint64_t*>(seed.data);
    }
  }

  const Op& op_;
  Scalar scalar_;
  Sizes sizes_{};
  RecurrentCall call_{};
  std::optional<SortedRows> rows_;
};

Arguments arguments(py::object x, py::object static_input, py::list weights, py::list state,
                    py::object lengths, py::object seed, bool reverse, double forget_bias,
                    double keep_prob, std::int64_t row_offset) {
  return {std::move(x),
          std::move(static_input),
          std::move(weights),
          std::move(state),
          std::move(lengths),
          std::move(seed),
          reverse,
          forget_bias,
          keep_prob,
          row_offset};
}

ForwardResults forward_results(const Call& call, const Results& given) {
  const Sizes& s = call.sizes();
  ForwardResults results{};
  results.hidden = call.read("hidden", given.hidden, {s.T, s.B, s.N});
  call.read_state("final state", given.final_state, results.final_state);
  results.saved = call.read_saved(given.saved);
  return results;
}

BackwardCall backward_call(const Call& call, const Results& given, const Results& grad_results,
                           const Gradients& grads) {
  const Sizes& s = call.sizes();
  BackwardCall back{};
  if (!grad_results.hidden.is_none()) {
    back.grad_hidden = call.read("grad_hidden", grad_results.hidden, {s.T, s.B, s.N});
  }
  call.read_state("grad_state", grad_results.final_state, back.grad_state);
  back.hidden = call.read("hidden", given.hidden, {s.T, s.B, s.N});
  if (given.saved.is_none()) throw py::value_error(call.named("saved is missing"));
  back.saved = call.read_saved(given.saved);
  if (!grads.x.is_none()) back.grad_x = call.read("grad_x", grads.x, {s.T, s.B, s.X});
  if (s.S > 0) back.grad_static = call.read("grad_static", grads.static_input, {s.B, s.S});
  call.read_weights("grad_weights", grads.weights, back.grad_weights);
  call.read_state("grad_initial", grads.state, back.grad_initial);
  return back;
}

// One or two calls of an op that do not need each other, and what each of them fills.
template <class Filled>
class Calls {
 public:
  // fill(call, i) is what the i-th call fills.
  template <class Fill>
  Calls(const Op& op, const std::vector<Arguments>& given, const Fill& fill) {
    if (given.empty() || given.size() > 2) {
      throw py::value_error(std::string(op.name) + ": there are " + std::to_string(given.size()) +
                            " calls; it takes one or two");
    }
    for (std::size_t i = 0; i < given.size(); ++i) {
      const Call& call = checked_.emplace_back(op, given[i]);
      if (call.type_index() != type_index()) {
        throw py::value_error(call.named("both calls must be of one type"));
      }
      calls_.push_back(call.call());
      filled_.push_back(fill(call, i));
    }
  }

  const RecurrentKernels& kernels() const { return checked_.front().kernels(); }
  int type_index() const { return checked_.front().type_index(); }

  void run(void (*kernel)(const RecurrentCall*, const Filled*, int), int threads) {
    const int count = static_cast<int>(calls_.size());
    const py::gil_scoped_release no_gil;
    if (share_threads(calls_.data(), count, threads)) {
      kernel(calls_.data(), filled_.data(), count);
      return;
    }
    for (std::size_t i = 0; i < calls_.size(); ++i) kernel(&calls_[i], &filled_[i], 1);
  }

 private:
  std::deque<Call> checked_;
  std::vector<RecurrentCall> calls_;
  std::vector<Filled> filled_;
};

template <class Item>
void require_one_each(const std::string& name, const std::vector<Arguments>& calls,
                      const std::vector<Item>& items, const char* what) {
  if (items.size() != calls.size()) {
    throw py::value_error(name + ": " + std::to_string(calls.size()) + " calls have " +
                          std::to_string(items.size()) + " " + what);
  }
}

void forward(const std::string& name, const std::vector<Arguments>& given,
             const std::vector<Results>& results, int threads) {
  const Op& op = op_named(name);
  require_one_each(name, given, results, "results");
  Calls<ForwardResults> calls(op, given, [&](const Call& call, std::size_t i) {
    return forward_results(call, results[i]);
  });
  calls.run(calls.kernels().forward[calls.type_index()], threads);
}

void backward(const std::string& name, const std::vector<Arguments>& given,
              const std::vector<Results>& results, const std::vector<Results>& grad_results,
              const std::vector<Gradients>& grads, int threads) {
  const Op& op = op_named(name);
  require_one_each(name, given, results, "results");
  require_one_each(name, given, grad_results, "gradients of results");
  require_one_each(name, given, grads, "gradients");
  Calls<BackwardCall> calls(op, given, [&](const Call& call, std::size_t i) {
    return backward_call(call, results[i], grad_results[i], grads[i]);
  });
  calls.run(calls.kernels().backward[calls.type_index()], threads);
}

}  // namespace

void bind_recurrent(py::module_& module) {
  py::class_<Arguments>(module, "RecurrentArguments", "The arguments of a recurrent op.")
      .def(py::init(&arguments), py::arg("x"), py::arg("static_input"), py::arg("weights"),
           py::arg("state"), py::arg("lengths"), py::arg("seed"), py::arg("reverse"),
           py::arg("forget_bias"), py::arg("keep_prob"), py::arg("row_offset"));
  py::class_<Results>(module, "RecurrentResults", "The results of a recurrent op.")
      .def(py::init([](py::object hidden, py::list final_state, py::object saved) {
             return Results{std::move(hidden), std::move(final_state), std::move(saved)};
           }),
           py::arg("hidden"), py::arg("final_state"), py::arg("saved"));
  py::class_<Gradients>(module, "RecurrentGradients", "The gradients that a backward pass fills.")
      .def(py::init([](py::object x, py::object static_input, py::list weights, py::list state) {
             return Gradients{std::move(x), std::move(static_input), std::move(weights),
                              std::move(state)};
           }),
           py::arg("x"), py::arg("static_input"), py::arg("weights"), py::arg("state"));
  module.def("recurrent_forward", &forward, py::arg("op"), py::arg("calls"), py::arg("results"),
             py::arg("threads"));
  module.def("recurrent_backward", &backward, py::arg("op"), py::arg("calls"), py::arg("results"),
             py::arg("grad_results"), py::arg("gradients"), py::arg("threads"));
  module.def(
      "recurrent_saved_size",
      [](const std::string& name, std::int64_t entries, std::int64_t units,
         std::int64_t hyper_units, std::int64_t embedding) {
        return (level().*op_named(name).kernels)
            ->saved_size({entries, units, hyper_units, embedding});
      },
      py::arg("op"), py::arg("entries"), py::arg("units"), py::arg("hyper_units") = 0,
      py::arg("embedding") = 0);
}

}  // namespace sketchrnn
