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
/// A line that says which bytes follow, and how many.
constexpr std::size_t kHeadLimit = 40;

}  // namespace

// ---- PassedFiles

PassedFiles::File* PassedFiles::find(const std::string& sha256, std::uint64_t source) {
  const auto found = files_.find(sha256);
  return found == files_.end() || found->second.source != source ? nullptr : &found->second;
}

std::variant<PassedFiles::Giving, PassedFiles::Taking> PassedFiles::want(const std::string& sha256, std::uint64_t have) {
  const std::lock_guard lock(mutex_);
  const auto [found, is_new] = files_.try_emplace(sha256);
  File& file = found->second;
  if (is_new) {
    file.source = ++sources_;
    return Giving{sha256, file.source};
  }
  const std::uint64_t next = have > kLargestFile ? 0 : have / kShareBlock;
  file.wanted.insert(next);
  return Taking{sha256, file.source, next};
}

void PassedFiles::end_source(const Giving& giving) {
  const std::lock_guard lock(mutex_);
  if (find(giving.sha256, giving.source) != nullptr) files_.erase(giving.sha256);
}

Result<std::vector<std::uint64_t>> PassedFiles::to_ask(const Giving& giving) {
  const std::lock_guard lock(mutex_);
  File* file = find(giving.sha256, giving.source);
  if (file == nullptr) return fail(ErrorCode::cancelled, "another host gives the file");
  std::vector<std::uint64_t> numbers;
  const std::set<std::uint64_t> places(file->wanted.begin(), file->wanted.end());
  const std::size_t ahead = std::max<std::size_t>(1, kBlocksOnTheWay / std::max<std::size_t>(1, places.size()));
  for (const std::uint64_t first : places) {
    for (std::uint64_t number = first; number < first + ahead; ++number) {
      if (!file->blocks.contains(number) && file->asked.insert(number).second) numbers.push_back(number);
    }
  }
  return numbers;
}

void PassedFiles::came(const Giving& giving, std::uint64_t number, std::string bytes) {
  const std::lock_guard lock(mutex_);
  File* file = find(giving.sha256, giving.source);
  if (file == nullptr) return;
  file->given += bytes.size();
  file->asked.erase(number);
  file->blocks[number] = std::make_shared<const std::string>(std::move(bytes));
  file->order.push_back(number);
  tidy(*file);
}

/// Lets go of what everybody has, and of what has been there for longest.
void PassedFiles::tidy(File& file) {
  const std::uint64_t last = file.wanted.empty() ? UINT64_MAX : *file.wanted.begin();
  std::erase_if(file.order, [&](std::uint64_t number) { return number < last && file.blocks.erase(number) == 1; });
  for (; file.order.size() > kBlocksKept; file.order.pop_front()) file.blocks.erase(file.order.front());
}

/// Each wait ends by a block, so that who is slow itself, and waits for moments, is not what this finds.
bool PassedFiles::is_too_slow(File& file) const {
  const Time now = now_();
  if (file.waited + (now - file.waiting_since) <= kPatience) return false;
  if (file.given < kLeastGiven) return true;
  file.given = 0;
  file.waited = {};
  file.waiting_since = now;
  return false;
}

void PassedFiles::stop_waiting(File& file, Taking& taking) const {
  if (std::exchange(taking.waits, false) && --file.waiting == 0) file.waited += now_() - file.waiting_since;
}

Result<PassedFiles::Block> PassedFiles::next(Taking& taking) {
  const std::lock_guard lock(mutex_);
  File* file = find(taking.sha256, taking.source);
  if (file == nullptr) return fail(ErrorCode::unreachable, "the host that had the file does not give it any more");
  const auto block = file->blocks.find(taking.next);
  if (block == file->blocks.end()) {
    if (!std::exchange(taking.waits, true) && file->waiting++ == 0) file->waiting_since = now_();
    if (!is_too_slow(*file)) return Block();
    files_.erase(taking.sha256);
    return fail(ErrorCode::unreachable, "the host that had the file gives it too slowly");
  }
  stop_waiting(*file, taking);
  Block got = block->second;
  if (got->empty()) return got;
  file->wanted.erase(file->wanted.find(taking.next));
  file->wanted.insert(++taking.next);
  tidy(*file);
  return got;
}

void PassedFiles::end_taking(Taking& taking) {
  const std::lock_guard lock(mutex_);
  File* file = find(taking.sha256, taking.source);
  if (file == nullptr) return;
  stop_waiting(*file, taking);
  if (const auto at = file->wanted.find(taking.next); at != file->wanted.end()) file->wanted.erase(at);
  tidy(*file);
}

// ---- HostSharing

struct HostSharing::Talk {
  std::variant<PassedFiles::Giving, PassedFiles::Taking> part;
  std::unique_ptr<ShareChannel> channel;
  bool is_open = false;  ///< the agent has answered
  std::string came{};
  PassedFiles::Block unsent{};  ///< of which the first `sent` bytes are written
  std::size_t sent = 0;
  bool ended = false;  ///< all is sent
  std::set<std::uint64_t> asked{};
  std::optional<std::pair<std::uint64_t, std::size_t>> coming{};  ///< a block's number and length
  Clock::time_point last_asked = Clock::now();
};

HostSharing::HostSharing(std::shared_ptr<PassedFiles> files, Open open, std::function<void()> refuse)
    : files_(std::move(files)), open_(std::move(open)), refuse_(std::move(refuse)) {}

HostSharing::~HostSharing() {
  for (const auto& talk : talks_) end(*talk);
}

bool HostSharing::gives() const {
  return std::any_of(talks_.begin(), talks_.end(),
                     [](const auto& talk) { return std::holds_alternative<PassedFiles::Giving>(talk->part); });
}

void HostSharing::end(Talk& talk) {
  if (auto* taking = std::get_if<PassedFiles::Taking>(&talk.part))
    files_->end_taking(*taking);
  else
    files_->end_source(std::get<PassedFiles::Giving>(talk.part));
}

void HostSharing::wanted(const std::string& sha256, std::uint64_t have) {
  if (!wishes_.contains(sha256) && wishes_.size() == kMostFiles) {
    refuses_ = true;
    return;
  }
  Wish& wish = wishes_[sha256];
  if (++wish.asked > kMostAsks)
    refuses_ = true;
  else
    wish.have = have;
}

bool HostSharing::is_taken(const std::string& sha256) {
  for (auto& talk : talks_) {
    const auto* taking = std::get_if<PassedFiles::Taking>(&talk->part);
    if (taking == nullptr || taking->sha256 != sha256) continue;
    if (!talk->ended) return true;
    end(*talk);
    talks_.erase(std::find(talks_.begin(), talks_.end(), talk));
    return false;
  }
  return false;
}

void HostSharing::begin(const std::string& sha256, std::uint64_t have) {
  auto talk = std::make_unique<Talk>(Talk{files_->want(sha256, have), nullptr});
  ShareRequest request{ShareRequest::How::give, sha256};
  if (const auto* taking = std::get_if<PassedFiles::Taking>(&talk->part)) {
    request.how = ShareRequest::How::take;
    request.from = taking->next * kShareBlock;
  }
  Result<std::unique_ptr<ShareChannel>> channel = open_(request);
  if (!channel) {
    end(*talk);
    return refuse_();
  }
  talk->channel = *std::move(channel);
  talks_.push_back(std::move(talk));
}

milliseconds HostSharing::pump() {
  if (std::exchange(refuses_, false)) refuse_();
  // An agent that still takes to a step that is gone notices soon; until then who asks again waits.
  for (auto& [sha256, wish] : wishes_) {
    if (wish.have && !is_taken(sha256)) begin(sha256, *std::exchange(wish.have, std::nullopt));
  }
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
  const Result<bool> more = std::holds_alternative<PassedFiles::Taking>(talk.part) ? take(talk) : give(talk);
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
  const auto& giving = std::get<PassedFiles::Giving>(talk.part);
  bool moved = false;
  while (true) {
    if (!talk.coming) {
      const std::size_t end = talk.came.find('\n');
      if (end == std::string::npos && talk.came.size() <= kHeadLimit) break;
      std::uint64_t from = 0;
      std::size_t length = 0;
      const char* head = talk.came.data();
      const char* stop = head + std::min(end, kHeadLimit + 1);
      const char* space = std::from_chars(head, stop, from).ptr;
      if (end > kHeadLimit || space == stop || *space != ' ' || std::from_chars(space + 1, stop, length).ptr != stop ||
          length > kShareBlock || from % kShareBlock != 0 || talk.asked.erase(from / kShareBlock) == 0)
        return fail(ErrorCode::protocol, "the agent gives what was not asked for");
      talk.coming = {from / kShareBlock, length};
      talk.came.erase(0, end + 1);
    }
    const auto [number, length] = *talk.coming;
    if (talk.came.size() < length) break;
    std::string rest = talk.came.substr(length);
    talk.came.resize(length);
    files_->came(giving, number, std::exchange(talk.came, std::move(rest)));
    talk.coming.reset();
    moved = true;
  }
  const Result<std::vector<std::uint64_t>> numbers = talk.unsent ? std::vector<std::uint64_t>() : files_->to_ask(giving);
  if (!numbers) return fail(numbers.error());
  if (talk.unsent) return moved;
  std::string asks;
  for (const std::uint64_t number : *numbers) {
    asks += std::to_string(number * kShareBlock) + "\n";
    talk.asked.insert(number);
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
  const Result<PassedFiles::Block> block = files_->next(std::get<PassedFiles::Taking>(talk.part));
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
