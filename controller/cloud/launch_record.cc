#include "controller/cloud/launch_record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <set>
#include <system_error>
#include <tuple>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "controller/cloud/sigv4.h"

namespace gpustrap {
namespace {

/// AWS keeps a token for a day at least.
constexpr auto kTokenLives = std::chrono::hours(20);

std::string text_of(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

Result<void> write_json(const std::string& path, const Json& document) {
  if (Result<void> made = make_directories(parent_of(path), 0700); !made) return made;
  return write_file_atomically(path, document.dump(2) + "\n", 0600);
}

Json read_json(const std::string& path) {
  const Result<std::string> text = read_file(path, 1U << 20U);
  return text ? Json::parse(*text, nullptr, false) : Json();
}

std::string instance_path(const std::string& state, const std::string& id) { return state + "/ec2/" + id + ".json"; }

std::string region_of_place(const std::string& folder) { return folder.substr(0, folder.find_first_of("@+")); }

bool is_id(std::string_view id) { return is_instance_name(id); }

}  // namespace

bool is_instance_name(std::string_view name) {
  const auto allowed = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= 63 && std::isalnum(static_cast<unsigned char>(name.front())) != 0 &&
         std::all_of(name.begin(), name.end(), allowed);
}

bool means_something_else(std::string_view name) {
  static constexpr std::string_view kSystems[] = {"dlami", "ubuntu", "debian"};
  return name.starts_with("i-") || name.starts_with("ami-") ||
         std::find(std::begin(kSystems), std::end(kSystems), name) != std::end(kSystems);
}

bool KnownInstance::is_called(const std::string& word) const {
  return !word.empty() && (word == id || word == record.name || word == record.host || word == record.address);
}

std::vector<KnownInstance> known_instances(const std::string& state) {
  std::vector<KnownInstance> known;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(state + "/ec2", none)) {
    const std::string id = entry.path().stem().string();
    if (entry.path().extension() != ".json" || !id.starts_with("i-")) continue;
    if (std::optional<InstanceRecord> record = load_instance(state, id)) known.push_back({id, *std::move(record)});
  }
  std::sort(known.begin(), known.end(),
            [](const KnownInstance& a, const KnownInstance& b) { return std::tie(a.record.name, a.id) < std::tie(b.record.name, b.id); });
  return known;
}

std::vector<std::string> other_regions_of(const std::vector<KnownInstance>& known, const std::string& word, const std::string& here) {
  std::set<std::string> regions;
  for (const KnownInstance& one : known) {
    if (one.is_called(word) && !one.record.region.empty() && one.record.region != here) regions.insert(one.record.region);
  }
  return {regions.begin(), regions.end()};
}

std::vector<std::string> regions_used(const std::string& state, const std::string& here) {
  std::set<std::string> regions;
  for (const KnownInstance& one : known_instances(state)) regions.insert(one.record.region);
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(state + "/ec2/orders", none)) {
    regions.insert(region_of_place(entry.path().filename().string()));
  }
  regions.erase(here);
  regions.erase("");
  return {regions.begin(), regions.end()};
}

Result<std::string> order_place(AwsClient& client, const std::string& state) {
  const Result<std::string> account = client.account();
  if (!account) return account;
  const AwsSettings& settings = client.settings();
  const std::string place = settings.region + "+" + *account;
  const std::string orders = state + "/ec2/orders/";
  const std::string old =
      settings.profile == "default" ? settings.region : settings.region + "@" + form_encoded({{"", settings.profile}}).substr(1);
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(orders + old, none)) {
    if (entry.path().extension() != ".json") continue;
    const std::string path = orders + place + "/" + entry.path().filename().string();
    if (std::filesystem::exists(path, none)) continue;
    if (Result<void> made = make_directories(parent_of(path), 0700); !made) return fail(std::move(made).error());
    if (::rename(entry.path().c_str(), path.c_str()) != 0 && errno != ENOENT)
      return fail(errno_error(errno, "moving " + entry.path().string()));
  }
  return place;
}

std::set<std::string> regions_with_orders(const std::string& state) {
  std::set<std::string> regions;
  std::error_code none;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(state + "/ec2/orders", none)) {
    if (entry.path().extension() == ".json") regions.insert(region_of_place(entry.path().parent_path().filename().string()));
  }
  return regions;
}

OrderRecord::OrderRecord(const std::string& state, const std::string& place, const std::string& name)
    : path_(state + "/ec2/orders/" + place + "/" + name + ".json") {}

std::optional<Ec2Order> OrderRecord::load(AwsTime now, AwsTime* given) const {
  const Json document = read_json(path_);
  if (!document.is_object()) return std::nullopt;
  const std::optional<AwsTime> when = read_iso_time(text_of(document, "when"));
  if (!when || now - *when > kTokenLives) return std::nullopt;
  if (given != nullptr) *given = *when;
  Ec2Order order;
  order.image = text_of(document, "image");
  order.type = text_of(document, "type");
  order.key_name = text_of(document, "key");
  order.group = text_of(document, "group");
  order.subnet = text_of(document, "subnet");
  order.root_device = text_of(document, "root_device");
  order.client_token = text_of(document, "token");
  if (const auto disk = document.find("disk"); disk != document.end() && disk->is_number_integer())
    order.disk_gib = disk->get<std::int64_t>();
  if (const auto spot = document.find("spot"); spot != document.end() && spot->is_boolean()) order.spot = spot->get<bool>();
  if (const auto tags = document.find("tags"); tags != document.end() && tags->is_object()) {
    for (const auto& [key, value] : tags->items()) {
      if (value.is_string()) order.tags[key] = value.get<std::string>();
    }
  }
  if (order.client_token.empty() || order.type.empty() || order.image.empty()) return std::nullopt;
  return order;
}

Result<void> OrderRecord::save(const Ec2Order& order, AwsTime now) const {
  Json tags = Json::object();
  for (const auto& [key, value] : order.tags) tags[key] = value;
  return write_json(path_, Json{{"when", iso_time(now)},
                                {"image", order.image},
                                {"type", order.type},
                                {"key", order.key_name},
                                {"group", order.group},
                                {"subnet", order.subnet},
                                {"root_device", order.root_device},
                                {"disk", order.disk_gib},
                                {"spot", order.spot},
                                {"token", order.client_token},
                                {"tags", std::move(tags)}});
}

Result<UniqueFd> OrderRecord::lock() const {
  if (Result<void> made = make_directories(parent_of(path_), 0700); !made) return fail(std::move(made).error());
  UniqueFd file(::open((path_ + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) return fail(errno_error(errno, "locking " + path_));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(ErrorCode::busy, "another command launches a machine of that name just now", "wait for it, or give another --name");
  return file;
}

std::vector<OpenOrder> open_orders(const std::string& state, const std::string& place, AwsTime now) {
  std::vector<OpenOrder> open;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(state + "/ec2/orders/" + place, none)) {
    if (entry.path().extension() != ".json") continue;
    const std::string name = entry.path().stem().string();
    AwsTime when;
    if (std::optional<Ec2Order> order = OrderRecord(state, place, name).load(now, &when)) open.push_back({name, *std::move(order), when});
  }
  return open;
}

void OrderRecord::remove() const { ::unlink(path_.c_str()); }

Result<void> save_instance(const std::string& state, const std::string& id, const InstanceRecord& record) {
  if (!is_id(id)) return {};
  return write_json(instance_path(state, id), Json{{"address", record.address},
                                                   {"user", record.user},
                                                   {"identity", record.identity},
                                                   {"host_keys", record.host_keys},
                                                   {"host", record.host},
                                                   {"region", record.region},
                                                   {"name", record.name}});
}

std::optional<InstanceRecord> load_instance(const std::string& state, const std::string& id) {
  if (!is_id(id)) return std::nullopt;
  const Json document = read_json(instance_path(state, id));
  if (!document.is_object()) return std::nullopt;
  InstanceRecord record{text_of(document, "address"), text_of(document, "user"),   text_of(document, "identity"), {},
                        text_of(document, "host"),    text_of(document, "region"), text_of(document, "name")};
  // Of an earlier version: where the name is another host's, only the id is left.
  if (record.name.empty()) record.name = record.host != record.address ? record.host : id;
  if (const auto keys = document.find("host_keys"); keys != document.end() && keys->is_array()) {
    for (const Json& key : *keys) {
      if (key.is_string()) record.host_keys.push_back(key.get<std::string>());
    }
  }
  return record;
}

void remove_instance(const std::string& state, const std::string& id) {
  if (is_id(id)) ::unlink(instance_path(state, id).c_str());
}

}  // namespace gpustrap
