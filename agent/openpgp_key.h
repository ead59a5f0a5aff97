#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// Fingerprints of the primary keys in a public key file, armoured or not: 40 upper-case hex digits each, in order. gpg is on few
/// machines, and a key that is known by its fingerprint must not depend on that. Error unsupported where the file is no OpenPGP public
/// key, or of a version other than 4.
[[nodiscard]] Result<std::vector<std::string>> key_fingerprints(std::string_view file);

}  // namespace gpustrap
