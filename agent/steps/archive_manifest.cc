#include "agent/steps/archive_manifest.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

constexpr int kFormat = 1;

std::string piece_path(const Host& host, const std::string& id, std::size_t number) {
  return fmt::format("{}/{}.json{}", state_directory(host, "archives"), id, number == 0 ? std::string() : fmt::format(".{}", number));
}

/// JSON holds UTF-8 only, names are bytes: one that is not UTF-8 goes as {"hex": …}.
Json name_to_json(const std::string& name) {
  if (to_utf8(name) == name) return name;
  std::string hex;
  for (const char byte : name) hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return {{"hex", hex}};
}

std::optional<std::string> name_from_json(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object() || !value.contains("hex") || !value["hex"].is_string()) return std::nullopt;
  const auto hex = value["hex"].get<std::string>();
  std::string name;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    const auto digit = [](char c) { return static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10) & 15U; };
    name += static_cast<char>(digit(hex[i]) * 16 + digit(hex[i + 1]));
  }
  return name;
}

char letter_of(FileType type) { return type == FileType::directory ? 'd' : type == FileType::symlink ? 'l' : 'f'; }

std::optional<ManifestEntry> entry_from_json(const Json& line) {
  if (!line.is_array() || line.size() != 5 || !line[0].is_string() || !line[3].is_number_unsigned() || !line[4].is_number_integer())
    return std::nullopt;
  std::optional<std::string> path = name_from_json(line[1]);
  std::optional<std::string> content = name_from_json(line[2]);
  // A manifest says where things are written to: it must not lead anywhere else, whoever wrote it.
  if (!path || !content || path->empty() || path->starts_with('/')) return std::nullopt;
  const std::vector<std::string> parts = split(*path, '/');
  if (std::any_of(parts.begin(), parts.end(), [](const std::string& part) { return part.empty() || part == "." || part == ".."; }))
    return std::nullopt;
  const auto letter = line[0].get<std::string>();
  const FileType type = letter == "d" ? FileType::directory : letter == "l" ? FileType::symlink : FileType::regular;
  return ManifestEntry{*std::move(path), type, *std::move(content), line[3].get<std::uint64_t>(), line[4].get<std::int64_t>()};
}

/// Adds the lines of one piece; the number of pieces there are, or nullopt where it cannot be understood.
std::optional<std::size_t> read_piece(std::string_view text, ArchiveManifest& manifest) {
  const std::vector<std::string> lines = split(trim(text), '\n');
  const Json head = Json::parse(lines.front(), nullptr, false);
  if (!head.is_object() || head.value("format", 0) != kFormat) return std::nullopt;
  const auto text_of = [&head](const char* name) {
    const auto found = head.find(name);
    return found == head.end() ? std::optional<std::string>() : name_from_json(*found);
  };
  manifest.folder = text_of("folder").value_or("");
  manifest.source = text_of("source").value_or("");
  manifest.sha256 = text_of("sha256").value_or("");
  if (head.contains("source_size") && head["source_size"].is_number_unsigned()) manifest.source_size = head["source_size"];
  if (head.contains("source_mtime_s") && head["source_mtime_s"].is_number_integer()) manifest.source_mtime_s = head["source_mtime_s"];
  for (std::size_t i = 1; i < lines.size(); ++i) {
    std::optional<ManifestEntry> entry = entry_from_json(Json::parse(lines[i], nullptr, false));
    if (!entry) return std::nullopt;
    manifest.entries.push_back(*std::move(entry));
  }
  const auto pieces = head.find("pieces");
  if (pieces == head.end() || !pieces->is_number_unsigned()) return std::nullopt;
  return pieces->get<std::size_t>();
}

std::string folder_prefix(const std::string& folder) { return sha256_hex(folder).substr(0, 20) + "-"; }

}  // namespace

std::string manifest_id(const std::string& folder, const std::string& source, const std::string& sha256, std::int64_t strip) {
  return folder_prefix(folder) + sha256_hex(fmt::format("{}\n{}\n{}", source, sha256, strip)).substr(0, 20);
}

Result<std::optional<ArchiveManifest>> read_manifest(const Host& host, const std::string& id) {
  ArchiveManifest manifest;
  manifest.id = id;
  std::size_t pieces = 1;
  for (std::size_t number = 0; number < pieces; ++number) {
    const Result<std::string> text = host.read(piece_path(host, id, number));
    if (!text && text.error().code() != ErrorCode::not_found) return fail(text.error());
    const std::optional<std::size_t> known = text ? read_piece(*text, manifest) : std::nullopt;
    if (!known) return std::optional<ArchiveManifest>();
    pieces = *known;
  }
  return std::optional<ArchiveManifest>(std::move(manifest));
}

Result<std::vector<ArchiveManifest>> manifests_of_folder(const Host& host, const std::string& folder) {
  const std::string directory = state_directory(host, "archives");
  const Result<std::vector<std::string>> names = host.list(directory);
  std::vector<ArchiveManifest> manifests;
  if (!names) {
    if (names.error().code() == ErrorCode::not_found) return manifests;
    return fail(names.error());
  }
  for (const std::string& name : *names) {
    if (!name.starts_with(folder_prefix(folder)) || !name.ends_with(".json")) continue;
    Result<std::optional<ArchiveManifest>> manifest = read_manifest(host, name.substr(0, name.size() - 5));
    if (!manifest) return fail(std::move(manifest).error());
    if (*manifest && (*manifest)->folder == folder) manifests.push_back(**std::move(manifest));
  }
  return manifests;
}

Result<void> write_manifest(Host& host, const ArchiveManifest& manifest, std::size_t piece_entries) {
  if (Result<void> made = host.make_directory(state_directory(host, "archives"), {}); !made) return made;
  FileAttributes hidden;
  hidden.mode = 0600;
  const std::size_t pieces = std::max<std::size_t>(1, (manifest.entries.size() + piece_entries - 1) / piece_entries);
  // The first piece comes last: without it the others count for nothing.
  for (std::size_t number = pieces; number-- > 0;) {
    Json head = {{"format", kFormat},
                 {"folder", name_to_json(manifest.folder)},
                 {"source", name_to_json(manifest.source)},
                 {"sha256", manifest.sha256},
                 {"pieces", pieces}};
    if (manifest.source_mtime_s != 0) {
      head["source_size"] = manifest.source_size;
      head["source_mtime_s"] = manifest.source_mtime_s;
    }
    std::string text = head.dump() + "\n";
    const std::size_t end = std::min(manifest.entries.size(), (number + 1) * piece_entries);
    for (std::size_t i = number * piece_entries; i < end; ++i) {
      const ManifestEntry& entry = manifest.entries[i];
      text += Json::array(
                  {std::string(1, letter_of(entry.type)), name_to_json(entry.path), name_to_json(entry.content), entry.size, entry.mtime_s})
                  .dump() +
              "\n";
    }
    if (Result<void> wrote = host.write(piece_path(host, manifest.id, number), text, hidden); !wrote) return wrote;
  }
  return {};
}

Result<void> remove_manifest(Host& host, const std::string& id) {
  for (std::size_t number = 0;; ++number) {
    const std::string path = piece_path(host, id, number);
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (!*info) return {};
    if (Result<void> removed = host.remove(path); !removed) return removed;
  }
}

}  // namespace gpustrap
