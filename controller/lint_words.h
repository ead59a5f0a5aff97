#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gpustrap {

// What single words of a recipe mean to lint. Each answers with an empty text, or false, where there is nothing to say.

/// "/tmp" for a path below a folder that is empty after a restart.
[[nodiscard]] std::string folder_that_goes(std::string_view path);
/// "/home/ubuntu" for a path below it.
[[nodiscard]] std::string home_of_one(std::string_view path);
/// Whether every login reads that file: ~/.bashrc, /etc/profile.d/cuda.sh, /etc/environment.
[[nodiscard]] bool is_profile(std::string_view path);
/// The first `$NAME` or `${NAME}` that is not the home at the beginning.
[[nodiscard]] std::string variable_behind_home(std::string_view text);
/// Whether it is an http:// URL of another machine.
[[nodiscard]] bool is_plain_http(std::string_view url);
/// "latest", "master" …: the part of a URL that changes its meaning.
[[nodiscard]] std::string moving_word(std::string_view url);
/// "0777", "666", "a+w", "o+rwx". A sticky directory (1777) is not.
[[nodiscard]] bool is_world_writable(std::string_view mode);
/// A name such as HUB_TOKEN or db_password: what it is set to is a secret.
[[nodiscard]] bool is_secret_name_for_people(std::string_view name);
/// A literal value, not a name of where one is found; nor the hash of a password, which may be shown.
[[nodiscard]] bool is_literal_secret(std::string_view value);
/// The part of `text` that looks like a credential whatever it is called: a key of AWS, GitHub, Hugging Face, …, or a private key.
[[nodiscard]] std::string credential_in(std::string_view text);
/// Whether `word` stands in `text` with neither a letter nor a digit beside it; the place, or npos.
[[nodiscard]] std::size_t find_word(std::string_view text, std::string_view word, std::size_t from = 0);
/// The file of a path or URL, without a query.
[[nodiscard]] std::string name_of_path(std::string_view path);

}  // namespace gpustrap
