# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# What comes from repositories that are not the distribution's: clones by git, with the git and the
# server of the distribution behind them.

repositories_needs() {
    needs_gpustrap
    have git || echo "git is not installed"
}

repositories_cases() {
    case_ "a course is cloned over https, with its submodule, and is unchanged the second time"
    boot_host box
    publish_course
    serve "$suite_dir/www"
    trust_origin
    git_recipe >"$suite_dir/git.yaml"
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    on_host cat /home/ubuntu/course/intro.txt /home/ubuntu/course/data/set.csv
    expect_output "an introduction"
    expect_output "1,2,3"
    on_host stat -c %U /home/ubuntu/course/intro.txt
    expect_output ubuntu
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "newer commits arrive where nothing was changed"
    author_commit intro.txt "a better introduction"
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    on_host cat /home/ubuntu/course/intro.txt
    expect_output "a better introduction"

    case_ "edits and commits of the user survive, and the run says so"
    as_login sh -c 'cd ~ubuntu/course && echo "my notes" >intro.txt && git config user.name Ann && git config user.email ann@example.org'
    author_commit intro.txt "the third introduction"
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    expect_output "1 newer commit fetched but not merged: 1 file you changed (intro.txt) kept"
    on_host cat /home/ubuntu/course/intro.txt
    expect_output "my notes"
    as_login git -C /home/ubuntu/course commit --quiet --all -m mine
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    expect_output "1 commit of yours kept"
    on_host cat /home/ubuntu/course/intro.txt
    expect_output "my notes"

    case_ "a clone that is cut half-way is made by the next run"
    on_host rm -rf /home/ubuntu/course
    sed "s,$origin/,$origin/~cut=100000/," "$suite_dir/git.yaml" >"$suite_dir/cut.yaml"
    up "$suite_dir/cut.yaml" --json
    expect_exit 1
    on_host test ! -e /home/ubuntu/course
    expect_exit 0
    up "$suite_dir/git.yaml" --json
    expect_exit 0
    on_host cat /home/ubuntu/course/intro.txt
    expect_output "the third introduction"

    case_ "a private repository is not asked for a password"
    sed "s,$origin/,$origin/~status=401/,; s,~/course,~/private," "$suite_dir/git.yaml" >"$suite_dir/private.yaml"
    up "$suite_dir/private.yaml"
    expect_exit 1
    expect_output "asks for a login"
    expect_output "deploy key"

    case_ "a branch that is not there is named with its nearest"
    sed "s,~/course,~/other,; s/ref: main/ref: mian/" "$suite_dir/git.yaml" >"$suite_dir/ref.yaml"
    up "$suite_dir/ref.yaml"
    expect_exit 1
    expect_output "did you mean \`main\`?"
}

git_recipe() {
    cat <<RECIPE
name: git
steps:
  - apt: { packages: [git], recommends: false }
  - git: { url: $origin/course.git, to: ~/course, ref: main, submodules: true }
RECIPE
}

# A bare repository that the origin serves, and a work tree of its author.
publish_course() {
    local git=(git -c init.defaultBranch=main -c protocol.file.allow=always)
    mkdir -p "$suite_dir/www"
    "${git[@]}" init --quiet "$suite_dir/data"
    echo "1,2,3" >"$suite_dir/data/set.csv"
    author_git data add . && author_git data commit --quiet -m data
    "${git[@]}" clone --quiet --bare "$suite_dir/data" "$suite_dir/www/data.git"
    "${git[@]}" init --quiet "$suite_dir/author"
    author_git author submodule --quiet add --name data "$suite_dir/www/data.git" data
    # Beside the course, wherever that is served.
    author_git author config --file .gitmodules submodule.data.url ../data.git
    # Large enough that half of it is not all of it.
    head -c 300000 /dev/urandom >"$suite_dir/author/figure"
    "${git[@]}" init --quiet --bare "$suite_dir/www/course.git"
    author_git author remote add origin "$suite_dir/www/course.git"
    author_commit intro.txt "an introduction"
}

author_commit() {
    echo "$2" >"$suite_dir/author/$1"
    author_git author add .
    author_git author commit --quiet -m "$1"
    author_git author push --quiet origin HEAD:main
}

author_git() {
    local folder=$1
    shift
    git -C "$suite_dir/$folder" -c user.name=Author -c user.email=author@example.org -c protocol.file.allow=always "$@"
}
