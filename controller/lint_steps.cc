#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

/// Whoever reads a page of a book between two cells is away for so long.
constexpr std::chrono::minutes kShortestPause{10};

/// `creates` is no shell text: only a `~` at its beginning is replaced.
void look_at_created(LintReview& review, const LintStep& step) {
  for (const std::string& path : step.texts("creates")) {
    if (path.find("${{") != std::string::npos) continue;
    const bool is_home = path.starts_with("$HOME/") || path.starts_with("${HOME}/");
    const std::string variable = is_home ? path.substr(0, path.find('/')) : variable_behind_home(path);
    if (!variable.empty())
      review.add("not-expanded", step.place_of("creates"), path, fmt::format("`{}` in `creates` stays as it stands", variable),
                 std::nullopt, is_home ? fmt::format("write `~{}`", path.substr(variable.size())) : "");
    else if (const std::size_t at = path.find_first_of("*?["); at != std::string::npos)
      review.add("not-expanded", step.place_of("creates"), path, fmt::format("the `{}` in `creates` stays as it stands", path[at]),
                 std::nullopt, "name one file that is there afterwards, or say it with `unless: ls …`");
  }
}

void look_at_guards(LintReview& review, const LintStep& step) {
  const Json* creates = step.field("creates");
  const bool creates_nothing = creates != nullptr && creates->is_array() && creates->empty();
  if (step.kind == StepKind::command && (creates == nullptr || creates_nothing) && step.field("unless") == nullptr)
    review.add_key("command-unguarded", creates_nothing ? step.place_of("creates") : step.kind_pointer,
                   creates_nothing ? "`creates` names nothing: the command runs at every `up`"
                                   : "`command` has neither `creates` nor `unless`: it runs at every `up`");
  if (step.kind == StepKind::command) look_at_created(review, step);
  const auto look = [&](std::string_view field) {
    for (const std::string& path : step.texts(field)) {
      if (const std::string folder = folder_that_goes(path); !folder.empty())
        review.add("guard-not-kept", step.place_of(field), path,
                   fmt::format("`{}` is below {}, which is empty after a restart", path, folder));
    }
  };
  if (step.kind == StepKind::command) look("creates");
  if (step.kind == StepKind::download || step.kind == StepKind::archive || step.kind == StepKind::git) look("to");
}

void look_at_urls(LintReview& review, const LintStep& step) {
  const bool has_digest = step.field("sha256") != nullptr || step.field("fingerprint") != nullptr;
  const bool needs_digest = step.kind == StepKind::download || step.kind == StepKind::archive;
  if (needs_digest && step.field("url") != nullptr && step.field("sha256") == nullptr)
    review.add_key("digest-missing", step.place_of("url"),
                   fmt::format("`{}` fetches a file without `sha256`: what comes is taken as it is", step_kind_name(step.kind)));
  for (const FieldDoc& doc : describe_step_kind(step.kind).fields) {
    const bool is_git = step.kind == StepKind::git && doc.name == "url";
    if (doc.type != "URL" && doc.type != "list of URLs" && !is_git) continue;
    for (const std::string& url : step.texts(doc.name)) {
      if (is_plain_http(url)) {
        const bool is_signed = step.kind == StepKind::apt_repository && doc.name == "url";
        const Severity severity = is_signed ? Severity::note : has_digest ? Severity::warning : Severity::error;
        review.add("url-plain-http", step.place_of(doc.name), url,
                   fmt::format("{} is fetched in the open{}", quote_value(url),
                               is_signed    ? "; apt checks signatures, but others see what is installed"
                               : has_digest ? ""
                                            : ", and no digest would notice another file"),
                   severity);
      }
      const bool is_place = doc.name == "mirror" || doc.name == "index" || is_git || step.kind == StepKind::apt_repository;
      if (const std::string word = is_place ? "" : moving_word(url); !word.empty())
        review.add("url-unpinned", step.place_of(doc.name), word,
                   fmt::format("`{}` in {} means another file tomorrow", word, quote_value(url)));
    }
  }
}

struct Gone {
  std::string_view name, instead;
};
constexpr Gone kGoneFromApt[] = {{"libgfortran3", "libgfortran5, or nothing: wheels bring their own"},
                                 {"python-pip", "python3-pip, or the step `pip`"},
                                 {"python-dev", "python3-dev"},
                                 {"python-setuptools", "python3-setuptools"},
                                 {"python-virtualenv", "python3-venv, or the step `venv`"},
                                 {"python", "python3, or python-is-python3"},
                                 {"libcudnn7", "the cuDNN that the framework's wheel brings along"},
                                 {"libcudnn7-dev", "libcudnn9-dev-cuda-12 of NVIDIA's repository"},
                                 {"nvidia-modprobe-legacy", "the step `nvidia_driver`"}};
constexpr Gone kGoneFromPip[] = {{"tensorflow-gpu", "tensorflow[and-cuda]"},
                                 {"tf-nightly-gpu", "tf-nightly[and-cuda]"},
                                 {"sklearn", "scikit-learn"},
                                 {"pytorch", "torch"},
                                 {"mxnet-cu80", "another framework: MXNet's last wheels are for CUDA 11.2"},
                                 {"mxnet-cu90", "another framework: MXNet's last wheels are for CUDA 11.2"},
                                 {"opencv", "opencv-python-headless"},
                                 {"cv2", "opencv-python-headless"}};

/// "torch" of "torch[x]>=2,<3".
std::string requirement_name(const std::string& requirement) {
  return std::string(trim(requirement.substr(0, requirement.find_first_of("[=<>!~; @"))));
}

/// What is wrong with the versions of "numpy=1.2" or "numpy>1,,<2"; empty: nothing.
std::string fault_of_versions(std::string_view requirement) {
  const std::size_t begin = requirement.find_first_of("=<>!~");
  if (begin == std::string_view::npos || requirement.find('@') != std::string_view::npos) return {};
  for (const std::string& one : split(requirement.substr(begin), ',')) {
    const std::string condition(trim(one));
    if (condition.empty()) return "a comma too many";
    const std::size_t version = std::min(condition.find_first_not_of("=<>!~"), condition.size());
    const std::string sign = condition.substr(0, version);
    if (sign == "=") return "one `=`: a version follows `==`";
    const bool is_sign =
        sign == "==" || sign == "===" || sign == "!=" || sign == "<=" || sign == ">=" || sign == "<" || sign == ">" || sign == "~=";
    if (!is_sign) return sign.empty() ? "a comma, and no comparison behind it" : fmt::format("`{}`, which compares nothing", sign);
    if (trim(condition.substr(version)).empty()) return fmt::format("no version behind `{}`", sign);
  }
  return {};
}

/// "six==1.16.0 --index-url …" and "scikit learn": each item is one word for pip.
void look_at_requirements(LintReview& review, const LintStep& step) {
  for (const std::string& package : step.texts("packages")) {
    const std::string plain = package.substr(0, package.find(';'));
    // What begins with an option does not load.
    if (plain.find("${{") != std::string::npos || plain.starts_with('-')) continue;
    const std::vector<std::string> parts = words(plain);
    const auto option = std::find_if(parts.begin(), parts.end(), [](const std::string& word) { return word.starts_with('-'); });
    if (option != parts.end()) {
      const bool is_index = option->starts_with("--index-url") || option->starts_with("--extra-index-url") || *option == "-i";
      review.add("pip-requirement", step.place_of("packages"), package,
                 fmt::format("`{}` is an option, and no part of a requirement", *option), std::nullopt,
                 is_index ? "write `index: https://…` beside `packages:`" : "");
      continue;
    }
    if (const std::string fault = fault_of_versions(plain); !fault.empty()) {
      review.add("pip-requirement", step.place_of("packages"), package, fmt::format("{} has {}", quote_value(package), fault));
      continue;
    }
    // Two names side by side; "torch >= 2", "torch [x]" and "torch @ https://…" have a sign between them.
    const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      if (!is_name(parts[i].back()) || !is_name(parts[i + 1][0]) || parts[i].find("://") != std::string::npos) continue;
      review.add("pip-requirement", step.place_of("packages"), package, fmt::format("{} has a space in a name", quote_value(package)));
      break;
    }
  }
}

void look_at_packages(LintReview& review, const LintStep& step) {
  const auto look = [&](std::string_view field, const auto& table) {
    for (const std::string& package : step.texts(field)) {
      const std::string name = requirement_name(package);
      for (const Gone& gone : table) {
        if (name == gone.name)
          review.add("package-gone", step.place_of(field), package, fmt::format("there is no `{}` any more", name), std::nullopt,
                     fmt::format("use {}", gone.instead));
      }
    }
  };
  if (step.kind == StepKind::apt && step.text("state") != "absent") {
    look("packages", kGoneFromApt);
    for (const std::string& package : step.texts("packages")) {
      const std::string name = requirement_name(package);
      const bool is_cuda = name == "cuda" || name == "nvidia-cuda-toolkit" ||
                           (name.starts_with("cuda-") && name.size() > 5 && name[5] >= '0' && name[5] <= '9');
      const bool is_driver = name.starts_with("nvidia-driver") || name.starts_with("cuda-drivers") || name.starts_with("nvidia-open") ||
                             name.starts_with("nvidia-headless") || name.starts_with("nvidia-dkms");
      if (is_cuda || is_driver)
        review.add("driver-by-package", step.place_of("packages"), package,
                   is_cuda && !name.starts_with("nvidia") ? fmt::format("the package `{}` brings a driver of its own", name)
                   : is_cuda                              ? fmt::format("`{}` is an old toolkit, made for another driver", name)
                             : fmt::format("`{}` may not serve this GPU, or not be there for this kernel", name));
    }
  }
  if (step.kind == StepKind::pip) look_at_requirements(review, step);
  if (step.kind == StepKind::pip) look("packages", kGoneFromPip);
  if (step.kind == StepKind::conda_env) look("pip", kGoneFromPip);
  if (step.kind != StepKind::pip && step.kind != StepKind::conda_env) return;
  for (const std::string& package : step.texts(step.kind == StepKind::pip ? "packages" : "pip")) {
    const std::size_t vcs = package.find("git+");
    if (vcs == std::string::npos) continue;
    const std::size_t path = package.find('/', std::min(package.find("://", vcs), package.size() - 3) + 3);
    const std::size_t ref = path == std::string::npos ? path : package.find('@', path);
    if (ref == std::string::npos || !moving_word(package).empty())
      review.add("url-unpinned", step.place_of("packages"), package,
                 fmt::format("{} is whatever the branch holds that day", quote_value(package)), std::nullopt,
                 "name a tag or a commit behind `@`");
  }
}

void look_at_paths(LintReview& review, const LintStep& step) {
  for (const FieldDoc& doc : describe_step_kind(step.kind).fields) {
    if (doc.type != "path" && doc.name != "creates") continue;
    for (const std::string& path : step.texts(doc.name)) {
      if (doc.name != "creates" && path.starts_with("/etc/apt/trusted.gpg") && step.text("absent") != "true")
        review.add("key-unpinned", step.place_of(doc.name), path, "a key in /etc/apt/trusted.gpg.d is trusted for every repository");
      if (const std::string home = home_of_one(path); !home.empty())
        review.add("home-of-one-user", step.place_of(doc.name), path, fmt::format("`{}` is the home of one user", home));
    }
  }
  if (const std::string mode = step.text("mode");
      (step.kind == StepKind::file || step.kind == StepKind::directory || step.kind == StepKind::download) && is_world_writable(mode))
    review.add("world-writable", step.place_of("mode"), mode, fmt::format("mode {} lets every user write", mode));
}

void look_at_choices(LintReview& review, const LintStep& step) {
  if (step.kind == StepKind::git && step.field("ref") == nullptr)
    review.add("url-unpinned", step.place_of("url"), step.text("url"), "without `ref` it is the default branch as it is that day",
               Severity::note, "name a tag or a commit: `ref: v1.2`");
  if (step.kind == StepKind::environment && step.field("LD_LIBRARY_PATH") != nullptr)
    review.add_key("ld-library-path", step.place_of("LD_LIBRARY_PATH"),
                   fmt::format("LD_LIBRARY_PATH is set for every {}", step.text("scope") == "system" ? "user" : "login"));
  if (step.kind == StepKind::jupyter && step.text("public") == "true")
    review.add_key("jupyter-open", step.place_of("public"), "the notebook listens on all interfaces");
  if (step.kind == StepKind::conda && step.text("accept_tos") == "true" && step.text("distribution") != "miniforge" &&
      step.field("distribution") != nullptr)
    review.add_key("terms-accepted", step.place_of("accept_tos"),
                   "Anaconda's Terms of Service are accepted here for everyone who runs the recipe");
  if ((step.kind == StepKind::reboot || step.kind == StepKind::nvidia_driver) && step.text("allow_disruption") == "true")
    review.add_key("disruption-allowed", step.place_of("allow_disruption"), "the host may restart while others use it");
}

void look_at_stops(LintReview& review, const LintStep& step) {
  if (step.kind != StepKind::idle_stop) return;
  std::vector<FieldProblem> problems;
  Duration after;
  const std::string text = step.text("after");
  FieldType<Duration>::read(Json(text), FieldPlace("", "", Placeholders::refused, problems), after);
  if (!text.empty() && problems.empty() && after.time < kShortestPause)
    review.add("idle-stop-short", step.place_of("after"), text, fmt::format("after {} without use the host stops", text));
  if (step.field("budget") != nullptr && step.field("price") == nullptr)
    review.add_key("budget-price-unsaid", step.place_of("budget"), "`budget` without `price`");
}

/// "12.4" and "auto"; empty where a placeholder still stands there.
std::string settled(const LintStep& step, std::string_view field) {
  std::string text = step.text(field);
  return text.find("${{") == std::string::npos ? text : std::string();
}

bool is_number(const std::string& text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos; }

class Versions {
 public:
  explicit Versions(LintReview& review) : review_(review) {}

  /// Branches of all steps first: whichever comes first, both are for one host.
  void look() {
    for (const LintStep& step : review_.steps) {
      if (step.kind == StepKind::nvidia_driver) look_at_branch(step);
    }
    for (const LintStep& step : review_.steps) {
      if (step.kind == StepKind::nvidia_driver) look_at_cuda(settled(step, "cuda"), step.place_of("cuda"));
      if (step.kind == StepKind::cuda) look_at_cuda(settled(step, "version"), step.place_of("version"));
    }
  }

 private:
  void look_at_branch(const LintStep& step) {
    const std::string branch = settled(step, "branch");
    if (!is_number(branch)) {
      any_branch_ = true;  // `auto`, or what a var says
      return;
    }
    const std::vector<std::string> known = known_branches(review_.compat);
    if (std::find(known.begin(), known.end(), branch) != known.end()) return branches_.push_back(branch);
    any_branch_ = true;
    review_.add("cuda-driver-unknown", step.place_of("branch"), branch, fmt::format("no driver branch {} is known", branch), std::nullopt,
                "`auto` chooses one that serves the GPU; the branches are " + join(known, ", "));
  }

  void look_at_cuda(const std::string& version, const std::string& place) {
    if (version.empty() || version == "auto") return;
    if (is_number(version)) {
      const bool is_known = std::any_of(review_.compat.cuda.begin(), review_.compat.cuda.end(),
                                        [&](const CudaRow& row) { return row.version.starts_with(version + "."); });
      if (!is_known) review_.add("cuda-driver-unknown", place, version, fmt::format("there is no CUDA {}", version));
      return;
    }
    const CudaRow* row = find_cuda(review_.compat, version);
    if (row == nullptr) {
      std::vector<std::string> near;
      for (const CudaRow& one : review_.compat.cuda) {
        if (one.version.substr(0, one.version.find('.')) == version.substr(0, version.find('.'))) near.push_back(one.version);
      }
      review_.add("cuda-driver-unknown", place, version, fmt::format("there is no CUDA {}", version), std::nullopt,
                  near.empty() ? "" : "of that major version there are " + join(near, ", "));
      return;
    }
    if (any_branch_ || branches_.empty()) return;
    const std::string floor = minor_version_floor(review_.compat, *row);
    // Of several, each for hosts of its own, one that runs it is enough.
    if (std::any_of(branches_.begin(), branches_.end(), [&](const std::string& branch) {
          const KnownDriver driver{branch, true};
          return driver.reaches(row->driver) || (!floor.empty() && driver.reaches(floor));
        }))
      return;
    review_.add("cuda-driver-unknown", place, version,
                fmt::format("CUDA {} needs driver {} or newer, and the recipe asks for branch {}", version,
                            floor.empty() ? row->driver : floor, join(branches_, " or ")),
                std::nullopt, "let `branch: auto` choose, or take an older CUDA");
  }

  LintReview& review_;
  std::vector<std::string> branches_;
  bool any_branch_ = false;
};

}  // namespace

void lint_steps(LintReview& review) {
  for (const LintStep& step : review.steps) {
    look_at_guards(review, step);
    look_at_urls(review, step);
    look_at_packages(review, step);
    look_at_paths(review, step);
    look_at_choices(review, step);
    look_at_stops(review, step);
  }
  Versions(review).look();
}

}  // namespace gpustrap
