#include "controller/copy_listing.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/host_shell.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMostNames = 1'000'000, kMostRefused = 100;
constexpr std::uint64_t kLargest = std::uint64_t{1} << 60U;
constexpr std::string_view kBegin = "gpustrap-list";
constexpr unsigned kPermissions = 0777;

/// Every text begins so: a line of input is a path in the words of printf's %b, and what is relative is so to the login's home.
constexpr std::string_view kPrelude = "LC_ALL=C; export LC_ALL; cd || exit 9; IFS=; read -r l; p=$(printf %b \"$l\"_); p=${p%_}; ";
/// Reads a name into q: behind + as it is, behind % as printf has it. What is plain costs no process.
constexpr std::string_view kReadName = "read -r l && case $l in %*) q=$(printf %b \"${l#%}\"_); q=${q%_};; *) q=${l#+};; esac";

std::string text_of(std::string_view what) { return fmt::format("{}{}{}'", kHostShell, kPrelude, what); }

/// For printf's %b: letters, digits and a few marks as they are, all else in octal.
std::string escaped(std::string_view path) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/+=,:@";
  std::string text;
  for (const char c : path) {
    if (kPlain.find(c) != std::string_view::npos)
      text += c;
    else
      text += fmt::format("\\0{:03o}", static_cast<unsigned>(static_cast<unsigned char>(c)));
  }
  return text;
}

/// A line for kReadName; "./" before it keeps a leading dash from being an option.
std::string name_line(const std::string& path) {
  const std::string text = escaped("./" + path);
  return (text.size() == path.size() + 2 ? "+" : "%") + text + "\n";
}

std::string folder_line(const std::string& path) {
  const bool is_plain = path.starts_with('/') || path.starts_with("./") || path == ".";
  return escaped(is_plain ? path : "./" + path) + "\n";
}

template <class Number> std::optional<Number> number(std::string_view text, int base = 10) {
  Number value{};
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (problem != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

struct Raw {
  std::string_view path;  ///< below the listed one; empty: that itself
  char type = '?';
  std::string_view size, time, mode, target;
};

Error too_many_names() { return {ErrorCode::unsupported, "there are more than a million names", "copy its folders one by one"}; }

/// Takes one line of a listing, or refuses its name.
class Taker {
 public:
  explicit Taker(HostListing& listing) : listing_(listing) {}

  Result<void> take(const Raw& raw, const std::string& own_name) {
    if (++seen_ > kMostNames) return fail(too_many_names());
    const std::optional<std::uint64_t> size = number<std::uint64_t>(raw.size);
    const std::optional<std::int64_t> time = number<std::int64_t>(raw.time.substr(0, raw.time.find('.')));
    const std::optional<unsigned> mode = number<unsigned>(raw.mode, 8);
    const bool is_known =
        size && *size <= kLargest && time && *time > -(std::int64_t{1} << 40U) && *time < (std::int64_t{1} << 40U) && mode;
    CopyEntry entry;
    entry.type = raw.type == 'f'   ? CopyEntry::Type::file
                 : raw.type == 'd' ? CopyEntry::Type::folder
                 : raw.type == 'l' ? CopyEntry::Type::link
                                   : CopyEntry::Type::other;
    if (is_known) {
      entry.size = entry.type == CopyEntry::Type::file ? *size : 0;
      entry.mtime = *time;
      entry.mode = *mode & kPermissions;
    }
    entry.target = std::string(raw.target);
    if (raw.path.empty()) {  // the listed one itself
      listing_.is_file = entry.type != CopyEntry::Type::folder;
      if (listing_.is_file && is_known && is_path_below(own_name)) listing_.tree[own_name] = std::move(entry);
      return {};
    }
    if (!is_path_below(raw.path) || !is_known) {
      if (listing_.refused.size() < kMostRefused) listing_.refused.push_back(shown_path(raw.path.substr(0, 300)));
      return {};
    }
    if (is_part(raw.path))
      listing_.parts[std::string(raw.path)] = entry.size;
    else
      listing_.tree[std::string(raw.path)] = std::move(entry);
    return {};
  }

 private:
  HostListing& listing_;
  std::size_t seen_ = 0;
};

std::string base_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Six fields a name, each ended by a zero byte, as find prints them.
Result<void> read_gnu(std::string_view text, const std::string& path, HostListing& listing) {
  Taker taker(listing);
  while (!text.empty()) {
    std::array<std::string_view, 6> fields;
    for (std::string_view& field : fields) {
      const std::size_t end = text.find('\0');
      if (end == std::string_view::npos) return fail(ErrorCode::protocol, "the host's list of files breaks off");
      field = text.substr(0, end);
      text.remove_prefix(end + 1);
    }
    const Raw raw{fields[4], fields[0].size() == 1 ? fields[0][0] : '?', fields[1], fields[2], fields[3], fields[5]};
    if (Result<void> taken = taker.take(raw, base_of(path)); !taken) return taken;
  }
  return {};
}

/// "NONCE MODE SIZE TIME NAME", the mode in hex with the type in it; a name may have newlines, the nonce is in none.
Result<void> read_plain(std::string_view text, const std::string& path, const std::string& nonce, HostListing& listing) {
  Taker taker(listing);
  const std::string mark = nonce + " ";
  while (text.starts_with(mark)) {
    text.remove_prefix(mark.size());
    const std::size_t next = text.find("\n" + mark);
    std::string_view line = text.substr(0, next);
    text.remove_prefix(next == std::string_view::npos ? text.size() : next + 1);
    if (next == std::string_view::npos && line.ends_with('\n')) line.remove_suffix(1);
    std::array<std::string_view, 3> fields;
    for (std::string_view& field : fields) {
      const std::size_t space = std::min(line.find(' '), line.size());
      field = line.substr(0, space);
      line.remove_prefix(std::min(space + 1, line.size()));
    }
    const unsigned mode = number<unsigned>(fields[0], 16).value_or(0);
    Raw raw{line, S_ISREG(mode) ? 'f' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : '?', fields[1], fields[2], "", ""};
    const std::string octal = fmt::format("{:o}", mode & kPermissions);
    raw.mode = octal;
    if (raw.path == path) {
      raw.path = {};
      if (raw.type == 'l') raw.type = 'd';  // a link is followed where it is the listed one itself
    } else if (raw.path.starts_with(path + "/")) {
      raw.path.remove_prefix(path.size() + 1);
      // Its digests come a name a line.
      if (raw.path.find('\n') != std::string_view::npos) raw.size = "?";
    }
    if (Result<void> taken = taker.take(raw, base_of(path)); !taken) return taken;
  }
  return {};
}

std::string as_find_has_it(const std::string& path) {
  std::string line = path.starts_with('/') || path.starts_with("./") || path == "." ? path : "./" + path;
  return line;
}

CopyEntry entry_of(const struct stat& info) {
  CopyEntry entry;
  entry.type = S_ISREG(info.st_mode)   ? CopyEntry::Type::file
               : S_ISDIR(info.st_mode) ? CopyEntry::Type::folder
               : S_ISLNK(info.st_mode) ? CopyEntry::Type::link
                                       : CopyEntry::Type::other;
  entry.size = entry.type == CopyEntry::Type::file ? static_cast<std::uint64_t>(info.st_size) : 0;
  entry.mtime = info.st_mtime;
  entry.mode = info.st_mode & kPermissions;
  return entry;
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// Adds one name below `root`, and says what it is; one that is gone meanwhile is passed over.
CopyEntry::Type take_here(const std::string& root, const std::string& relative, LocalListing& listing) {
  const std::string whole = root + "/" + relative;
  struct stat info {};
  if (::lstat(whole.c_str(), &info) != 0) return CopyEntry::Type::other;
  CopyEntry entry = entry_of(info);
  if (is_part(relative)) {
    listing.parts[relative] = static_cast<std::uint64_t>(info.st_size);
    return CopyEntry::Type::other;
  }
  if (entry.type == CopyEntry::Type::link) {
    std::string target(4096, '\0');
    const ssize_t length = ::readlink(whole.c_str(), target.data(), target.size());
    if (length < 0) return CopyEntry::Type::other;
    entry.target = target.substr(0, static_cast<std::size_t>(length));
  }
  const CopyEntry::Type type = entry.type;
  listing.tree[relative] = std::move(entry);
  return type;
}

}  // namespace

std::string listing_text() {
  return text_of(
      fmt::format("read -r f; read -r g; echo; echo {}; test -e \"$p\" || test -L \"$p\" || {{ echo absent; exit 0; }}; w=plain; "
                  "case $(tar --version 2>$nu)-$(find --version 2>$nu) in *GNU*-*GNU*) w=gnu;; esac; echo $w; "
                  "if test $w = gnu; then exec find -H \"$p\" -printf \"$f\"; else exec find -H \"$p\" -exec stat -c \"$g\" {{}} +; fi",
                  kBegin));
}

std::string listing_input(const std::string& path, const std::string& nonce) {
  return folder_line(path) + "%y\\0%s\\0%T@\\0%m\\0%P\\0%l\\0\n" + nonce + " %f %s %Y %n\n";
}

Result<HostListing> read_listing(std::string_view said, const std::string& path, const std::string& nonce) {
  const std::string begin = fmt::format("\n{}\n", kBegin);
  const std::size_t at = said.find(begin);
  if (at == std::string_view::npos) {
    return fail(ErrorCode::protocol, "the host's shell did not answer; it said: " + shown_path(said.substr(0, 200)),
                "does the login shell run commands? `ssh HOST /bin/sh -c :` prints nothing where it does");
  }
  said.remove_prefix(at + begin.size());
  const std::size_t end = std::min(said.find('\n'), said.size());
  const std::string_view kind = said.substr(0, end);
  said.remove_prefix(std::min(end + 1, said.size()));
  HostListing listing;
  if (kind == "absent") return listing;
  listing.exists = true;
  listing.tools = kind == "gnu" ? HostTools::gnu : HostTools::plain;
  const std::string shown = as_find_has_it(path);
  Result<void> read = listing.tools == HostTools::gnu ? read_gnu(said, shown, listing) : read_plain(said, shown, nonce, listing);
  if (!read) return fail(std::move(read).error());
  if (listing.is_file) {  // whatever else the host names was not asked for, and would come to lie beside it
    std::erase_if(listing.tree, [name = base_of(shown)](const auto& one) { return one.first != name; });
    listing.parts.clear();
  }
  return listing;
}

std::vector<ListingComplaint> listing_complaints(std::string_view said) {
  std::vector<ListingComplaint> complaints;
  for (const std::string& line : split(said, '\n')) {
    // What went away between two looks is no trouble.
    const bool is_theirs = (line.starts_with("find: ") && !line.starts_with("find: warning:")) || line.starts_with("stat: ");
    if (line.find("ermission denied") != std::string::npos)
      complaints.push_back({line, "the host does not let the login read it"});
    else if (is_theirs && line.find("No such file") == std::string::npos)
      complaints.push_back({line, "the host could not list it"});
  }
  return complaints;
}

BatchLimits batch_limits(HostTools tools) {
  // Of arguments a host takes 128 KiB at least.
  return tools == HostTools::gnu ? BatchLimits{2000, 4U << 20U} : BatchLimits{500, 64U << 10U};
}

std::string send_text(HostTools tools) {
  if (tools == HostTools::gnu)
    return text_of("cd \"$p\" || exit 9; exec tar --format=gnu --hard-dereference --no-recursion --null -T - -cf -");
  return text_of(fmt::format("cd \"$p\" || exit 9; set --; while {}; do set -- \"$@\" \"$q\"; done; exec tar -cf - \"$@\"", kReadName));
}

std::string send_input(const std::string& folder, const std::vector<std::string>& paths, HostTools tools) {
  if (tools == HostTools::plain) return paths_input(folder, paths);
  std::string text = folder_line(folder);
  for (const std::string& path : paths) text += "./" + path + '\0';
  return text;
}

std::string send_rest_text() { return text_of(fmt::format("cd \"$p\" || exit 9; {}; read -r o; exec tail -c +$o \"$q\"", kReadName)); }

std::string send_rest_input(const std::string& folder, const std::string& path, std::uint64_t from) {
  return folder_line(folder) + name_line(path) + fmt::format("{}\n", from + 1);
}

std::string digests_text() {
  return text_of(
      fmt::format("cd \"$p\" || exit 9; set --; n=0; while {}; do set -- \"$@\" \"$q\"; n=$(($n+1)); "
                  "test $n -lt 100 || {{ sha256sum \"$@\"; set --; n=0; }}; done; test $n = 0 || sha256sum \"$@\"",
                  kReadName));
}

std::string paths_input(const std::string& folder, const std::vector<std::string>& paths) {
  std::string text = folder_line(folder);
  for (const std::string& path : paths) text += name_line(path);
  return text;
}

std::map<std::string, std::string> read_digests(std::string_view said) {
  std::map<std::string, std::string> digests;
  for (std::string line : split(said, '\n')) {
    // Where a name has a newline or a backslash, the line begins with one, and they are escaped.
    const bool is_escaped = line.starts_with('\\');
    if (is_escaped) line.erase(0, 1);
    if (line.size() < 68 || line[64] != ' ' || line.find_first_not_of("0123456789abcdef") < 64) continue;
    std::string name = line.substr(66);
    if (!name.starts_with("./")) continue;
    name.erase(0, 2);
    if (is_escaped) {
      std::string plain;
      for (std::size_t i = 0; i < name.size(); ++i) {
        if (name[i] != '\\' || i + 1 == name.size()) {
          plain += name[i];
          continue;
        }
        const char next = name[++i];
        plain += next == 'n' ? '\n' : next == 'r' ? '\r' : next;
      }
      name = std::move(plain);
    }
    digests[std::move(name)] = line.substr(0, 64);
  }
  return digests;
}

std::string take_text() {
  return text_of(
      "mkdir -p \"$p\" && cd \"$p\" || exit 9; read -r s; umask 077; rm -rf \"$s\"; mkdir \"$s\" && cd \"$s\" || exit 9; "
      "f=xof; case $(tar --version 2>$nu) in *GNU*) f=xpof;; esac; exec tar -$f -");
}

std::string take_input(const std::string& folder, const std::string& stage) { return folder_line(folder) + stage + "\n"; }

std::string take_rest_text() {
  return text_of(
      fmt::format("mkdir -p \"$p\" && cd \"$p\" || exit 9; {}; read -r o; n=0; test -f \"$q\" && n=$(wc -c <\"$q\"); "
                  "IFS=\" \"; test $n -eq $o || exit 8; umask 077; exec cat >>\"$q\"",
                  kReadName));
}

std::string take_rest_input(const std::string& folder, const std::string& path, std::uint64_t from) {
  return folder_line(folder) + name_line(path) + fmt::format("{}\n", from);
}

std::string move_text() {
  return text_of(
      fmt::format("mkdir -p \"$p\" && cd \"$p\" || exit 9; read -r s; n=0; while read -r k; do n=$(($n+1)); {0}; read -r t; case $k in "
                  "d) if test -L \"$q\"; then echo failed $n; else test -d \"$q\" || mkdir -m $t \"$q\" || echo failed $n; fi;; "
                  "m|n) read -r a; v=$q; {0}; if test $k = n && {{ test -e \"$q\" || test -L \"$q\"; }}; then echo taken $n; continue; fi; "
                  "test $t = - || {{ chmod $t \"$v\"; touch -c -d @$a \"$v\"; }}; test -L \"$q\" && rm -f \"$q\"; "
                  "if test -d \"$q\"; then echo failed $n; else mv -f \"$v\" \"$q\" || echo failed $n; fi;; c) test -L \"$q\" || chmod $t "
                  "\"$q\";; r) rm -f \"$q\";; esac; done; "
                  "rm -rf \"$s\"; echo moved",
                  kReadName));
}

std::string move_input(const std::string& folder, const std::string& stage, const HostMoves& moves) {
  std::string text = folder_line(folder) + stage + "\n";
  for (const auto& [mode, path] : moves.folders) text += "d\n" + name_line(path) + fmt::format("{:o}\n", mode);
  for (const HostMoves::File& file : moves.files) {
    text += (file.is_new ? "n\n" : "m\n") + name_line(file.from);
    text += file.part ? fmt::format("{:o}\n{}\n", file.part->mode, file.part->mtime) : "-\n-\n";
    text += name_line(file.to);
  }
  for (const auto& [path, mode] : moves.modes) text += "c\n" + name_line(path) + fmt::format("{:o}\n", mode);
  for (const std::string& path : moves.removed) text += "r\n" + name_line(path) + "-\n";
  return text;
}

Result<LocalListing> list_here(const std::string& path, const std::vector<std::string>& names) {
  struct stat top {};
  if (::stat(path.c_str(), &top) != 0) return fail(errno_error(errno, "looking at " + shown_path(path)));
  LocalListing listing;
  if (!S_ISDIR(top.st_mode)) {
    listing.is_file = true;
    listing.tree[base_of(path)] = entry_of(top);
    return listing;
  }
  for (const std::string& name : names) (void)take_here(path, name, listing);
  if (!names.empty()) return listing;
  std::vector<std::string> folders = {""};
  while (!folders.empty()) {
    const std::string below = std::move(folders.back());
    folders.pop_back();
    const std::unique_ptr<DIR, CloseFolder> folder(::opendir((below.empty() ? path : path + "/" + below).c_str()));
    if (!folder) {
      if (below.empty()) return fail(errno_error(errno, "listing " + shown_path(path)));
      listing.refused.push_back(shown_path(below) + ": " + std::system_category().message(errno));
      continue;
    }
    while (const dirent* one = ::readdir(folder.get())) {
      const std::string name = one->d_name;
      if (name == "." || name == "..") continue;
      const std::string relative = below.empty() ? name : below + "/" + name;
      if (take_here(path, relative, listing) == CopyEntry::Type::folder) folders.push_back(relative);
      if (listing.tree.size() > kMostNames) return fail(too_many_names());
    }
  }
  return listing;
}

}  // namespace gpustrap
