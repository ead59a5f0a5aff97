#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "controller/copy_plan.h"

namespace gpustrap {

// What lies below a folder, here and on a host. The host's commands are one text of host_shell.h each, for any login shell, without quote,
// exclamation mark or backslash inside; names come on their standard input, so that they are no part of a command.

/// How a host's tools want to be asked.
enum class HostTools {
  gnu,
  plain,  ///< busybox's and others: no -printf of find's, no -T of tar's
};
/// So many files, of paths so long in all, may be asked for at once.
struct BatchLimits {
  std::size_t files, path_bytes;
};
[[nodiscard]] BatchLimits batch_limits(HostTools tools);

struct HostListing {
  bool exists = false;
  bool is_file = false;  ///< a single file (or link to one): `tree` has it alone, under its name
  HostTools tools = HostTools::gnu;
  CopyTree tree;
  std::vector<std::string> refused;            ///< names that cannot be had, as they may be shown
  std::map<std::string, std::uint64_t> parts;  ///< what earlier copies have left there, with their sizes
};

/// Lists a path, and what is below it; its input is listing_input().
[[nodiscard]] std::string listing_text();
[[nodiscard]] std::string listing_input(const std::string& path, const std::string& nonce);
/// What it printed for `path`. Errors: protocol for something else altogether, unsupported for more than a million names.
[[nodiscard]] Result<HostListing> read_listing(std::string_view said, const std::string& path, const std::string& nonce);
/// What its tools could not list, as they said it on their errors' output, and why that is no whole listing.
struct ListingComplaint {
  std::string line, why;
};
[[nodiscard]] std::vector<ListingComplaint> listing_complaints(std::string_view said);

/// Sends the files that are named on its input, as tar, from the folder of the first line; digests_text(): their SHA-256.
[[nodiscard]] std::string send_text(HostTools tools);
[[nodiscard]] std::string send_input(const std::string& folder, const std::vector<std::string>& paths, HostTools tools);
/// Sends one file from a byte on.
[[nodiscard]] std::string send_rest_text();
[[nodiscard]] std::string send_rest_input(const std::string& folder, const std::string& path, std::uint64_t from);
[[nodiscard]] std::string digests_text();
[[nodiscard]] std::string paths_input(const std::string& folder, const std::vector<std::string>& paths);
/// By path; what is no digest of anything is passed over.
[[nodiscard]] std::map<std::string, std::string> read_digests(std::string_view said);

/// Makes the folder and takes tar from behind the two lines of its input into a new folder in it.
[[nodiscard]] std::string take_text();
[[nodiscard]] std::string take_input(const std::string& folder, const std::string& stage);
/// Adds what follows its input's three lines to a file of exactly so many bytes.
[[nodiscard]] std::string take_rest_text();
[[nodiscard]] std::string take_rest_input(const std::string& folder, const std::string& path, std::uint64_t from);
/// Makes folders, then moves files to their names, gives modes, then removes what is to go and the stage, and says `moved`. What did not go
/// is said by its number, folders first: `failed 3`; `taken 3` where something stands in the place of a new file.
struct HostMoves {
  struct File {
    std::string from, to;
    std::optional<CopyEntry> part;  ///< mode and time that it has not got yet
    bool is_new = false;            ///< nothing stood there when it was decided, and nothing is replaced
  };
  std::vector<std::pair<unsigned, std::string>> folders;  ///< mode, path
  std::vector<File> files;
  std::vector<std::pair<std::string, unsigned>> modes;  ///< of files that stay where they are
  std::vector<std::string> removed;
};
[[nodiscard]] std::string move_text();
[[nodiscard]] std::string move_input(const std::string& folder, const std::string& stage, const HostMoves& moves);

/// The same of this machine. `path` may be a link to a folder or a file; with `names`, these in it alone. Errors: not_found, io.
struct LocalListing {
  bool is_file = false;
  CopyTree tree;
  std::map<std::string, std::uint64_t> parts;
  std::vector<std::string> refused;
};
[[nodiscard]] Result<LocalListing> list_here(const std::string& path, const std::vector<std::string>& names = {});

}  // namespace gpustrap
