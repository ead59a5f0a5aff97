#include "controller/passed_files.h"

#include <algorithm>
#include <charconv>
#include <deque>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// While files are on their way, and while there are none.
constexpr milliseconds kBusy{2}, kIdle{20}, kNothing{1000};
/// What may come before an agent's answer: a login script's words, hello, the reply.
constexpr std::size_t kOpeningLimit = 64U << 10U;
/// A line that says how many bytes follow.
constexpr std::size_t kHeadLimit = 20;

}  // namespace

// ---- PassedFiles

std::optional<PassedFiles::Taking> PassedFiles::want(const std::string& sha256) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(sha256);
  if (found == files_.end()) {
    files_[sha256].source = ++sources_;
    return std::nullopt;
  }
  found->second.wanted.insert(0);
  return Taking{sha256, found->second.source};
}

void PassedFiles::end_source(const std::string& sha256) {
  const std::lock_guard lock(mutex_);
  files_.erase(sha256);
}

std::vector<std::uint64_t> PassedFiles::to_ask(const std::string& sha256) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(sha256);
  std::vector<std::uint64_t> numbers;
  if (found == files_.end() || found->second.wanted.empty()) return numbers;
  File& file = found->second;
  const std::set<std::uint64_t> places(file.wanted.begin(), file.wanted.end());
  const std::size_t ahead = std::max<std::size_t>(1, kBlocksOnTheWay / places.size());
  for (const std::uint64_t first : places) {
    for (std::uint64_t number = first; number < first + ahead; ++number) {
      if (!file.blocks.contains(number) && file.asked.insert(number).second) numbers.push_back(number);
    }
  }
  return numbers;
}

void PassedFiles::came(const std::string& sha256, std::uint64_t number, std::string bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(sha256);
  if (found == files_.end()) return;
  File& file = found->second;
  file.last_came = now_();
  file.is_silent = false;
  file.asked.erase(number);
  file.blocks[number] = std::make_shared<const std::string>(std::move(bytes));
  file.order.push_back(number);
  tidy(file);
}

/// Lets go of what everybody has, and of what has been there for longest.
void PassedFiles::tidy(File& file) {
  const std::uint64_t last = file.wanted.empty() ? UINT64_MAX : *file.wanted.begin();
  std::erase_if(file.order, [&](std::uint64_t number) { return number < last && file.blocks.erase(number) == 1; });
  for (; file.order.size() > kBlocksKept; file.order.pop_front()) file.blocks.erase(file.order.front());
}

Result<PassedFiles::Block> PassedFiles::next(Taking& taking) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(taking.sha256);
  if (found == files_.end() || found->second.source != taking.source)
    return fail(ErrorCode::unreachable, "the host that had the file does not give it any more");
  File& file = found->second;
  const auto block = file.blocks.find(taking.next);
  if (block == file.blocks.end()) {
    const Time now = now_();
    if (!taking.waits_since) taking.waits_since = now;
    // Who is slow finds that nothing has come for long, and who waits behind others that it is others' blocks that come.
    if (now - std::max(*taking.waits_since, file.last_came.value_or(*taking.waits_since)) > kSourceSilence) file.is_silent = true;
    if (file.is_silent) return fail(ErrorCode::unreachable, "the host that had the file gives nothing any more");
    return Block();
  }
  taking.waits_since.reset();
  Block got = block->second;
  if (got->empty()) return got;
  file.wanted.erase(file.wanted.find(taking.next));
  file.wanted.insert(++taking.next);
  tidy(file);
  return got;
}

void PassedFiles::end_taking(const Taking& taking) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(taking.sha256);
  if (found == files_.end() || found->second.source != taking.source) return;
  const auto at = found->second.wanted.find(taking.next);
  if (at != found->second.wanted.end()) found->second.wanted.erase(at);
  tidy(found->second);
}

// ---- HostSharing

struct HostSharing::Talk {
  std::string sha256;
  std::optional<PassedFiles::Taking> taking;  ///< none: this host gives
  std::unique_ptr<ShareChannel> channel;
  bool is_open = false;  ///< the agent has answered
  std::string came{};
  PassedFiles::Block unsent{};  ///< of which the first `sent` bytes are written
  std::size_t sent = 0;
  bool ended = false;  ///< all is sent
  std::deque<std::uint64_t> asked{};
  std::optional<std::size_t> length{};  ///< of the block that comes
  Clock::time_point last_asked = Clock::now();
};

HostSharing::HostSharing(std::shared_ptr<PassedFiles> files, Open open, std::function<void()> refuse)
    : files_(std::move(files)), open_(std::move(open)), refuse_(std::move(refuse)) {}

HostSharing::~HostSharing() {
  for (const auto& talk : talks_) end(*talk);
}

bool HostSharing::gives() const {
  return std::any_of(talks_.begin(), talks_.end(), [](const auto& talk) { return !talk->taking; });
}

void HostSharing::end(const Talk& talk) {
  if (talk.taking)
    files_->end_taking(*talk.taking);
  else
    files_->end_source(talk.sha256);
}

void HostSharing::begin(const std::string& sha256) {
  auto talk = std::make_unique<Talk>(Talk{sha256, files_->want(sha256), nullptr});
  Result<std::unique_ptr<ShareChannel>> channel = open_({talk->taking ? ShareRequest::How::take : ShareRequest::How::give, sha256});
  if (!channel) {
    end(*talk);
    return refuse_();
  }
  talk->channel = *std::move(channel);
  talks_.push_back(std::move(talk));
}

milliseconds HostSharing::pump() {
  for (const std::string& sha256 : std::exchange(wanted_, {})) begin(sha256);
  bool has_moved = false;
  for (std::size_t i = 0; i < talks_.size();) {
    Talk& talk = *talks_[i];
    const Result<bool> moved = move(talk);
    if (moved) {
      has_moved = has_moved || *moved;
      ++i;
      continue;
    }
    end(talk);
    // Nobody has spoken with the step that waits; it learns so by another way.
    const bool was_heard = talk.is_open;
    talks_.erase(talks_.begin() + static_cast<std::ptrdiff_t>(i));
    if (!was_heard) refuse_();
  }
  return talks_.empty() ? kNothing : has_moved ? kBusy : kIdle;
}

/// Whether anything has moved; an error where the talk is over, well or not.
Result<bool> HostSharing::move(Talk& talk) {
  const Result<std::size_t> got = talk.channel->read(talk.came);
  if (!got) return fail(got.error());
  if (*got == 0 && talk.channel->at_end()) return fail(ErrorCode::cancelled, "the agent has ended");
  bool moved = *got > 0;
  for (std::size_t end = 0; !talk.is_open && (end = talk.came.find('\n')) != std::string::npos; talk.came.erase(0, end + 1)) {
    const std::string_view line = std::string_view(talk.came).substr(0, end);
    talk.is_open = line.starts_with(R"({"reply":)");
    if (talk.is_open && line.find(R"("error":)") != std::string_view::npos) {
      talk.is_open = false;
      return fail(ErrorCode::not_found, "no step waits for the file there");
    }
  }
  if (!talk.is_open && talk.came.size() > kOpeningLimit) return fail(ErrorCode::protocol, "words without end");
  if (!talk.is_open) return moved;
  const Result<bool> more = talk.taking ? take(talk) : give(talk);
  if (!more) return more;
  moved = moved || *more;
  while (talk.unsent && talk.sent < talk.unsent->size()) {
    const Result<std::size_t> put = talk.channel->write(std::string_view(*talk.unsent).substr(talk.sent));
    if (!put) return fail(put.error());
    if (*put == 0) return moved;
    moved = true;
    talk.sent += *put;
  }
  talk.unsent.reset();
  talk.sent = 0;
  return moved;
}

Result<bool> HostSharing::give(Talk& talk) {
  bool moved = false;
  while (true) {
    if (!talk.length) {
      const std::size_t end = talk.came.find('\n');
      if (end == std::string::npos && talk.came.size() <= kHeadLimit) break;
      std::size_t length = 0;
      const char* head = talk.came.data();
      if (end > kHeadLimit || std::from_chars(head, head + end, length).ptr != head + end || length > kShareBlock || talk.asked.empty())
        return fail(ErrorCode::protocol, "the agent gives what was not asked for");
      talk.length = length;
      talk.came.erase(0, end + 1);
    }
    if (talk.came.size() < *talk.length) break;
    std::string rest = talk.came.substr(*talk.length);
    talk.came.resize(*talk.length);
    files_->came(talk.sha256, talk.asked.front(), std::exchange(talk.came, std::move(rest)));
    talk.asked.pop_front();
    talk.length.reset();
    moved = true;
  }
  if (talk.unsent) return moved;
  std::string asks;
  for (const std::uint64_t number : files_->to_ask(talk.sha256)) {
    asks += std::to_string(number * kShareBlock) + "\n";
    talk.asked.push_back(number);
  }
  const Clock::time_point now = Clock::now();
  if (asks.empty() && now - talk.last_asked > kHeartbeat) asks = "\n";
  if (asks.empty()) return moved;
  talk.last_asked = now;
  talk.unsent = std::make_shared<const std::string>(std::move(asks));
  return moved;
}

Result<bool> HostSharing::take(Talk& talk) {
  talk.came.clear();  // it has nothing to say
  if (talk.ended || talk.unsent) return false;
  const Result<PassedFiles::Block> block = files_->next(*talk.taking);
  if (block && *block == nullptr) return false;
  if (block && !(*block)->empty()) {
    talk.unsent = *block;
    return true;
  }
  // The whole file, or as much as there is: the host knows by the digest.
  talk.ended = true;
  talk.channel->send_end();
  return true;
}

}  // namespace gpustrap
