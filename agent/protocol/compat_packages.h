#pragma once

#include <cstdint>
#include <string>

#include "agent/protocol/fields.h"

// The rows of recipes/compat.yaml that say where drivers, toolkits and frameworks come from; compat.h has the rest.

namespace gpustrap {

/// How sure a row is; of its least certain figure.
enum class Certainty { confirmed, likely, open };

struct DistributionRow {
  std::string os, version, repository, first_cuda, last_cuda, key, old_branches, note;
  Certainty certainty = Certainty::confirmed;
  template <class V> void fields(V& v) {
    v("os", os, Presence::required, "ID of os-release");
    v("version", version, Presence::required, "VERSION_ID of os-release");
    v("repository", repository, Presence::required, "its folder in NVIDIA's repository");
    v("first_cuda", first_cuda, Presence::optional, "oldest toolkit there; not known where not given");
    v("last_cuda", last_cuda, Presence::optional, "newest toolkit there; still growing where not given");
    v("key", key, Presence::optional, "short id of the key that signs it");
    v("old_branches", old_branches, Presence::optional, "what speaks against driver branches that are not current");
    v("note", note, Presence::optional, "what else to know");
    v("certainty", certainty, Presence::optional, "how sure this row is");
  }
};

struct RepositoryRow {
  std::string base, keyring, pin, toolkit, compat;
  TextMap architectures, fingerprints;
  template <class V> void fields(V& v) {
    v("base", base, Presence::required, "URL that all repositories are below");
    v("keyring", keyring, Presence::required, "file name of the keyring package");
    v("architectures", architectures, Presence::required, "uname -m to the folder's name");
    v("fingerprints", fingerprints, Presence::required, "short id of a key to its whole fingerprint");
    v("pin", pin, Presence::required, "package that holds a driver branch");
    v("toolkit", toolkit, Presence::required, "package of a toolkit");
    v("compat", compat, Presence::required, "package of forward compatibility");
  }
};

struct DriverPackagesRow {
  std::string from, os, os_version, first_branch, last_branch;
  bool is_signed = false;
  StringList open, proprietary;
  std::string note;
  template <class V> void fields(V& v) {
    v("from", from, Presence::required, "whose packages: ubuntu, nvidia, debian");
    v("os", os, Presence::optional, "only there");
    v("os_version", os_version, Presence::optional, "only in that release, which then has this branch alone");
    v("first_branch", first_branch, Presence::optional, "from this branch on");
    v("last_branch", last_branch, Presence::optional, "up to this branch");
    v("signed", is_signed, Presence::optional, "modules that Secure Boot takes, and that need no compiler");
    v("open", open, Presence::required, "packages with open kernel modules");
    v("proprietary", proprietary, Presence::required, "packages with proprietary kernel modules");
    v("note", note, Presence::optional, "what else to know");
  }
};

struct FabricPackageRow {
  std::string name, first_branch, last_branch;
  template <class V> void fields(V& v) {
    v("name", name, Presence::required, "package; {branch} is filled in");
    v("first_branch", first_branch, Presence::optional, "from this branch on");
    v("last_branch", last_branch, Presence::optional, "up to this branch");
  }
};

struct FrameworkRow {
  std::string package, version, build, cuda, first_compute, last_compute, arch, driver;
  std::int64_t pick = 0;
  Certainty certainty = Certainty::confirmed;
  template <class V> void fields(V& v) {
    v("package", package, Presence::required, "name on PyPI");
    v("version", version, Presence::optional, "release this is about");
    v("build", build, Presence::required, "name of the build");
    v("cuda", cuda, Presence::required, "CUDA it brings along");
    v("first_compute", first_compute, Presence::optional, "oldest compute capability");
    v("last_compute", last_compute, Presence::optional, "newest compute capability");
    v("arch", arch, Presence::optional, "architecture");
    v("driver", driver, Presence::optional, "oldest driver; that of its CUDA's minor-version compatibility where not given");
    v("pick", pick, Presence::optional, "1: what an installation without further words gets");
    v("certainty", certainty, Presence::optional, "how sure this row is");
  }
};

}  // namespace gpustrap
