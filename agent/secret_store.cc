#include "agent/secret_store.h"

#include <algorithm>
#include <variant>

namespace gpustrap {

void SecretStore::put(const SecretValues& values) {
  for (const auto& [name, value] : values) {
    masking_.add(value);
    const auto known = std::find_if(secrets_.begin(), secrets_.end(), [&](const Secret& secret) { return secret.name == name.c_str(); });
    if (known != secrets_.end())
      known->value.assign(value.data(), value.size());
    else
      secrets_.push_back({PrivateText(name), PrivateText(value)});
  }
}

std::vector<std::string> SecretStore::missing(const std::vector<std::string>& wanted) const {
  std::vector<std::string> names;
  for (const std::string& name : wanted) {
    const auto is_it = [&](const Secret& secret) { return secret.name == name.c_str(); };
    if (std::none_of(secrets_.begin(), secrets_.end(), is_it)) names.push_back(name);
  }
  return names;
}

SecretValues SecretStore::pick(const std::vector<std::string>& wanted) const {
  SecretValues values;
  for (const Secret& secret : secrets_) {
    const std::string name(secret.name.data(), secret.name.size());
    if (std::find(wanted.begin(), wanted.end(), name) != wanted.end()) values[name] = std::string(secret.value.data(), secret.value.size());
  }
  return values;
}

void SecretStore::clear() {
  secrets_ = {};
  masking_ = {};
}

void SecretStore::mask(decltype(Event::body)& body) const {
  if (masking_.empty()) return;
  const auto hide = [this](std::string& text) { text = masking_.mask(text); };
  const auto hide_error = [&](ErrorText& error) {
    hide(error.message);
    hide(error.hint);
  };
  if (auto* checked = std::get_if<StepChecked>(&body)) {
    hide(checked->reason);
  } else if (auto* output = std::get_if<StepOutput>(&body)) {
    hide(output->text);
  } else if (auto* downloaded = std::get_if<Downloaded>(&body)) {
    hide(downloaded->url);
  } else if (auto* retry = std::get_if<StepRetry>(&body)) {
    hide_error(retry->error);
  } else if (auto* finished = std::get_if<StepFinished>(&body)) {
    hide(finished->reason);
    if (finished->error) hide_error(*finished->error);
  } else if (auto* rebooting = std::get_if<Rebooting>(&body)) {
    hide(rebooting->reason);
  } else if (auto* end = std::get_if<RunFinished>(&body)) {
    for (std::string& note : end->notes) hide(note);
  }
}

}  // namespace gpustrap
