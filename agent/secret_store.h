#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/masking.h"
#include "agent/private_memory.h"
#include "agent/protocol/event.h"
#include "agent/protocol/secrets.h"

namespace gpustrap {

/// The secrets that a run has been given: in memory alone, and gone with the process.
class SecretStore {
 public:
  /// A value that is there already is replaced; the old one is still masked.
  void put(const SecretValues& values);
  [[nodiscard]] std::vector<std::string> missing(const std::vector<std::string>& wanted) const;
  [[nodiscard]] SecretValues pick(const std::vector<std::string>& wanted) const;
  /// Forgets everything, in this process: a step's process keeps what it needs and no more.
  void clear();

  [[nodiscard]] const Masking& masking() const { return masking_; }
  /// The event with `***` for every secret in what a step has said, seen or come to.
  void mask(decltype(Event::body)& body) const;

 private:
  struct Secret {
    PrivateText name, value;
  };
  PrivateList<Secret> secrets_;
  Masking masking_;
};

}  // namespace gpustrap
