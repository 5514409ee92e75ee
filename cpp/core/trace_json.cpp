// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/trace_events.h"

namespace zerolane::trace {
namespace {

// Ids of rows that are no thread of the system lie above those (2^22 at most).
constexpr int64_t kFirstRowId = int64_t{1} << 24;
constexpr size_t kPiece = size_t{1} << 20;

// The bytes of the UTF-8 sequence at `text`, 0 where it is none.
size_t sequence_length(std::string_view text) {
  auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  auto follows = [&](size_t count) {
    if (text.size() <= count) return false;
    for (size_t i = 1; i <= count; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return false;
    }
    return true;
  };
  unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF && follows(1)) return 2;
  if (lead >= 0xE0 && lead <= 0xEF && follows(2)) {
    bool overlong = lead == 0xE0 && byte(1) < 0xA0;
    bool surrogate = lead == 0xED && byte(1) >= 0xA0;
    return overlong || surrogate ? 0 : 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4 && follows(3)) {
    bool overlong = lead == 0xF0 && byte(1) < 0x90;
    bool above = lead == 0xF4 && byte(1) >= 0x90;
    return overlong || above ? 0 : 4;
  }
  return 0;
}

// Text goes to `sink` in pieces of a megabyte.
class Writer {
 public:
  explicit Writer(const std::function<void(std::string_view)>& sink) : sink_(sink) {
    buffer_.reserve(kPiece + 4096);
  }
  Writer& operator<<(std::string_view text) {
    buffer_ += text;
    if (buffer_.size() >= kPiece) flush();
    return *this;
  }
  Writer& operator<<(int64_t number) {
    char text[24];
    const char* end = std::to_chars(text, text + sizeof(text), number).ptr;
    return *this << std::string_view(text, static_cast<size_t>(end - text));
  }
  // A string of JSON. Bytes that are no UTF-8 become U+FFFD: JSON has no other bytes.
  Writer& quoted(std::string_view text) {
    buffer_ += '"';
    if (std::all_of(text.begin(), text.end(), plain)) [[likely]] {
      buffer_ += text;
    } else {
      escape(text);
    }
    buffer_ += '"';
    return *this;
  }
  // Nanoseconds as microseconds, which the format counts in; exact, where a double would not be.
  Writer& microseconds(int64_t ns) {
    auto rest = static_cast<int>(ns % 1000);
    const char digits[] = {'.', static_cast<char>('0' + rest / 100),
                           static_cast<char>('0' + rest / 10 % 10),
                           static_cast<char>('0' + rest % 10)};
    return *this << ns / 1000 << std::string_view(digits, sizeof(digits));
  }
  void flush() {
    sink_(buffer_);
    buffer_.clear();
  }

 private:
  static bool plain(char c) {
    auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
  }

  void escape(std::string_view text) {
    while (!text.empty()) {
      size_t length = sequence_length(text);
      auto byte = static_cast<unsigned char>(text[0]);
      if (length == 0) {
        buffer_ += "\\ufffd";
        length = 1;
      } else if (byte == '"' || byte == '\\') {
        buffer_ += '\\';
        buffer_ += text[0];
      } else if (byte < 0x20) {
        char code[8];
        std::snprintf(code, sizeof(code), "\\u%04x", byte);
        buffer_ += code;
      } else {
        buffer_ += text.substr(0, length);
      }
      text.remove_prefix(length);
    }
  }

  const std::function<void(std::string_view)>& sink_;
  std::string buffer_;
};

// One track, on as many rows as its spans need to nest.
struct Rows {
  struct Row {
    int64_t id;
    std::vector<int64_t> open;  // ends of the spans around the present moment
  };
  std::vector<Row> rows;
  size_t last = 0;                               // that took a span
  std::vector<size_t> idle;                      // heap, the lowest first
  std::vector<std::pair<int64_t, size_t>> busy;  // heap by the end of what is open outermost
};

void close_before(Rows::Row& row, int64_t now) {
  while (!row.open.empty() && row.open.back() <= now) row.open.pop_back();
}

class Layout {
 public:
  // The row of a span, to be called in order of time.
  int64_t place(const Event& event) {
    Rows& track = rows_of(event.track);
    free_rows(track, event.begin_ns);
    for (size_t i : {size_t{0}, track.last}) {
      Rows::Row& row = track.rows[i];
      close_before(row, event.begin_ns);
      if (!row.open.empty() && event.end_ns <= row.open.back()) return put(track, i, event);
    }
    if (track.idle.empty()) {
      track.idle.push_back(track.rows.size());
      track.rows.push_back({next_id_++, {}});
    }
    std::pop_heap(track.idle.begin(), track.idle.end(), std::greater<>());
    size_t row = track.idle.back();
    track.idle.pop_back();
    track.busy.emplace_back(event.end_ns, row);
    std::push_heap(track.busy.begin(), track.busy.end(), std::greater<>());
    return put(track, row, event);
  }
  // The row with a span around this moment, -1 where there is none. Where several have one, the one
  // that began last counts.
  int64_t around(const Event& event) {
    Rows& track = rows_of(event.track);
    for (size_t i : {track.last, size_t{0}}) {
      Rows::Row& row = track.rows[i];
      while (!row.open.empty() && row.open.back() < event.begin_ns) row.open.pop_back();
      if (!row.open.empty()) return row.id;
    }
    return -1;
  }
  int64_t first(const Event& event) { return rows_of(event.track).rows.front().id; }

  void write_names(Writer& out, std::string_view process, const ThreadNames& threads) const {
    int64_t order = 0;
    for (const Track::Entry* entry : order_) {
      const auto& rows = tracks_.at(entry).rows;
      for (size_t i = 0; i < rows.size(); ++i) {
        auto better = threads.find(entry->thread);
        std::string name = better != threads.end() ? better->second : entry->name;
        if (i > 0) name += " (" + std::to_string(i + 1) + ")";
        out << ",\n{\"ph\":\"M\",\"name\":\"thread_name\"," << process << "\"tid\":" << rows[i].id
            << ",\"args\":{\"name\":";
        out.quoted(name) << "}},\n{\"ph\":\"M\",\"name\":\"thread_sort_index\"," << process
                         << "\"tid\":" << rows[i].id << ",\"args\":{\"sort_index\":" << order++
                         << "}}";
      }
    }
  }

 private:
  static void free_rows(Rows& track, int64_t now) {
    while (!track.busy.empty() && track.busy.front().first <= now) {
      std::pop_heap(track.busy.begin(), track.busy.end(), std::greater<>());
      track.rows[track.busy.back().second].open.clear();
      track.idle.push_back(track.busy.back().second);
      std::push_heap(track.idle.begin(), track.idle.end(), std::greater<>());
      track.busy.pop_back();
    }
  }

  static int64_t put(Rows& track, size_t row, const Event& event) {
    track.rows[row].open.push_back(event.end_ns);
    track.last = row;
    return track.rows[row].id;
  }

  Rows& rows_of(const Track::Entry* entry) {
    auto [found, added] = tracks_.try_emplace(entry);
    if (added) {
      order_.push_back(entry);
      found->second.rows.push_back({entry->thread != 0 ? entry->thread : next_id_++, {}});
      found->second.idle.push_back(0);
    }
    return found->second;
  }

  std::unordered_map<const Track::Entry*, Rows> tracks_;
  std::vector<const Track::Entry*> order_;  // of their first events
  int64_t next_id_ = kFirstRowId;
};

// How often a request is seen, so that the first sight can be written as the start of its arrows
// and the last as their end.
struct Sights {
  uint32_t all = 0;
  uint32_t written = 0;
};

int rank(EventKind kind) {
  // At one moment, what is inside a span comes after it.
  return kind == EventKind::kSpan ? 0 : 1;
}

// An event and its time beside it, so that sorting seldom looks at the event.
struct Timed {
  int64_t begin_ns;
  const Event* event;
};

bool earlier(const Timed& a, const Timed& b) {
  if (a.begin_ns != b.begin_ns) return a.begin_ns < b.begin_ns;
  const Event& first = *a.event;
  const Event& second = *b.event;
  if (rank(first.kind) != rank(second.kind)) return rank(first.kind) < rank(second.kind);
  return first.kind == EventKind::kSpan && first.end_ns > second.end_ns;
}

class TraceWriter {
 public:
  TraceWriter(const std::vector<const Event*>& events, Writer& out)
      : events_(events), out_(out), process_("\"pid\":" + std::to_string(::getpid()) + ",") {}

  void write(const ThreadNames& threads) {
    lay_out();
    for (size_t i = 0; i < events_.size(); ++i) write_event(*events_[i], rows_[i]);
    if (!events_.empty()) layout_.write_names(out_, process_, threads);
  }

 private:
  void lay_out() {
    rows_.reserve(events_.size());
    for (const Event* event : events_) {
      int64_t row = event->kind == EventKind::kSpan   ? layout_.place(*event)
                    : event->kind == EventKind::kStep ? layout_.around(*event)
                                                      : layout_.first(*event);
      rows_.push_back(row);
      if (passes(*event, row)) ++sights_[event->request].all;
    }
  }

  static bool passes(const Event& event, int64_t row) {
    return event.request != 0 && row >= 0 &&
           (event.kind == EventKind::kSpan || event.kind == EventKind::kStep);
  }

  void open(const char* phase, std::string_view name, int64_t row, int64_t ts) {
    out_ << (first_ ? "\n" : ",\n") << "{\"ph\":\"" << phase << "\",\"name\":";
    first_ = false;
    out_.quoted(name) << "," << process_ << "\"tid\":" << row << ",\"ts\":";
    out_.microseconds(ts);
  }

  void write_event(const Event& event, int64_t row) {
    switch (event.kind) {
      case EventKind::kSpan:
        open("X", event.name, row, event.begin_ns);
        out_ << ",\"dur\":";
        out_.microseconds(event.end_ns - event.begin_ns);
        write_arguments(event);
        break;
      case EventKind::kInstant:
        open("i", event.name, row, event.begin_ns);
        out_ << ",\"s\":\"t\"";
        write_arguments(event);
        break;
      case EventKind::kCounter:
        // Viewers tell counters apart by name alone, not by row.
        open("C", event.track->name + ": " + event.name, row, event.begin_ns);
        out_ << ",\"args\":{\"value\":" << event.end_ns << "}}";
        break;
      case EventKind::kStep:
        break;
    }
    if (passes(event, row)) write_flow(event, row);
  }

  void write_arguments(const Event& event) {
    out_ << ",\"args\":{";
    const char* separator = "";
    if (event.subject != nullptr) {
      out_ << "\"subject\":";
      out_.quoted(event.subject);
      separator = ",";
    }
    if (event.bytes >= 0) {
      out_ << separator << "\"bytes\":" << event.bytes;
      separator = ",";
    }
    if (event.request != 0) {
      out_ << separator << "\"request\":" << static_cast<int64_t>(event.request);
    }
    out_ << "}}";
  }

  // An arrow needs two ends: a request seen once has none.
  void write_flow(const Event& event, int64_t row) {
    Sights& sights = sights_.at(event.request);
    if (sights.all < 2) return;
    ++sights.written;
    bool last = sights.written == sights.all;
    open(sights.written == 1 ? "s" : last ? "f" : "t", "request", row, event.begin_ns);
    out_ << ",\"cat\":\"request\",\"id\":" << static_cast<int64_t>(event.request)
         << (last ? ",\"bp\":\"e\"}" : "}");
  }

  const std::vector<const Event*>& events_;
  Writer& out_;
  std::string process_;
  Layout layout_;
  std::vector<int64_t> rows_;  // one an event
  std::unordered_map<uint64_t, Sights> sights_;
  bool first_ = true;
};

}  // namespace

void write_json(std::vector<const Event*> events, size_t dropped, const ThreadNames& threads,
                const std::function<void(std::string_view)>& sink) {
  std::vector<Timed> timed;
  timed.reserve(events.size());
  for (const Event* event : events) timed.push_back({event->begin_ns, event});
  std::stable_sort(timed.begin(), timed.end(), earlier);
  for (size_t i = 0; i < timed.size(); ++i) events[i] = timed[i].event;
  timed = {};
  Writer out(sink);
  out << "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"dropped\":\""
      << static_cast<int64_t>(dropped) << "\"},\"traceEvents\":[";
  TraceWriter(events, out).write(threads);
  out << "\n]}\n";
  out.flush();
}

}  // namespace zerolane::trace
