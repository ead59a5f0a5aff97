# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# conda and its environments. The publishers' servers cannot be reached from a test, and no conda can be had from where tests may
# take things: installers, channels and the conda itself are stand-ins (tests/testbed/stand_in_conda*.py), which keep to the flags,
# files, words and exit codes of the real ones. Python, venv and pip in the environments are real.

conda_needs() { needs_gpustrap; }

conda_cases() {
    case_ "a stand-in conda is installed as the login user, with an environment that works"
    boot_host box
    mkdir -p "$suite_dir/www"
    serve "$suite_dir/www"
    trust_origin
    publish_conda
    course_recipe >"$suite_dir/course.yaml"
    on_host sh -c 'echo "alias mine=true" >>/home/ubuntu/.bashrc; chown ubuntu /home/ubuntu/.bashrc'
    up "$suite_dir/course.yaml" --json
    expect_exit 0
    on_host stat -c %U /home/ubuntu/conda/bin/conda /home/ubuntu/conda/envs/course/conda-meta/history
    expect_equal "$(sort -u "$case_dir/stdout")" ubuntu
    on_host cat /home/ubuntu/conda/envs/course/share/toy.txt /home/ubuntu/conda/envs/course/share/numbers-lib.txt
    expect_output "toy 1.0"
    expect_output "numbers-lib 1.1"
    on_host /home/ubuntu/conda/envs/course/bin/python -c 'import idna, sys; print(idna.__name__, sys.prefix)'
    expect_output "idna /home/ubuntu/conda/envs/course"

    case_ "logins know it, and the user's own lines are still there"
    # shellcheck disable=SC2016 # expanded on the host
    as_login bash -ic 'echo "conda is $CONDA_EXE"; alias mine'
    expect_output "conda is /home/ubuntu/conda/bin/conda"
    expect_output "alias mine='true'"

    case_ "the second run is unchanged, step by step and byte by byte"
    take_listing
    up "$suite_dir/course.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "a plan names the versions that conda finds, in place of which, and touches nothing"
    sed 's/toy=1.0/toy>=2, extra/' "$suite_dir/course.yaml" >"$suite_dir/planned.yaml"
    take_listing --except home/ubuntu/.cache/gpustrap # where it may: it is empty again
    gpustrap plan "$suite_dir/planned.yaml" "$host"
    expect_exit 0
    expect_output "install toy 2.0 in place of 1.0"
    expect_output "install extra 0.3"
    expect_same_listing --except home/ubuntu/.cache/gpustrap

    case_ "another package goes into the environment that is there, with what the user has put into it"
    on_host sh -c 'echo mine >/home/ubuntu/conda/envs/course/share/mine.txt'
    sed -i 's/toy=1.0/toy>=2, extra/' "$suite_dir/course.yaml"
    up "$suite_dir/course.yaml" --json
    expect_exit 0
    expect_output "toy 1.0 is installed, toy>=2 wanted; extra is not installed"
    on_host cat /home/ubuntu/conda/envs/course/share/toy.txt /home/ubuntu/conda/envs/course/share/mine.txt
    expect_output "toy 2.0"
    expect_output mine

    case_ "an environment file is applied once, and again when it has changed"
    file_recipe toy >"$suite_dir/file.yaml"
    up "$suite_dir/file.yaml" --json
    expect_exit 0
    up "$suite_dir/file.yaml" --json
    expect_exit 0
    expect_unchanged
    file_recipe extra >"$suite_dir/file.yaml"
    up "$suite_dir/file.yaml" --json
    expect_exit 0
    expect_output "has changed since it was applied"
    on_host cat /home/ubuntu/conda/envs/filed/share/extra.txt
    expect_output "extra 0.3"

    case_ "an older conda is updated where a version is asked for, and keeps its environments"
    conda_recipe newer.sh 'conda, version: 26.9.0-0' >"$suite_dir/newer.yaml"
    up "$suite_dir/newer.yaml" --json
    expect_exit 0
    expect_output "conda 26.3.2 in /home/ubuntu/conda, 26.9.0 wanted"
    on_host cat /home/ubuntu/conda/envs/course/share/mine.txt
    expect_output mine
    up "$suite_dir/newer.yaml" --json
    expect_unchanged

    case_ "Anaconda's terms are accepted by its user or not at all"
    terms_recipe false >"$suite_dir/terms.yaml"
    up "$suite_dir/terms.yaml" --json
    expect_exit 1
    expect_output "Terms of Service"
    expect_output "accept_tos: true"
    on_host test ! -e /home/ubuntu/anaconda
    expect_exit 0
    terms_recipe true >"$suite_dir/terms.yaml"
    up "$suite_dir/terms.yaml" --json
    expect_exit 0
    up "$suite_dir/terms.yaml" --json
    expect_unchanged

    case_ "a conda whose terms nobody has accepted says so where it matters"
    on_host rm -r /home/ubuntu/.conda/tos /home/ubuntu/anaconda/envs
    sed '/conda: {/d' "$suite_dir/terms.yaml" >"$suite_dir/unaccepted.yaml"
    up "$suite_dir/unaccepted.yaml" --json
    expect_exit 1
    expect_output "the Terms of Service of https://repo.anaconda.com/pkgs/main, https://repo.anaconda.com/pkgs/r are not accepted"
    expect_output "channels: [conda-forge]"

    case_ "a folder that is no conda is left as it is"
    on_host sh -c 'mkdir /home/ubuntu/thesis && echo "all of it" >/home/ubuntu/thesis/text'
    conda_recipe installer.sh thesis >"$suite_dir/thesis.yaml"
    up "$suite_dir/thesis.yaml" --json
    expect_exit 1
    expect_output "is no conda"
    on_host cat /home/ubuntu/thesis/text
    expect_output "all of it"

    case_ "a truncated installer is not run"
    head -c 100000 "$suite_dir/www/installer.sh" >"$suite_dir/www/truncated.sh"
    conda_recipe truncated.sh second | sed "s/sha256: [0-9a-f]*/sha256: $(digest_of installer.sh)/" >"$suite_dir/second.yaml"
    up "$suite_dir/second.yaml" --json
    expect_exit 1
    expect_output sha256
    on_host test ! -e /home/ubuntu/second
    expect_exit 0
    conda_recipe installer.sh second >"$suite_dir/second.yaml"
    up "$suite_dir/second.yaml" --json
    expect_exit 0
    up "$suite_dir/second.yaml" --json
    expect_unchanged

    case_ "a full disk at the unpacking is named, its room given back, and with room it goes on"
    on_host sh -c 'mkdir /home/ubuntu/small && mount -t tmpfs -o size=2m,uid=1000,mode=0755 small /home/ubuntu/small'
    conda_recipe installer.sh small/conda >"$suite_dir/small.yaml"
    up "$suite_dir/small.yaml" --json
    expect_exit 1
    expect_output '"code":"no_space"'
    on_host find /home/ubuntu/small -mindepth 1
    expect_equal "$(cat "$case_dir/stdout")" ""
    on_host mount -o remount,size=64m /home/ubuntu/small
    local fetched
    fetched=$(origin_requests | grep -c installer.sh)
    up "$suite_dir/small.yaml" --json
    expect_exit 0
    expect_equal "$(origin_requests | grep -c installer.sh)" "$fetched"
    on_host umount /home/ubuntu/small

    case_ "an installation that was killed is cleared away and made anew"
    conda_recipe installer.sh killed >"$suite_dir/killed.yaml"
    killed_in_mid_work killed.yaml /home/ubuntu/killed/share/filling
    expect_exit 0
    expect_output "was cut short; clearing it away"
    up "$suite_dir/killed.yaml" --json
    expect_exit 0
    expect_unchanged
    on_host test ! -e /home/ubuntu/killed/install_tmp
    expect_exit 0

    case_ "a package that is gone half-way leaves no half of an environment"
    mv "$suite_dir/www/conda-forge/noarch/toy-2.0-0.tar.bz2" "$suite_dir/away"
    env_recipe broken >"$suite_dir/broken.yaml"
    on_host rm -rf /home/ubuntu/conda/pkgs
    up "$suite_dir/broken.yaml" --json
    expect_exit 1
    expect_output "HTTP 404"
    on_host test ! -e /home/ubuntu/conda/envs/broken
    expect_exit 0
    mv "$suite_dir/away" "$suite_dir/www/conda-forge/noarch/toy-2.0-0.tar.bz2"
    up "$suite_dir/broken.yaml" --json
    expect_exit 0
    up "$suite_dir/broken.yaml" --json
    expect_unchanged

    case_ "an environment whose making was killed is made anew"
    env_recipe again >"$suite_dir/again.yaml"
    killed_in_mid_work again.yaml /home/ubuntu/conda/envs/again/conda-meta
    expect_exit 0
    expect_output "making environment again was cut short"
    up "$suite_dir/again.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a package that no channel has, and a channel that is none, are named"
    sed 's/toy/nothing-like-it/' "$suite_dir/again.yaml" >"$suite_dir/nothing.yaml"
    sed -i 's/name: again/name: nothing/' "$suite_dir/nothing.yaml"
    up "$suite_dir/nothing.yaml" --json
    expect_exit 1
    expect_output "nothing-like-it is in no channel asked"
    sed -i "s,conda-forge,$origin/nowhere," "$suite_dir/nothing.yaml"
    up "$suite_dir/nothing.yaml" --json
    expect_exit 1
    expect_output "$origin/nowhere is no channel"

    conda_recipes_cases
}

conda_recipes_cases() {
    case_ "the recipe anaconda leads to a notebook, twice: stand-in conda, real JupyterLab"
    boot_host recipes
    trust_origin
    as_login sh -c 'sudo apt-get update && sudo apt-get install -y --no-install-recommends python3-venv'
    shipped anaconda terms.sh >"$suite_dir/anaconda.yaml"
    up "$suite_dir/anaconda.yaml" --var port=8890
    expect_exit 1
    expect_output "--var accept_tos=true"
    mv "$suite_dir/www/terms.sh" "$suite_dir/away.sh"
    package_manager_at_work 10
    up "$suite_dir/anaconda.yaml" --var port=8890 --var accept_tos=true --json
    expect_exit 1
    expect_output "(perl) holds the locks of apt"
    expect_output "404"
    mv "$suite_dir/away.sh" "$suite_dir/www/terms.sh"
    full_disk /home/ubuntu/anaconda3 1M
    up "$suite_dir/anaconda.yaml" --var port=8890 --var accept_tos=true --json
    expect_exit 1
    expect_output "No space left"
    on_host umount -l /home/ubuntu/anaconda3
    up "$suite_dir/anaconda.yaml" --var port=8890 --var accept_tos=true --json
    expect_exit 0
    up "$suite_dir/anaconda.yaml" --var port=8890 --var accept_tos=true --json
    expect_exit 0
    expect_nothing_changed
    # shellcheck disable=SC2016 # expanded on the host
    as_login bash -ic 'echo "path $PATH"'
    expect_output "path /home/ubuntu/anaconda3/bin:"

    case_ "the recipe d2l, without its gigabytes of PyTorch, leads to a notebook, twice"
    mkdir -p "$suite_dir/book/pytorch"
    echo "{}" >"$suite_dir/book/pytorch/chapter.ipynb"
    head -c 60000 /dev/urandom >"$suite_dir/book/pytorch/figure.png" # more than a full disk takes
    (cd "$suite_dir/book" && python3 -m zipfile -c "$suite_dir/www/book.zip" pytorch)
    shipped d2l installer.sh | sed 's/packages: \[torch.*/packages: [jupyterlab]/' >"$suite_dir/d2l.yaml"
    package_manager_at_work 10
    up "$suite_dir/d2l.yaml" --var python=3 --var notebooks="$origin/~status=404/book.zip" --var port=8891 --json
    expect_exit 1
    expect_output "(perl) holds the locks of apt"
    expect_output "404"
    full_disk /home/ubuntu/d2l-en 16K
    up "$suite_dir/d2l.yaml" --var python=3 --var notebooks="$origin/book.zip" --var port=8891 --json
    expect_exit 1
    expect_output "No space left"
    on_host umount -l /home/ubuntu/d2l-en
    up "$suite_dir/d2l.yaml" --var python=3 --var notebooks="$origin/book.zip" --var port=8891 --json
    expect_exit 0
    up "$suite_dir/d2l.yaml" --var python=3 --var notebooks="$origin/book.zip" --var port=8891 --json
    expect_exit 0
    expect_nothing_changed
    on_host cat /home/ubuntu/d2l-en/pytorch/chapter.ipynb
    expect_output "{}"
}

# A recipe that ships, with another place for its installer.
shipped() {
    "$bin/gpustrap" recipe show "$1" | sed "s,^  - conda:\$,&\n      url: $origin/$2\n      sha256: $(digest_of "$2"),"'; s/disk_free: [0-9]*GiB/disk_free: 1GiB/'
}

# Steps for GPUs are skipped here, the others were unchanged.
expect_nothing_changed() {
    local other
    other=$(json_events step_finished | grep -v -E '"outcome": *"(unchanged|skipped)"' || true)
    [ -z "$other" ] || fail_case "steps that were not unchanged:"$'\n'"$other"
}

digest_of() { sha256sum <"$suite_dir/www/$1" | cut -c1-64; }

publish_conda() {
    local make=$repository/tests/testbed/stand_in_conda.py
    "$make" channel "$suite_dir/www/conda-forge"
    "$make" installer "$suite_dir/www/installer.sh" --channels "$origin/conda-forge"
    "$make" installer "$suite_dir/www/newer.sh" --channels "$origin/conda-forge" --version 26.9.0
    "$make" installer "$suite_dir/www/terms.sh" --channels "$origin/conda-forge" --terms
}

conda_recipe() {
    cat <<RECIPE
name: with-conda
steps:
  - apt: { packages: [python3-venv], recommends: false }
  - conda: { url: $origin/$1, sha256: $(digest_of "$1"), prefix: ~/$2 }
RECIPE
}

course_recipe() {
    conda_recipe installer.sh conda
    cat <<RECIPE
  - conda_env: { name: course, python: "3", packages: [toy=1.0, pip], channels: [conda-forge] }
  - pip: { env: course, packages: [idna] }
RECIPE
}

env_recipe() {
    printf 'name: %s\nsteps:\n  - conda_env: { name: %s, python: "3", packages: [toy], channels: [conda-forge] }\n' "$1" "$1"
}

file_recipe() {
    cat <<RECIPE
name: filed
steps:
  - file: { path: ~/environment.yml, content: "name: x\nchannels:\n  - conda-forge\ndependencies:\n  - python\n  - $1\n" }
  - conda_env: { name: filed, file: ~/environment.yml }
RECIPE
}

terms_recipe() {
    cat <<RECIPE
name: with-terms
steps:
  - conda: { distribution: anaconda, url: $origin/terms.sh, sha256: $(digest_of terms.sh), prefix: ~/anaconda, init: false, accept_tos: $1 }
  - conda_env: { name: course, conda: ~/anaconda, packages: [toy] }
RECIPE
}

# Runs a recipe whose work stands still once this path is there, kills the runner with everything it has started, lets the work
# go on, and waits for the end: another runner takes the run up.
killed_in_mid_work() {
    testbed exec "$host_name" touch /run/hold-conda
    follow up "$suite_dir/$1" "$host" -i "$key" -y --no-tunnel --json
    await_that testbed exec "$host_name" test -e "$2"
    kill_runner
    testbed exec "$host_name" rm /run/hold-conda
    end_of_run
}
