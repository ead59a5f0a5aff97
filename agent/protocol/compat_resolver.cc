#include "agent/protocol/compat_resolver.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_sources.h"
#include "agent/protocol/field_types.h"

namespace gpustrap {
namespace {

using Runs = CudaAnswer::Runs;
using How = DriverAnswer::How;

bool is_number(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }
bool less(std::string_view a, std::string_view b) { return compare_versions(a, b) < 0; }

class Resolver {
 public:
  Resolver(const Compat& compat, const CompatQuestion& question) : compat_(compat), question_(question) {}

  Result<CompatAnswer> resolve() {
    for (Result<void> (Resolver::*part)() : {&Resolver::identify, &Resolver::read_wish, &Resolver::check_wish, &Resolver::check_mixture,
                                             &Resolver::choose_driver, &Resolver::choose_cuda}) {
      if (Result<void> done = (this->*part)(); !done) return fail(std::move(done).error());
    }
    if (Result<void> done = add_sources(compat_, question_, {kinds_, distribution_, cuda_}, answer_); !done)
      return fail(std::move(done).error());
    say_reason();
    add_warnings();
    return std::move(answer_);
  }

 private:
  using Kind = GpuKind;

  static tl::unexpected<Error> refuse(std::string why, std::string hint = {}) {
    return fail(ErrorCode::unsupported, std::move(why), std::move(hint));
  }

  // -- what is there --------------------------------------------------------------------------------------------------------------------

  Result<void> identify() {
    if (question_.gpus.empty())
      return refuse("no NVIDIA GPU is on the PCI bus", "rent an instance with a GPU, or a recipe that needs none");
    kinds_ = gpu_kinds(compat_, question_.gpus);
    for (const PciGpu& gpu : question_.gpus) {
      if (unknown_.empty() && find_gpu(compat_, gpu) == nullptr)
        unknown_ = fmt::format("the GPU 10de:{}{}", gpu.device, gpu.address.empty() ? "" : " at " + gpu.address);
    }
    const bool can_keep = !question_.driver.empty() && (question_.branch == "auto" || question_.container);
    if (!unknown_.empty() && question_.driver.empty() && question_.branch == "auto") {
      return refuse(unknown_ + " is not one that gpustrap knows, so it cannot choose a driver",
                    "name the driver's branch and the CUDA version; NVIDIA's driver release notes list the GPUs of each branch");
    }
    for (const Kind& kind : kinds_) {
      if (kind.row->refuse.empty() || can_keep) continue;
      return refuse(fmt::format("{}: {}", label_of(*kind.row), kind.row->refuse), "use an instance with a whole GPU");
    }
    return {};
  }

  // -- what is wanted -------------------------------------------------------------------------------------------------------------------

  Result<void> read_wish() {
    const std::string& text = question_.cuda;
    if (text.empty() || text == "auto") return {};
    const std::vector<std::string> parts = split(text, '.');
    if (parts.size() > 3 || !std::all_of(parts.begin(), parts.end(), [](const std::string& part) { return is_number(part); }))
      return fail(ErrorCode::recipe, fmt::format("{} is not a version of CUDA: expected auto, 12 or 12.4", quote_value(text)));
    if (parts.size() == 1) {
      major_ = text;
      const bool any = std::any_of(compat_.cuda.begin(), compat_.cuda.end(), [&](const CudaRow& row) { return is_wanted(row); });
      if (!any) return fail(ErrorCode::recipe, fmt::format("there is no CUDA {}", text), nearest_cuda(text));
      return {};
    }
    wanted_ = find_cuda(compat_, text);
    if (wanted_ == nullptr) return fail(ErrorCode::recipe, fmt::format("there is no CUDA {}", text), nearest_cuda(text));
    wanted_driver_ = wanted_->driver;
    for (const auto& [update, driver] : wanted_->updates.items) {
      if (parts.size() == 3 && !less(parts[2], update.substr(1))) wanted_driver_ = driver;
    }
    return {};
  }

  [[nodiscard]] std::string nearest_cuda(const std::string& version) const {
    std::string below, above;
    for (const CudaRow& row : compat_.cuda) {
      if (row.certainty == Certainty::open) continue;
      if (less(row.version, version) && (below.empty() || less(below, row.version))) below = row.version;
      if (less(version, row.version) && (above.empty() || less(row.version, above))) above = row.version;
    }
    if (below.empty()) return "the oldest known is " + above;
    if (above.empty()) return "the newest known is " + below;
    return fmt::format("the nearest are {} and {}", below, above);
  }

  [[nodiscard]] bool wants_cuda() const { return !question_.cuda.empty(); }
  [[nodiscard]] bool is_wanted(const CudaRow& row) const {
    if (wanted_ != nullptr) return &row == wanted_;
    return row.certainty != Certainty::open && (major_.empty() || branch_of(row.version) == major_);
  }

  /// Whether each GPU by itself can run what is wanted.
  Result<void> check_wish() {
    if (wants_cuda() && (wanted_ != nullptr || !major_.empty())) {
      for (const Kind& kind : kinds_) {
        const std::string first = first_cuda_of(compat_, *kind.row);
        const std::string& last = kind.row->last_cuda;
        // Of a major version, the part that is compared: 12 is not newer than 12.9.
        const auto part = [&](const std::string& version) { return major_.empty() ? version : branch_of(version); };
        const std::string version = major_.empty() ? wanted_->version : major_;
        if (!last.empty() && less(part(last), version)) {
          const std::string with = kind.row->last_branch.empty() ? "" : " with driver branch " + kind.row->last_branch;
          return refuse(fmt::format("CUDA {} cannot run on {}: the last is {}{}", question_.cuda, label_of(*kind.row), last, with),
                        fmt::format("want CUDA {} or older, or rent a newer GPU", last));
        }
        if (!first.empty() && less(version, part(first))) {
          return refuse(fmt::format("CUDA {} cannot run on {}: the first is {}", question_.cuda, label_of(*kind.row), first),
                        fmt::format("want CUDA {} or newer, or auto", first));
        }
      }
    }
    for (const Kind& kind : kinds_) {
      if (question_.modules == ModulesWish::open && kind.row->modules == GpuModules::proprietary)
        return refuse(fmt::format("{} has no open kernel modules: they begin with Turing", label_of(*kind.row)),
                      "want the proprietary ones");
      if (question_.modules == ModulesWish::proprietary && kind.row->modules == GpuModules::open_required)
        return refuse(label_of(*kind.row) + " works with the open kernel modules alone", "want the open ones");
    }
    return {};
  }

  /// Whether one driver, one kind of modules and one CUDA serve all GPUs.
  Result<void> check_mixture() {
    const GpuRow *first = nullptr, *last = nullptr, *newest = nullptr, *oldest = nullptr, *open = nullptr, *closed = nullptr;
    for (const Kind& kind : kinds_) {
      const GpuRow& row = *kind.row;
      if (!first_driver_of(compat_, row).empty() &&
          (first == nullptr || less(first_driver_of(compat_, *first), first_driver_of(compat_, row))))
        first = &row;
      if (!row.last_branch.empty() && (last == nullptr || less(row.last_branch, last->last_branch))) last = &row;
      if (!first_cuda_of(compat_, row).empty() && (newest == nullptr || less(first_cuda_of(compat_, *newest), first_cuda_of(compat_, row))))
        newest = &row;
      if (!row.last_cuda.empty() && (oldest == nullptr || less(row.last_cuda, oldest->last_cuda))) oldest = &row;
      if (row.modules == GpuModules::open_required) open = &row;
      if (row.modules == GpuModules::proprietary) closed = &row;
    }
    const std::string hint = "rent a machine with GPUs of one generation";
    if (first != nullptr && last != nullptr && less(last->last_branch, branch_of(first_driver_of(compat_, *first)))) {
      return refuse(fmt::format("no driver serves both {} (the last branch is {}) and {} (the first is {})", label_of(*last),
                                last->last_branch, label_of(*first), first_driver_of(compat_, *first)),
                    hint);
    }
    if (open != nullptr && closed != nullptr) {
      return refuse(fmt::format("no driver serves both {} (proprietary kernel modules alone) and {} (open ones alone)", label_of(*closed),
                                label_of(*open)),
                    hint);
    }
    if (newest != nullptr) first_cuda_ = first_cuda_of(compat_, *newest);
    if (oldest != nullptr) last_cuda_ = oldest->last_cuda, last_cuda_row_ = oldest;
    if (wants_cuda() && !first_cuda_.empty() && !last_cuda_.empty() && less(last_cuda_, first_cuda_)) {
      return refuse(fmt::format("no CUDA runs on both {} (the last is {}) and {} (the first is {})", label_of(*oldest), last_cuda_,
                                label_of(*newest), first_cuda_),
                    hint);
    }
    return {};
  }

  // -- the driver -----------------------------------------------------------------------------------------------------------------------

  /// Why this driver does not serve the GPUs; empty where it does.
  [[nodiscard]] std::string driver_problem(const KnownDriver& driver) const {
    for (const Kind& kind : kinds_) {
      const GpuRow& row = *kind.row;
      const std::string first = first_driver_of(compat_, row);
      if (!row.last_branch.empty() && less(row.last_branch, branch_of(driver.text)))
        return fmt::format("{} does not serve {}: the last branch is {}", driver.name(), label_of(row), row.last_branch);
      if (!first.empty() && !driver.reaches(first))
        return fmt::format("{} does not serve {}: the first driver is {}", driver.name(), label_of(row), first);
    }
    return {};
  }

  /// Open or proprietary modules of a branch; an error where those that are needed do not exist.
  [[nodiscard]] Result<bool> open_modules(const std::string& branch) const {
    const bool has_open = !less(branch, compat_.open_modules.first_branch);
    const bool has_closed = less(branch, compat_.open_modules.only_from);
    const auto row_with = [&](GpuModules modules) -> const GpuRow* {
      const auto found = std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& kind) { return kind.row->modules == modules; });
      return found == kinds_.end() ? nullptr : found->row;
    };
    const GpuRow *open = row_with(GpuModules::open_required), *closed = row_with(GpuModules::proprietary);
    if ((open != nullptr || question_.modules == ModulesWish::open) && !has_open) {
      return refuse(fmt::format("driver branch {} has no open kernel modules{}: they begin with branch {}", branch,
                                open == nullptr ? "" : ", and " + label_of(*open) + " needs them", compat_.open_modules.first_branch),
                    "want a newer branch, or the proprietary modules where the GPU has them");
    }
    if ((closed != nullptr || question_.modules == ModulesWish::proprietary) && !has_closed) {
      return refuse(
          fmt::format("driver branch {} has no proprietary kernel modules{}: packages have the open ones alone from branch {} on", branch,
                      closed == nullptr ? "" : ", and " + label_of(*closed) + " needs them", compat_.open_modules.only_from),
          "want an older branch, or the open modules where the GPU has them");
    }
    if (open != nullptr || question_.modules == ModulesWish::open || !has_closed) return true;
    // A GPU that is in no table may be too old for the open modules.
    return has_open && closed == nullptr && question_.modules == ModulesWish::automatic && unknown_.empty();
  }

  [[nodiscard]] std::optional<Runs> how_it_runs(const CudaRow& cuda, const KnownDriver& driver) const {
    if (driver.reaches(&cuda == wanted_ ? wanted_driver_ : cuda.driver)) return Runs::natively;
    const std::string floor = minor_version_floor(compat_, cuda);
    if (floor.empty()) return std::nullopt;
    if (driver.reaches(floor)) return Runs::minor_version;
    const bool data_centre = unknown_.empty() && std::all_of(kinds_.begin(), kinds_.end(),
                                                             [](const Kind& kind) { return kind.row->data_centre.value_or(false); });
    return data_centre ? std::optional(Runs::forward) : std::nullopt;
  }

  /// Whether the driver runs any CUDA that is wanted, without the package of forward compatibility.
  [[nodiscard]] bool runs_the_wish(const KnownDriver& driver) const {
    if (!wants_cuda() || (wanted_ == nullptr && major_.empty())) return true;
    return std::any_of(compat_.cuda.begin(), compat_.cuda.end(), [&](const CudaRow& row) {
      return is_wanted(row) && how_it_runs(row, driver).value_or(Runs::forward) != Runs::forward;
    });
  }

  Result<void> choose_driver() {
    if (question_.container) return take_outside_driver();
    if (question_.branch != "auto") return take_named_branch();
    const KnownDriver loaded{question_.driver, false};
    const bool untouchable =
        !unknown_.empty() || std::any_of(kinds_.begin(), kinds_.end(), [](const Kind& kind) { return !kind.row->refuse.empty(); });
    if (!question_.driver.empty() && (untouchable || (driver_problem(loaded).empty() && runs_the_wish(loaded)))) return keep_loaded();
    std::vector<std::string> branches = picked_branches(compat_);
    const std::vector<std::string> known = known_branches(compat_);
    branches.insert(branches.end(), known.rbegin(), known.rend());
    for (const DriverPackagesRow& row : compat_.driver_packages) {
      // A release's own packages are of the one branch that it came with.
      if (row.from == question_.source && row.os == question_.os && row.os_version == question_.os_version && !row.os_version.empty())
        branches = {row.first_branch};
    }
    for (const std::string& branch : branches) {
      const KnownDriver driver{branch, true};
      if (is_unconfirmed(branch) || !driver_problem(driver).empty() || !runs_the_wish(driver)) continue;
      if (open_modules(branch)) return take_branch(branch);
    }
    return refuse(fmt::format("no driver branch serves {}{}", gpus_text(), wants_cuda() ? " and runs CUDA " + question_.cuda : ""));
  }

  Result<void> take_branch(const std::string& branch) {
    const Result<bool> open = open_modules(branch);
    if (!open) return fail(open.error());
    answer_.driver.branch = branch;
    answer_.driver.open = *open;
    driver_ = {branch, true};
    for (const Kind& kind : kinds_) {
      const std::string& first = kind.row->first_driver;
      if (first != branch && branch_of(first) == branch && less(answer_.driver.at_least, first)) answer_.driver.at_least = first;
    }
    return {};
  }

  Result<void> keep_loaded() {
    answer_.driver.how = How::keep;
    answer_.driver.version = question_.driver;
    answer_.driver.branch = branch_of(question_.driver);
    driver_ = {question_.driver, false};
    return {};
  }

  Result<void> take_named_branch() {
    const std::string& wanted = question_.branch;
    if (!is_number(wanted))
      return fail(ErrorCode::recipe, fmt::format("{} is not a driver branch: expected auto or a number such as 580", quote_value(wanted)));
    const std::vector<std::string> known = known_branches(compat_);
    if (less(known.back(), wanted))
      return fail(ErrorCode::recipe, fmt::format("there is no driver branch {}", wanted), "the newest known is " + known.back());
    if (std::string problem = driver_problem({wanted, true}); !problem.empty()) return refuse(std::move(problem), "want the branch `auto`");
    const KnownDriver loaded{question_.driver, false};
    if (branch_of(loaded.text) == wanted && driver_problem(loaded).empty() && runs_the_wish(loaded)) return keep_loaded();
    if (!std::binary_search(known.begin(), known.end(), wanted, less))
      answer_.warnings.push_back(
          fmt::format("driver branch {} is in none of gpustrap's tables; whether there are packages of it, apt will tell", wanted));
    return take_branch(wanted);
  }

  Result<void> take_outside_driver() {
    if (question_.driver.empty()) {
      const std::string needs =
          wanted_ == nullptr ? "" : fmt::format("; CUDA {} needs {} or newer there", question_.cuda, oldest_driver(*wanted_));
      return refuse("a container has its driver from outside, and none is loaded" + needs,
                    "start the container with its GPUs (for instance --gpus all), on a machine that has the driver");
    }
    if (std::string problem = driver_problem({question_.driver, false}); !problem.empty())
      return refuse(std::move(problem), "change the driver outside, on the machine that runs the container");
    if (question_.branch != "auto" && branch_of(question_.driver) != question_.branch) {
      return refuse(fmt::format("driver branch {} is wanted, but {} is loaded outside this container, where nothing can be changed",
                                question_.branch, question_.driver),
                    "want the branch `auto`, or change the driver outside");
    }
    static_cast<void>(keep_loaded());
    answer_.driver.how = How::outside;
    return {};
  }

  // -- CUDA -----------------------------------------------------------------------------------------------------------------------------

  /// Oldest driver that runs this CUDA without further packages.
  [[nodiscard]] std::string oldest_driver(const CudaRow& cuda) const {
    const std::string floor = minor_version_floor(compat_, cuda);
    const std::string& own = &cuda == wanted_ ? wanted_driver_ : cuda.driver;
    return floor.empty() || less(own, floor) ? own : floor;
  }

  [[nodiscard]] bool gpus_run(const CudaRow& cuda) const {
    return (first_cuda_.empty() || !less(cuda.version, first_cuda_)) && (last_cuda_.empty() || !less(last_cuda_, cuda.version));
  }

  [[nodiscard]] bool in_repository(const CudaRow& cuda) const {
    if (distribution_ == nullptr || question_.toolkit == ToolkitFrom::runfile) return false;
    if (!distribution_->first_cuda.empty() && less(cuda.version, distribution_->first_cuda)) return false;
    return distribution_->last_cuda.empty() || !less(distribution_->last_cuda, cuda.version);
  }

  [[nodiscard]] std::string repository_text() const {
    const DistributionRow& row = *distribution_;
    if (row.first_cuda.empty()) return fmt::format("the repository {}", row.repository);
    return fmt::format("the repository {} has CUDA {}{}", row.repository, row.first_cuda,
                       row.last_cuda.empty() ? " and newer" : " to " + row.last_cuda);
  }

  Result<void> choose_cuda() {
    if (!question_.os.empty()) distribution_ = find_distribution(compat_, question_.os, question_.os_version);
    if (!wants_cuda()) return {};
    struct Candidate {
      const CudaRow* row;
      Runs runs;
      bool in_repository;
    };
    std::vector<Candidate> candidates;
    for (const CudaRow& row : compat_.cuda) {
      if (!is_wanted(row) || !gpus_run(row)) continue;
      const auto runs = how_it_runs(row, driver_);
      if (!runs || (*runs == Runs::forward && wanted_ == nullptr)) continue;
      oldest_that_runs_ = oldest_that_runs_.empty() || less(row.version, oldest_that_runs_) ? row.version : oldest_that_runs_;
      newest_that_runs_ = newest_that_runs_.empty() || less(newest_that_runs_, row.version) ? row.version : newest_that_runs_;
      candidates.push_back({&row, *runs, in_repository(row)});
    }
    if (candidates.empty()) {
      if (wanted_ == nullptr)
        return refuse(fmt::format("{} runs no CUDA {}that {} can run", driver_.name(), major_.empty() ? "" : major_ + " ", gpus_text()));
      return refuse(fmt::format("{} does not run CUDA {}: it needs {} or newer", driver_.name(), question_.cuda, oldest_driver(*wanted_)),
                    driver_.whole_branch ? "want the branch `auto`" : "want an older CUDA, or `auto`");
    }
    if (question_.toolkit == ToolkitFrom::repository) {
      std::erase_if(candidates, [](const Candidate& one) { return !one.in_repository; });
      if (candidates.empty()) return refuse_repository();
    }
    const auto best = std::max_element(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
      if (a.in_repository != b.in_repository) return b.in_repository;
      if (a.runs != b.runs) return a.runs != Runs::natively;
      return less(a.row->version, b.row->version);
    });
    answer_.cuda = CudaAnswer{wanted_ != nullptr ? question_.cuda : best->row->version, best->runs, best->in_repository, "", ""};
    cuda_ = best->row;
    const std::string& own = cuda_ == wanted_ ? wanted_driver_ : cuda_->driver;
    if (driver_.whole_branch && own != driver_.text && branch_of(own) == driver_.text && less(answer_.driver.at_least, own))
      answer_.driver.at_least = own;
    return {};
  }

  Result<void> refuse_repository() {
    if (distribution_ == nullptr) return fail(not_served(compat_, question_));
    std::vector<std::string> others;
    for (const DistributionRow& row : compat_.distributions) {
      if (wanted_ == nullptr || row.first_cuda.empty() || less(wanted_->version, row.first_cuda)) continue;
      if (row.last_cuda.empty() || !less(row.last_cuda, wanted_->version)) others.push_back(row.os + " " + row.version);
    }
    const std::string why = wanted_ != nullptr ? ", not " + wanted_->version
                                               : fmt::format(", and {} with {} runs CUDA {} to {}", gpus_text(), driver_.name(),
                                                             oldest_that_runs_, newest_that_runs_);
    return refuse(repository_text() + why, others.empty() ? "take the toolkit's runfile"
                                                          : "take the toolkit's runfile, or a release that has it: " + join(others, ", "));
  }

  // -- in words -------------------------------------------------------------------------------------------------------------------------

  [[nodiscard]] std::string gpus_text() const {
    std::vector<std::string> all;
    for (const Kind& kind : kinds_)
      all.push_back(kind.count > 1 ? fmt::format("{}x {}", kind.count, label_of(*kind.row)) : label_of(*kind.row));
    if (!unknown_.empty()) all.push_back(unknown_);
    return join(all, " and ");
  }

  [[nodiscard]] std::string driver_text() const {
    const DriverAnswer& driver = answer_.driver;
    if (driver.how == How::keep) return fmt::format("driver {} is loaded and stays", driver.version);
    if (driver.how == How::outside) return fmt::format("driver {} from outside the container", driver.version);
    const std::string instead = question_.driver.empty() ? "" : fmt::format(", in place of driver {}", question_.driver);
    return fmt::format("driver branch {}, {} modules{}", driver.branch, driver.open ? "open" : "proprietary", instead);
  }

  [[nodiscard]] std::string cuda_text() const {
    const CudaAnswer& cuda = *answer_.cuda;
    const std::string how = cuda.runs == Runs::natively ? ""
                            : cuda.runs == Runs::minor_version
                                ? fmt::format(" by minor-version compatibility (its own driver is {})", cuda_->driver)
                                : fmt::format(" by forward compatibility (cuda-compat; its own driver is {})", cuda_->driver);
    if (wanted_ != nullptr) return fmt::format("CUDA {} runs on it{}", cuda.version, how);
    if (cuda.version == last_cuda_)
      return fmt::format("CUDA {} is the last for {}{}", cuda.version, label_of(*last_cuda_row_),
                         cuda.runs == Runs::natively ? "" : ", and runs" + how);
    const std::string line = major_.empty() ? "CUDA" : "CUDA " + major_;
    const bool limited = cuda.from_repository && !distribution_->last_cuda.empty() && cuda.version == distribution_->last_cuda;
    if (limited)
      return fmt::format("CUDA {} is the newest in the repository {}{}", cuda.version, distribution_->repository,
                         how.empty() ? "" : ", and runs" + how);
    if (cuda.runs == Runs::natively) {
      const std::string more = less(cuda.version, newest_that_runs_)
                                   ? fmt::format("; newer ones up to {} run by minor-version compatibility", newest_that_runs_)
                                   : "";
      return fmt::format("CUDA {} is the newest {} that {} runs by itself{}", cuda.version, line == "CUDA" ? "" : major_ + ".x",
                         driver_.name(), more);
    }
    return fmt::format("CUDA {} runs on it{}", cuda.version, how);
  }

  void say_reason() {
    answer_.reason = fmt::format("{}: {}", gpus_text(), driver_text());
    if (answer_.cuda) answer_.reason += "; " + cuda_text();
    for (std::size_t at = answer_.reason.find("  "); at != std::string::npos; at = answer_.reason.find("  ")) answer_.reason.erase(at, 1);
  }

  [[nodiscard]] bool is_unconfirmed(const std::string& branch) const {
    return std::any_of(compat_.branches.begin(), compat_.branches.end(),
                       [&](const BranchRow& row) { return row.branch == branch && row.certainty == Certainty::open; });
  }

  /// A repository began and ended with toolkits; drivers before and after them may be there or not.
  void warn_of_branch() {
    const auto driver_of = [&](const std::string& version) {
      const CudaRow* row = version.empty() ? nullptr : find_cuda(compat_, version);
      return row == nullptr ? "" : branch_of(row->driver);
    };
    const std::string first = driver_of(distribution_->first_cuda), last = driver_of(distribution_->last_cuda);
    const bool before = !first.empty() && less(answer_.driver.branch, first);
    if (!before && (last.empty() || !less(last, answer_.driver.branch))) return;
    answer_.warnings.push_back(
        fmt::format("whether the repository {} has driver branch {} is not recorded: it {} with CUDA {} and driver {}",
                    distribution_->repository, answer_.driver.branch, before ? "began" : "ended",
                    before ? distribution_->first_cuda : distribution_->last_cuda, before ? first : last));
  }

  void add_warnings() {
    std::vector<std::string>& warnings = answer_.warnings;
    const DriverAnswer& driver = answer_.driver;
    const bool installs = driver.how == How::install;
    if (!unknown_.empty()) warnings.push_back(unknown_ + " is not one that gpustrap knows: nothing is checked against it");
    for (const Kind& kind : kinds_) {
      const GpuRow& row = *kind.row;
      if (row.certainty == Certainty::open) warnings.push_back(fmt::format("not certain for {}: {}", row.name, row.source));
      if (!row.refuse.empty()) warnings.push_back(fmt::format("{} {}", row.name, row.refuse));
      if (!row.workaround.empty() && installs && driver.open && driver.branch == row.workaround_branch)
        warnings.push_back(fmt::format("{}: {}", row.name, row.workaround));
      if (!row.arch.empty() && row.arch != question_.arch)
        warnings.push_back(fmt::format("{} is known from machines of {}, this is {}", row.name, row.arch, question_.arch));
    }
    if (installs && is_unconfirmed(driver.branch))
      warnings.push_back(fmt::format("it is not confirmed that driver branch {} is out", driver.branch));
    if (distribution_ != nullptr && installs && !distribution_->old_branches.empty() &&
        less(driver.branch, picked_branches(compat_).front()))
      warnings.push_back(fmt::format("{} {}: {}", question_.os, question_.os_version, distribution_->old_branches));
    if (distribution_ != nullptr && installs) warn_of_branch();
    if (distribution_ != nullptr && !distribution_->note.empty())
      warnings.push_back(fmt::format("the repository {}: {}", distribution_->repository, distribution_->note));
    if (!driver.fabric_packages.empty())
      warnings.push_back("NVSwitches join these GPUs: without the fabric manager at exactly the driver's version CUDA does not start");
    if (!answer_.cuda) return;
    if (cuda_->certainty == Certainty::open) warnings.push_back(fmt::format("it is not confirmed that CUDA {} is out", cuda_->version));
    if (!cuda_->note.empty()) warnings.push_back(fmt::format("CUDA {}: {}", cuda_->version, cuda_->note));
    if (answer_.cuda->runs == Runs::forward) warnings.push_back("which older drivers cuda-compat still takes is not recorded");
    if (!answer_.cuda->from_repository && !question_.os.empty() && question_.toolkit == ToolkitFrom::any) {
      const std::string why = distribution_ == nullptr ? "NVIDIA's repository does not serve this release" : repository_text();
      warnings.push_back(fmt::format("CUDA {} comes by runfile or conda alone: {}", answer_.cuda->version, why));
    }
  }

  const Compat& compat_;
  const CompatQuestion& question_;
  std::vector<Kind> kinds_;
  std::string unknown_;  ///< the first GPU that is in no table, for messages
  const CudaRow* wanted_ = nullptr;
  std::string wanted_driver_, major_;
  std::string first_cuda_, last_cuda_, oldest_that_runs_, newest_that_runs_;
  const GpuRow* last_cuda_row_ = nullptr;
  KnownDriver driver_;
  const CudaRow* cuda_ = nullptr;
  const DistributionRow* distribution_ = nullptr;
  CompatAnswer answer_;
};

}  // namespace

CompatQuestion question_of(const Facts& facts) {
  CompatQuestion question;
  question.gpus = facts.gpus;
  question.os = facts.os;
  question.os_version = facts.os_version;
  question.arch = facts.arch;
  question.driver = facts.driver;
  question.container = facts.container;
  return question;
}

Result<CompatAnswer> resolve_compat(const Compat& compat, const CompatQuestion& question) { return Resolver(compat, question).resolve(); }

}  // namespace gpustrap
