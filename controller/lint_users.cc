#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"

// Whom steps run as: `as: USER` is looked up on the host, when the steps before it are done.

namespace gpustrap {
namespace {

bool is_among(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// Of base-passwd, which every Debian and Ubuntu has, and of systemd.
bool is_on_every_host(std::string_view user) {
  return is_among(user, {"root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "www-data", "backup", "list",
                         "irc", "nobody", "proxy"}) ||
         user.starts_with("systemd-");
}

bool is_login_of_images(std::string_view user) { return is_among(user, {"ubuntu", "ec2-user", "admin", "debian", "centos", "azureuser"}); }

/// Whether a step may make the user: a command that names it or makes users, a package that may bring it along, steps of another recipe.
bool may_make(const LintStep& step, const std::string& user) {
  bool names_it = false;
  for_each_text(step.fields, "", [&](const std::string& text, const std::string&) {
    names_it = names_it || find_word(text, user) != std::string::npos;
    for (const std::string_view word : {"useradd", "adduser", "newusers"})
      names_it = names_it || (find_word(text, word) != std::string::npos && text.find('$') != std::string::npos);
  });
  if (step.kind == StepKind::command || step.kind == StepKind::deb || step.kind == StepKind::file) return names_it;
  if (step.kind != StepKind::apt) return false;
  const std::vector<std::string> packages = step.texts("packages");
  // postgresql brings postgres, redis-server brings redis.
  return std::any_of(packages.begin(), packages.end(), [&](const std::string& package) {
    return package.find(user) != std::string::npos || package.find("${{") != std::string::npos;
  });
}

}  // namespace

void lint_users(LintReview& review) {
  const Json& all = review.recipe.document ? *review.recipe.document : Json();
  for (std::size_t i = 0; i < review.steps.size(); ++i) {
    const LintStep& step = review.steps[i];
    const auto as = step.step->find("as");
    if (as == step.step->end() || !as->is_string()) continue;
    const auto user = as->get<std::string>();
    if (user.empty() || user == "login" || user.find("${{") != std::string::npos || is_on_every_host(user)) continue;
    const bool is_made = std::any_of(review.steps.begin(), review.steps.begin() + static_cast<std::ptrdiff_t>(i),
                                     [&](const LintStep& before) { return may_make(before, user); });
    // What an included recipe does is not looked at here.
    const bool includes =
        all.is_object() && all.contains("steps") &&
        std::any_of(all["steps"].begin(), all["steps"].end(), [](const Json& one) { return one.is_object() && one.contains("include"); });
    if (is_made || includes) continue;
    const bool is_below = std::any_of(review.steps.begin() + static_cast<std::ptrdiff_t>(i) + 1, review.steps.end(),
                                      [&](const LintStep& behind) { return may_make(behind, user); });
    const std::string message = is_login_of_images(user)
                                    ? fmt::format("`{}` is the login of some images, and on others there is no such user", user)
                                : is_below ? fmt::format("the user `{}` is made by a step further down", user)
                                           : fmt::format("no step before makes the user `{}`", user);
    review.add("user-unknown", step.pointer + "/as", user, message);
  }
}

}  // namespace gpustrap
