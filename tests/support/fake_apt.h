#pragma once

#include <string>

#include "tests/support/fake_host.h"

namespace gpustrap {

/// A stanza of dpkg's database.
[[nodiscard]] std::string dpkg_stanza(const std::string& name, const std::string& version,
                                      const std::string& status = "install ok installed");

/// The content of a .deb, as the fake dpkg and apt below understand it.
[[nodiscard]] std::string fake_deb(const std::string& package, const std::string& version, const std::string& architecture = "amd64");

/// A host with a dpkg and an apt as far as steps can see them: `apt-get install FILE` adds a fake_deb to the database, `update` puts
/// lists there of the repository that it is limited to. Versions compare as texts.
[[nodiscard]] FakeHost host_with_dpkg(const std::string& status = dpkg_stanza("base-files", "12"));

}  // namespace gpustrap
