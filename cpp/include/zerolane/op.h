// SPDX-License-Identifier: Apache-2.0
// Write an op once: it then runs directly on arrays, inside ONNX Runtime and as a TensorRT plugin.
// C++17, header only. README.md beside this file is the guide.
//
//   namespace zl = zerolane::op;
//
//   struct Scale {
//     float factor = 2;                                   // an attribute, and its fallback
//
//     static void define(zl::Definition<Scale>& op) {
//       op.name("my", "Scale").doc("y = factor * x");
//       const auto T = op.type<float, double>("T");
//       op.attribute("factor", &Scale::factor).bounds(-1e6, 1e6);
//       op.input("x", T);
//       op.output("y", T);
//       op.cpu(T);                                        // cpu<float>, cpu<double>
//     }
//     void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
//
//     template <typename Element>
//     void cpu(const zl::Call& call) const {
//       const auto x = call.input<Element>(0);
//       const auto y = call.output<Element>(0);
//       for (int64_t i = 0; i < x.size(); ++i) y[i] = static_cast<Element>(factor * x[i]);
//     }
//   };
//
//   ZEROLANE_OPS("my_ops", "1.0", Scale)
//
// An object is made once from the attributes and then never changes; any number of threads call it.
// Members that are looked for, besides define(), shape() and the bodies:
//
//   void init();                            builds state from the attributes; throws zl::Error
//   size_t scratch(const zl::Call&) const;  bytes of scratch memory; call.on_gpu() tells for what
//   std::vector<ZlConstant> constants() const;
//                                           memory of the object that bodies read through
//                                           call.constant(); zerolane copies it to each GPU once
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "zerolane/cuda.h"
#include "zerolane/half.h"
#include "zerolane/op_abi.h"
#include "zerolane/op_call.h"
#include "zerolane/op_shape.h"

namespace zerolane::op {

// Element types that arguments share, as Definition::type made it.
template <typename... Elements>
struct Type {
  int32_t index;
};

namespace detail {

template <typename T, typename = void>
struct HasInit : std::false_type {};
template <typename T>
struct HasInit<T, std::void_t<decltype(std::declval<T&>().init())>> : std::true_type {};

template <typename T, typename = void>
struct HasScratch : std::false_type {};
template <typename T>
struct HasScratch<
    T, std::void_t<decltype(std::declval<const T&>().scratch(std::declval<const Call&>()))>>
    : std::true_type {};

template <typename T, typename = void>
struct HasConstants : std::false_type {};
template <typename T>
struct HasConstants<T, std::void_t<decltype(std::declval<const T&>().constants())>>
    : std::true_type {};

// How a C++ member stands for an attribute.
template <typename Member>
struct AttributeOf {
  static_assert(std::is_arithmetic_v<Member>,
                "an attribute is a bool, an integer, a float or double, a std::string, or a "
                "std::vector of int64_t, float or double");
  static constexpr int32_t kType = std::is_integral_v<Member> ? kZlInt : kZlFloat;
  static constexpr double kLeast = std::is_same_v<Member, bool> ? 0
                                   : std::is_integral_v<Member>
                                       ? static_cast<double>(std::numeric_limits<Member>::min())
                                       : -std::numeric_limits<double>::infinity();
  static constexpr double kGreatest = std::is_same_v<Member, bool> ? 1
                                      : std::is_integral_v<Member>
                                          ? static_cast<double>(std::numeric_limits<Member>::max())
                                          : std::numeric_limits<double>::infinity();
  static void write(const Member& member, ZlValue* value) {
    value->integer = static_cast<int64_t>(std::is_integral_v<Member> ? member : 0);
    value->real = static_cast<double>(std::is_integral_v<Member> ? 0 : member);
  }
  static void read(const ZlValue& value, Member* member) {
    *member = static_cast<Member>(std::is_integral_v<Member> ? value.integer : 0) +
              static_cast<Member>(std::is_integral_v<Member> ? 0 : value.real);
  }
};

template <>
struct AttributeOf<std::string> {
  static constexpr int32_t kType = kZlString;
  static constexpr double kLeast = 0, kGreatest = 0;
  static void write(const std::string& member, ZlValue* value) { value->text = member.c_str(); }
  static void read(const ZlValue& value, std::string* member) { *member = value.text; }
};

template <>
struct AttributeOf<std::vector<int64_t>> {
  static constexpr int32_t kType = kZlInts;
  static constexpr double kLeast = static_cast<double>(std::numeric_limits<int64_t>::min());
  static constexpr double kGreatest = static_cast<double>(std::numeric_limits<int64_t>::max());
  static void write(const std::vector<int64_t>& member, ZlValue* value) {
    value->integers = member.data();
    value->count = member.size();
  }
  static void read(const ZlValue& value, std::vector<int64_t>* member) {
    member->assign(value.integers, value.integers + value.count);
  }
};

// Their fallback is kept as doubles, by the definition.
template <typename Real>
struct AttributeOf<std::vector<Real>> {
  static_assert(std::is_floating_point_v<Real>, "a list attribute is of int64_t, float or double");
  static constexpr int32_t kType = kZlFloats;
  static constexpr double kLeast = -std::numeric_limits<double>::infinity();
  static constexpr double kGreatest = std::numeric_limits<double>::infinity();
  static void read(const ZlValue& value, std::vector<Real>* member) {
    member->clear();
    for (uint64_t i = 0; i < value.count; ++i) {
      member->push_back(static_cast<Real>(value.reals[i]));
    }
  }
};

// Runs `body`; what it throws is handed to `fail` as a code and a text. Returns what the tables
// want: 0 for success.
template <typename Fail, typename Function>
int32_t guarded(const Fail& fail, const Function& body) noexcept {
  try {
    body();
    return 0;
  } catch (const Error& error) {
    fail(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    fail(kZlOutOfMemory, "out of memory");
  } catch (const std::exception& error) {
    fail(kZlInternal, error.what());
  } catch (...) {
    fail(kZlInternal, "an exception that is no std::exception");
  }
  return 1;
}

// What a body is called with: the element types that its types have in this call.
struct CpuBody {
  template <typename Self, typename... Elements>
  static void run(const Self& self, const Call& call) {
    if constexpr (sizeof...(Elements) == 0) {
      self.cpu(call);
    } else {
      self.template cpu<Elements...>(call);
    }
  }
};

struct CudaBody {
  template <typename Self, typename... Elements>
  static void run(const Self& self, const Call& call) {
    int status = 0;
    if constexpr (sizeof...(Elements) == 0) {
      status = self.cuda(call);
    } else {
      status = self.template cuda<Elements...>(call);
    }
    if (status != 0) {
      throw Error("the launch of its CUDA body returned status " + std::to_string(status),
                  kZlDevice);
    }
  }
};

template <typename Body, typename Self>
bool run_for(const Self& self, const Call& call, const DLDataType*) {
  Body::template run<Self>(self, call);
  return true;
}
template <typename Body, typename Self, typename... As>
bool run_for(const Self& self, const Call& call, const DLDataType* dtypes, Type<As...>) {
  return (
      (same_dtype(dtypes[0], dtype_of<As>()) && (Body::template run<Self, As>(self, call), true)) ||
      ...);
}
template <typename Body, typename A, typename Self, typename... Bs>
bool run_second(const Self& self, const Call& call, DLDataType dtype, Type<Bs...>) {
  return (
      (same_dtype(dtype, dtype_of<Bs>()) && (Body::template run<Self, A, Bs>(self, call), true)) ||
      ...);
}
template <typename Body, typename Self, typename... As, typename... Bs>
bool run_for(const Self& self, const Call& call, const DLDataType* dtypes, Type<As...>,
             Type<Bs...> second) {
  return ((same_dtype(dtypes[0], dtype_of<As>()) &&
           run_second<Body, As>(self, call, dtypes[1], second)) ||
          ...);
}

}  // namespace detail

// What Self::define() fills in. One an op, for as long as the process lives.
template <typename Self>
class Definition {
 public:
  // Refers to one attribute until the next is added.
  class Attribute {
   public:
    explicit Attribute(Definition& op) : row_(op.attributes_.back()), op_(op) {}
    Attribute& doc(const char* text) {
      row_.doc = text;
      return *this;
    }
    // There is no fallback: it must be given.
    Attribute& required() {
      row_.required = 1;
      return *this;
    }
    // Of a number, or of each number in a list; inclusive. NaN is outside of any.
    Attribute& bounds(double least, double greatest) {
      row_.least = least;
      row_.greatest = greatest;
      return *this;
    }
    // How long a list may be.
    Attribute& counts(uint64_t least, uint64_t greatest) {
      row_.least_count = least;
      row_.greatest_count = greatest;
      return *this;
    }
    // What a string may be.
    Attribute& choices(std::initializer_list<const char*> list) {
      op_.choices_.emplace_back(list);
      row_.choices = op_.choices_.back().data();
      row_.choice_count = op_.choices_.back().size();
      return *this;
    }

   private:
    ZlAttribute& row_;
    Definition& op_;
  };

  // `version` counts up when an op changes what it computes; models ask for it as the version of
  // the domain. Definitions of several versions may stand side by side.
  Definition& name(const char* domain, const char* name, int version = 1) {
    table_.domain = domain;
    table_.name = name;
    table_.version = version;
    return *this;
  }
  Definition& doc(const char* text) {
    table_.doc = text;
    return *this;
  }

  template <typename... Elements>
  Type<Elements...> type(const char* name) {
    static_assert(sizeof...(Elements) > 0, "a type has at least one element type");
    static constexpr std::array<DLDataType, sizeof...(Elements)> kDTypes{dtype_of<Elements>()...};
    types_.push_back({name, kDTypes.data(), kDTypes.size()});
    return {static_cast<int32_t>(types_.size()) - 1};
  }

  // The member's value in a new object is the fallback.
  template <typename Member>
  Attribute attribute(const char* name, Member Self::* member) {
    using Of = detail::AttributeOf<Member>;
    ZlAttribute row{};
    row.name = name;
    row.doc = "";
    row.type = Of::kType;
    row.least = Of::kLeast;
    row.greatest = Of::kGreatest;
    row.greatest_count = std::numeric_limits<uint64_t>::max();
    row.fallback.type = Of::kType;
    if constexpr (Of::kType == kZlFloats) {
      reals_.emplace_back((fallbacks_.*member).begin(), (fallbacks_.*member).end());
      row.fallback.reals = reals_.back().data();
      row.fallback.count = reals_.back().size();
    } else {
      Of::write(fallbacks_.*member, &row.fallback);
    }
    attributes_.push_back(row);
    setters_.push_back(
        [member](Self* self, const ZlValue& value) { Of::read(value, &(self->*member)); });
    return Attribute(*this);
  }

  template <typename... Elements>
  void input(const char* name, Type<Elements...> type, const char* doc = "") {
    inputs_.push_back({name, doc, kZlRequired, type.index});
  }
  template <typename... Elements>
  void optional_input(const char* name, Type<Elements...> type, const char* doc = "") {
    inputs_.push_back({name, doc, kZlOptional, type.index});
  }
  // One or more tensors; the last input.
  template <typename... Elements>
  void variadic_input(const char* name, Type<Elements...> type, const char* doc = "") {
    inputs_.push_back({name, doc, kZlVariadic, type.index});
  }
  template <typename... Elements>
  void output(const char* name, Type<Elements...> type, const char* doc = "") {
    outputs_.push_back({name, doc, kZlRequired, type.index});
  }
  template <typename... Elements>
  void optional_output(const char* name, Type<Elements...> type, const char* doc = "") {
    outputs_.push_back({name, doc, kZlOptional, type.index});
  }

  // The body on the CPU: Self::cpu(const Call&) const, or, with types, the template
  // Self::cpu<Element>, called with the element type that the type has; with two, cpu<A, B>.
  template <typename... Types>
  void cpu(Types... types) {
    cpu_types_ = {types.index...};
    table_.run_cpu = &run_body<detail::CpuBody, &Definition::cpu_types_, Types...>;
  }
  // The body on a GPU, likewise: Self::cuda, which launches its work on call.stream(), waits for
  // nothing, allocates nothing, and returns the status of the launch: 0 for success. TensorRT and
  // CUDA graphs rely on that.
  template <typename... Types>
  void cuda(Types... types) {
    cuda_types_ = {types.index...};
    table_.run_cuda = &run_body<detail::CudaBody, &Definition::cuda_types_, Types...>;
  }

  // The table of Self, filled in once.
  static const ZlOp* table() {
    static const Definition* const made = new Definition(0);  // never freed: hosts keep pointers
    return &made->table_;
  }

 private:
  struct State {
    Self self;
    std::vector<ZlConstant> constants;
  };

  explicit Definition(int) {
    table_.size = sizeof(ZlOp);
    table_.domain = table_.name = table_.doc = "";
    table_.version = 1;
    Self::define(*this);
    table_.types = types_.data();
    table_.type_count = types_.size();
    table_.attributes = attributes_.data();
    table_.attribute_count = attributes_.size();
    table_.inputs = inputs_.data();
    table_.input_count = inputs_.size();
    table_.outputs = outputs_.data();
    table_.output_count = outputs_.size();
    table_.user = this;
    table_.create = &create;
    table_.destroy = [](const ZlOp*, void* state) { delete static_cast<State*>(state); };
    table_.shape = &shape;
    if constexpr (detail::HasScratch<Self>::value) table_.scratch = &scratch;
    if constexpr (detail::HasConstants<Self>::value) table_.constants = &constants;
  }

  static const Self& self_of(const void* state) { return static_cast<const State*>(state)->self; }

  static void* create(const ZlOp* op, const ZlValue* values, ZlFailure* failure) {
    std::unique_ptr<State> made;
    const int32_t failed =
        detail::guarded([&](int32_t code, const char* text) { failure->fail(failure, code, text); },
                        [&] {
                          const auto& definition = *static_cast<const Definition*>(op->user);
                          auto state = std::make_unique<State>();
                          for (size_t i = 0; i < definition.setters_.size(); ++i) {
                            definition.setters_[i](&state->self, values[i]);
                          }
                          if constexpr (detail::HasInit<Self>::value) state->self.init();
                          if constexpr (detail::HasConstants<Self>::value) {
                            state->constants = state->self.constants();
                          }
                          made = std::move(state);
                        });
    return failed != 0 ? nullptr : made.release();
  }

  static int32_t shape(const ZlOp*, const void* state, ZlShapes* host) {
    return detail::guarded(
        [&](int32_t code, const char* text) { host->calls->fail(host, code, text); },
        [&] {
          Shapes shapes(host);
          self_of(state).shape(shapes);
        });
  }

  static uint64_t scratch(const ZlOp*, const void* state, const ZlCall* call, int32_t on_gpu) {
    uint64_t bytes = 0;
    detail::guarded([&](int32_t code, const char* text) { call->fail(call, code, text); },
                    [&] { bytes = self_of(state).scratch(Call(call, on_gpu != 0)); });
    return bytes;
  }

  static uint64_t constants(const ZlOp*, const void* state, const ZlConstant** list) {
    const auto& all = static_cast<const State*>(state)->constants;
    *list = all.data();
    return all.size();
  }

  // The element type that a type has in a call: that of the first required input which has it, or
  // the only one there is.
  DLDataType dtype_in(const ZlCall* call, int32_t type) const {
    for (size_t i = 0; i < inputs_.size() && i < call->input_count; ++i) {
      if (inputs_[i].type == type && call->inputs[i] != nullptr) return call->inputs[i]->dtype;
    }
    return types_[static_cast<size_t>(type)].dtypes[0];
  }

  template <typename Body, std::vector<int32_t> Definition::* kTypes, typename... Types>
  static int32_t run_body(const ZlOp* op, const void* state, const ZlCall* call) {
    return detail::guarded(
        [&](int32_t code, const char* text) { call->fail(call, code, text); },
        [&] {
          const auto& definition = *static_cast<const Definition*>(op->user);
          std::array<DLDataType, sizeof...(Types) + 1> dtypes{};
          for (size_t i = 0; i < sizeof...(Types); ++i) {
            dtypes[i] = definition.dtype_in(call, (definition.*kTypes)[i]);
          }
          if (!detail::run_for<Body>(self_of(state), Call(call), dtypes.data(), Types{0}...)) {
            throw Error("no body for this element type", kZlUnsupported);
          }
        });
  }

  ZlOp table_{};
  Self fallbacks_{};
  std::vector<ZlType> types_;
  std::vector<ZlAttribute> attributes_;
  std::vector<ZlArgument> inputs_;
  std::vector<ZlArgument> outputs_;
  std::vector<int32_t> cpu_types_;
  std::vector<int32_t> cuda_types_;
  std::vector<std::function<void(Self*, const ZlValue&)>> setters_;
  std::deque<std::vector<const char*>> choices_;
  std::deque<std::vector<double>> reals_;
};

// The table of a library of ops; what ZEROLANE_OPS exports.
template <size_t kCount>
const ZlOpLibrary* library(const char* name, const char* version, uint32_t host_abi,
                           const std::array<const ZlOp*, kCount>& tables) {
  static const std::array<const ZlOp*, kCount> kOps = tables;
  static const ZlOpLibrary kLibrary{sizeof(ZlOpLibrary), ZL_OP_ABI,  0, name, version,
                                    kOps.data(),         kOps.size()};
  return host_abi >= ZL_OP_ABI ? &kLibrary : nullptr;
}

template <typename... Ops>
std::array<const ZlOp*, sizeof...(Ops)> tables_of() {
  return {Definition<Ops>::table()...};
}

}  // namespace zerolane::op

#define ZL_EXPORT_OPS(name, version, tables)                                                \
  extern "C" __attribute__((visibility("default"))) const ZlOpLibrary* zerolane_op_library( \
      uint32_t host_abi) {                                                                  \
    return ::zerolane::op::library(name, version, host_abi, tables);                        \
  }

// Exports the ops of a shared library: its name, its version, then the classes. Once a library.
#define ZEROLANE_OPS(name, version, ...) \
  ZL_EXPORT_OPS(name, version, (::zerolane::op::tables_of<__VA_ARGS__>()))
// The same for ops that are defined in several files: then the tables,
// zerolane::op::Definition<Class>::table(), through a function of each file.
#define ZEROLANE_OPS_FROM(name, version, ...) \
  ZL_EXPORT_OPS(name, version, (std::array{__VA_ARGS__}))
