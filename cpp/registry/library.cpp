// SPDX-License-Identifier: Apache-2.0
#include "registry/library.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "core/dynlib.h"
#include "core/error.h"

namespace zerolane {
namespace {

// Nothing real has more; a damaged table may.
constexpr uint64_t kMostRows = 1 << 12;

std::string real_path(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  std::string out = real != nullptr ? real : path;
  std::free(real);
  return out;
}

// Builds an entry from a table, or says which rule of the contract it breaks.
class Reader {
 public:
  Reader(const ZlOp* op, std::string doing) : op_(op), doing_(std::move(doing)) {}

  std::unique_ptr<OpEntry> read() {
    if (op_ == nullptr) refuse("a null pointer stands among its ops");
    if (op_->size < sizeof(ZlOp)) {
      refuse("a table is " + std::to_string(op_->size) + " bytes long");
    }
    auto entry = std::make_unique<OpEntry>();
    entry->table = op_;
    entry->op = text(op_->name, "the name of an op");
    entry->domain = text(op_->domain, "the domain of op " + entry->op);
    entry->name = entry->domain + "::" + entry->op;
    entry->version = op_->version;
    what_ = entry->name;
    if (op_->version < 1) refuse(what_ + " has version " + std::to_string(op_->version));
    if (op_->create == nullptr || op_->destroy == nullptr || op_->shape == nullptr) {
      refuse(what_ + " lacks create, destroy or shape");
    }
    if (op_->run_cpu == nullptr && op_->run_cuda == nullptr) refuse(what_ + " has no body");
    read_types(entry.get());
    read_arguments(entry.get(), op_->inputs, op_->input_count, true, &entry->inputs);
    read_arguments(entry.get(), op_->outputs, op_->output_count, false, &entry->outputs);
    if (entry->outputs.empty()) refuse(what_ + " has no output");
    check_attributes();
    decide_types(entry.get());
    return entry;
  }

 private:
  [[noreturn]] void refuse(const std::string& found) const {
    throw make_error(Code::kInvalidArgument, doing_, found,
                     "build the library with zerolane/op.h, which keeps the contract", what_);
  }

  std::string text(const char* given, const std::string& what) const {
    if (given == nullptr || *given == '\0') refuse(what + " is empty");
    for (const char* c = given; *c != '\0'; ++c) {
      const bool fine = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                        (*c >= '0' && *c <= '9') || *c == '_' || *c == '.' || *c == '-';
      if (!fine) refuse(what + " is '" + given + "', expected letters, digits, '_', '.' and '-'");
    }
    return given;
  }

  template <typename Row>
  void check_rows(const Row* rows, uint64_t count, const char* what) const {
    if (count > kMostRows || (count > 0 && rows == nullptr)) {
      refuse(what_ + " has a table of " + std::to_string(count) + " " + what);
    }
  }

  void read_types(OpEntry* entry) const {
    check_rows(op_->types, op_->type_count, "types");
    for (uint64_t i = 0; i < op_->type_count; ++i) {
      const ZlType& type = op_->types[i];
      check_rows(type.dtypes, type.dtype_count, "element types");
      std::vector<DType> dtypes;
      for (uint64_t k = 0; k < type.dtype_count; ++k) {
        const std::optional<DType> dtype = from_dlpack(type.dtypes[k]);
        if (!dtype || !is_plain(*dtype)) {
          refuse(what_ + " takes an element type that zerolane does not know");
        }
        dtypes.push_back(*dtype);
      }
      if (dtypes.empty()) refuse(what_ + " has a type without element types");
      entry->types.push_back(std::move(dtypes));
    }
  }

  void read_arguments(OpEntry* entry, const ZlArgument* rows, uint64_t count, bool inputs,
                      std::vector<OpEntry::Argument>* out) const {
    check_rows(rows, count, inputs ? "inputs" : "outputs");
    bool optional = false;
    for (uint64_t i = 0; i < count; ++i) {
      const ZlArgument& row = rows[i];
      const std::string what = what_ + (inputs ? " input " : " output ") + std::to_string(i);
      const std::string name = text(row.name, "the name of " + what);
      if (row.type < 0 || static_cast<uint64_t>(row.type) >= entry->types.size()) {
        refuse(what + " has type " + std::to_string(row.type));
      }
      const bool last_variadic = inputs && row.kind == kZlVariadic && i + 1 == count;
      if (row.kind != kZlRequired && row.kind != kZlOptional && !last_variadic) {
        refuse(what + " is of kind " + std::to_string(row.kind) +
               " (only the last input may be variadic)");
      }
      if (optional && row.kind == kZlRequired && !inputs) {
        refuse(what + " is required behind an optional one");
      }
      optional |= row.kind == kZlOptional;
      out->push_back({name, row.kind, static_cast<size_t>(row.type)});
    }
  }

  void check_attributes() const {
    check_rows(op_->attributes, op_->attribute_count, "attributes");
    for (uint64_t i = 0; i < op_->attribute_count; ++i) {
      const ZlAttribute& row = op_->attributes[i];
      const std::string name = text(row.name, "the name of an attribute of " + what_);
      if (row.type < kZlInt || row.type > kZlFloats || row.fallback.type != row.type) {
        refuse(what_ + " has attribute '" + name + "' of type " + std::to_string(row.type));
      }
      const ZlValue& value = row.fallback;
      if (value.count > kMostRows ||
          (value.count > 0 && value.integers == nullptr && value.reals == nullptr) ||
          (row.type == kZlString && value.text == nullptr)) {
        refuse(what_ + " has no usable fallback for attribute '" + name + "'");
      }
      check_rows(row.choices, row.choice_count, "choices");
    }
  }

  void decide_types(OpEntry* entry) const {
    for (size_t type = 0; type < entry->types.size(); ++type) {
      size_t by = 0;
      while (by < entry->inputs.size() &&
             (entry->inputs[by].type != type || entry->inputs[by].kind == kZlOptional)) {
        ++by;
      }
      if (by == entry->inputs.size() && entry->types[type].size() > 1) {
        refuse(what_ + " has type '" + op_->types[type].name +
               "' of several element types that no required input decides");
      }
      entry->decided_by.push_back(by);
    }
  }

  const ZlOp* op_;
  std::string doing_;
  std::string what_ = "ops";
};

struct Registry {
  std::mutex mutex;  // guards the members below; what they point to never changes
  std::map<std::string, std::unique_ptr<OpLibrary>> files;  // by real path
  std::vector<std::unique_ptr<OpLibrary>> own;
  std::vector<std::unique_ptr<OpEntry>> entries;
  std::map<std::pair<std::string, int>, const OpEntry*> by_name;
};
Registry& registry() {
  static auto* made = new Registry;  // never destroyed: sessions and threads may outlive statics
  return *made;
}
std::atomic<uint64_t> g_generation{0};

// Reads all ops before any is registered. The caller holds the lock.
std::unique_ptr<OpLibrary> read_library(const ZlOpLibrary& table, const std::string& path,
                                        bool replace, const std::string& doing) {
  Registry& all = registry();
  auto library = std::make_unique<OpLibrary>();
  library->path = path;
  library->name = table.name != nullptr ? table.name : "";
  library->version = table.version != nullptr ? table.version : "";
  if (table.op_count > kMostRows || (table.op_count > 0 && table.ops == nullptr)) {
    throw make_error(Code::kInvalidArgument, doing,
                     "it has a table of " + std::to_string(table.op_count) + " ops",
                     "build the library with zerolane/op.h", path);
  }
  std::vector<std::unique_ptr<OpEntry>> entries;
  std::map<std::pair<std::string, int>, bool> seen;
  for (uint64_t i = 0; i < table.op_count; ++i) {
    entries.push_back(Reader(table.ops[i], doing).read());
    OpEntry& entry = *entries.back();
    entry.library = library.get();
    const auto key = std::pair(entry.name, entry.version);
    auto found = all.by_name.find(key);
    const bool taken =
        found != all.by_name.end() && !(replace && found->second->library->path.empty());
    if (taken || seen.count(key) > 0) {
      const std::string by = taken ? found->second->library->path : path;
      throw make_error(Code::kInvalidArgument, doing,
                       "it defines " + entry.name + " version " + std::to_string(entry.version) +
                           ", which " + (by.empty() ? "this process" : "'" + by + "'") +
                           " has defined already",
                       "use one of the two, or give it a domain or version of its own", entry.name);
    }
    seen[key] = true;
  }
  for (auto& entry : entries) {
    library->ops.push_back(entry.get());
    all.by_name[{entry->name, entry->version}] = entry.get();
    all.entries.push_back(std::move(entry));
  }
  g_generation.fetch_add(1, std::memory_order_release);
  return library;
}

}  // namespace

size_t OpEntry::least_inputs() const {
  size_t least = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].kind != kZlOptional) least = i + 1;
  }
  return least;
}

const OpLibrary& load_op_library(const std::string& path) {
  const std::string doing = "loading op library '" + path + "'";
  std::lock_guard lock(registry().mutex);
  const std::string real = real_path(path);
  auto found = registry().files.find(real);
  if (found != registry().files.end()) return *found->second;
  const DynLib file = DynLib::open(real.find('/') == std::string::npos ? "./" + real : real);
  const auto get = reinterpret_cast<ZlOpLibraryFunction>(file.find(ZL_OP_LIBRARY_SYMBOL));
  if (get == nullptr) {
    throw make_error(Code::kUnavailable, doing,
                     "it has no symbol " ZL_OP_LIBRARY_SYMBOL ", so it is no library of ops",
                     "end one of its sources with ZEROLANE_OPS(name, version, ...)", path);
  }
  const ZlOpLibrary* table = get(ZL_OP_ABI);
  if (table == nullptr || table->abi > ZL_OP_ABI || table->abi < 1 ||
      table->size < sizeof(ZlOpLibrary)) {
    throw make_error(
        Code::kUnavailable, doing,
        "it was built for version " +
            (table == nullptr ? std::string("(unknown)") : std::to_string(table->abi)) +
            " of the op contract, this zerolane knows version " + std::to_string(ZL_OP_ABI),
        "build it again with this zerolane's headers, or install a newer zerolane", path);
  }
  auto& kept = registry().files[real];
  try {
    kept = read_library(*table, real, /*replace=*/false, doing);
  } catch (...) {
    registry().files.erase(real);
    throw;
  }
  return *kept;
}

const OpLibrary& register_ops(const ZlOpLibrary& table) {
  std::lock_guard lock(registry().mutex);
  const std::string name = table.name != nullptr ? table.name : "";
  registry().own.push_back(
      read_library(table, "", /*replace=*/true, "registering the ops of " + name));
  return *registry().own.back();
}

const OpEntry* find_op(std::string_view name, int version) {
  std::lock_guard lock(registry().mutex);
  auto& by_name = registry().by_name;
  auto found = by_name.upper_bound({std::string(name), version});
  if (found == by_name.begin()) return nullptr;
  --found;
  return found->first.first == name ? found->second : nullptr;
}

namespace {
std::atomic<void (*)(const std::string& domain)> g_resolver{nullptr};
}  // namespace

void set_op_resolver(void (*find)(const std::string& domain)) noexcept { g_resolver.store(find); }

const OpEntry* resolve_op(const std::string& name, int version) {
  const OpEntry* found = find_op(name, version);
  const auto resolver = g_resolver.load();
  if (found != nullptr || resolver == nullptr) return found;
  resolver(name.substr(0, name.find("::")));
  return find_op(name, version);
}

std::vector<const OpEntry*> ops_of(std::string_view domain) {
  std::lock_guard lock(registry().mutex);
  std::vector<const OpEntry*> found;
  for (const auto& [key, entry] : registry().by_name) {
    if (domain.empty() || entry->domain == domain) found.push_back(entry);
  }
  return found;
}

std::vector<const OpLibrary*> op_libraries() {
  std::lock_guard lock(registry().mutex);
  std::vector<const OpLibrary*> found;
  for (const auto& [path, library] : registry().files) found.push_back(library.get());
  for (const auto& library : registry().own) found.push_back(library.get());
  return found;
}

uint64_t op_generation() noexcept { return g_generation.load(std::memory_order_acquire); }

}  // namespace zerolane
