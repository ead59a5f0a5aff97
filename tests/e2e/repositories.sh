# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# What comes from elsewhere than the distribution: clones by git, single packages, repositories of
# packages. git, its server, apt, dpkg and the signatures are real; packages and repository are
# stand-ins, which their names say.

repositories_needs() {
    needs_gpustrap
    local tool
    for tool in git gpg dpkg-scanpackages; do
        have "$tool" || echo "$tool is not installed"
    done
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

    case_ "a clone that a power loss cuts is made by the next run"
    on_host rm -rf /home/ubuntu/course
    sed "s,$origin/,$origin/~slow=60000/," "$suite_dir/git.yaml" >"$suite_dir/slow.yaml"
    gpustrap up "$suite_dir/slow.yaml" "$host" -i "$key" -y --detach
    await_that testbed exec box test -e /home/ubuntu/course.gpustrap-new/.git
    testbed kill box
    testbed start box
    up "$suite_dir/slow.yaml" --json
    expect_exit 0
    on_host cat /home/ubuntu/course/intro.txt
    expect_output "the third introduction"
    on_host test ! -e /home/ubuntu/course.gpustrap-new
    expect_exit 0

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

    case_ "a repository is added with its key, and a package comes from it"
    publish_packages
    # As somebody typed it years ago: one line, and the same place.
    on_host sh -c "echo 'deb [signed-by=/usr/share/keyrings/old.gpg] $origin/repo /' >/etc/apt/sources.list.d/old.list"
    repository_recipe first >"$suite_dir/repository.yaml"
    up "$suite_dir/repository.yaml" --json
    expect_exit 0
    expect_output "old.list:1 names the same repository and is disabled"
    on_host stand-in-tool
    expect_output "stand-in-tool 1.0"
    on_host cat /etc/apt/sources.list.d/old.list
    expect_output "# disabled by gpustrap: deb"
    on_host test -f /etc/apt/sources.list.d/old.list.gpustrap-backup.save
    expect_exit 0
    on_host apt-cache policy stand-in-tool
    expect_output " 600"
    on_host apt-get update
    expect_exit 0
    expect_no_output "W:"
    expect_no_output "N:"
    up "$suite_dir/repository.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "plan with it in place touches nothing"
    take_listing
    gpustrap plan "$suite_dir/repository.yaml" "$host" -i "$key" --exit-code
    expect_exit 0
    expect_same_listing

    case_ "a key that was rotated is named, and nothing of apt is touched"
    sign_repository second
    on_host sh -c 'rm /var/lib/apt/lists/*repo_*'
    up "$suite_dir/repository.yaml"
    expect_exit 1
    expect_output "$origin/repo is signed by key $(key_id second)"
    on_host cat /etc/apt/sources.list.d/stand-in.sources
    expect_output "Signed-By: /etc/apt/keyrings/stand-in.asc"

    case_ "the new key replaces the old one, which is kept"
    repository_recipe second >"$suite_dir/rotated.yaml"
    up "$suite_dir/rotated.yaml" --json
    expect_exit 0
    expect_output "it is replaced by"
    on_host sha256sum /etc/apt/keyrings/stand-in.asc.gpustrap-backup.save
    expect_output "$(sha256sum <"$suite_dir/www/first.asc" | cut -c1-64)"
    on_host apt-get update
    expect_exit 0
    up "$suite_dir/rotated.yaml" --json
    expect_unchanged

    case_ "a repository that is not there leaves the host's apt working"
    sed 's,/repo/,/nowhere/,; s/name: stand-in/name: nowhere/' "$suite_dir/rotated.yaml" >"$suite_dir/nowhere.yaml"
    up "$suite_dir/nowhere.yaml"
    expect_exit 1
    expect_output "$origin/nowhere is no signed repository"
    on_host test ! -e /etc/apt/sources.list.d/nowhere.sources
    expect_exit 0
    on_host apt-get update
    expect_exit 0

    case_ "a keyring package brings the key, and its own source is disabled"
    boot_host other
    trust_origin
    keyring_recipe >"$suite_dir/keyring.yaml"
    up "$suite_dir/keyring.yaml" --json
    expect_exit 0
    on_host stand-in-tool
    expect_output "stand-in-tool 1.0"
    on_host cat /etc/apt/sources.list.d/stand-in.sources
    expect_output "Signed-By: /usr/share/keyrings/stand-in-archive-keyring.gpg"
    up "$suite_dir/keyring.yaml" --json
    expect_exit 0
    expect_unchanged

    case_ "a package of its own is installed with what it needs, and is unchanged the second time"
    deb_recipe stand-in-extra >"$suite_dir/deb.yaml"
    up "$suite_dir/deb.yaml" --json
    expect_exit 0
    # shellcheck disable=SC2016 # dpkg's own placeholders
    on_host dpkg-query -W -f '${Package} ${Version} ${Status}\n' stand-in-extra stand-in-library
    expect_output "stand-in-extra 1.0 install ok installed"
    expect_output "stand-in-library 1.0 install ok installed"
    take_listing
    up "$suite_dir/deb.yaml" --json
    expect_exit 0
    expect_unchanged
    expect_same_listing

    case_ "a package whose bytes are not those promised is not installed"
    deb_recipe stand-in-orphan >"$suite_dir/orphan.yaml"
    sed "s,$origin/,$origin/~wrong/," "$suite_dir/orphan.yaml" >"$suite_dir/wrong.yaml"
    up "$suite_dir/wrong.yaml"
    expect_exit 1
    expect_output "sha256"

    case_ "a package that needs what nobody has says what that is"
    up "$suite_dir/orphan.yaml"
    expect_exit 1
    expect_output "stand-in-orphan : Depends: stand-in-nothing"
    on_host dpkg --audit
    expect_equal "$(cat "$case_dir/output")" ""

    case_ "a package manager at work is named and waited for"
    make_gated_deb
    testbed exec other mkfifo /run/gate
    testbed exec other tee /root/gated.deb <"$suite_dir/www/single/stand-in-gated.deb" >/dev/null
    testbed exec other apt-get install -y /root/gated.deb >"$case_dir/installer" 2>&1 </dev/null &
    local installer=$! run
    await_that grep -q "Setting up stand-in-gated" "$case_dir/installer"
    deb_recipe stand-in-late >"$suite_dir/late.yaml"
    "$bin/gpustrap" up "$suite_dir/late.yaml" "$host" -i "$key" -y --json >"$case_dir/run" 2>&1 </dev/null &
    run=$!
    await_that grep -q 'waiting for process .*(\(apt-get\|dpkg\)) to release the locks of apt' "$case_dir/run"
    testbed exec other sh -c 'echo >/run/gate'
    wait "$installer"
    wait "$run"
    on_host stand-in-late
    expect_output "stand-in-late 1.0"

    case_ "a key, a package and lists that are not served today are there in the next run"
    on_host sh -c 'rm /etc/apt/sources.list.d/stand-in.sources /var/lib/apt/lists/*repo_*'
    sed "s,$origin/,$origin/~status=404;times=1/," "$suite_dir/rotated.yaml" >"$suite_dir/absent.yaml"
    up "$suite_dir/absent.yaml"
    expect_exit 1
    expect_output "404"
    local try
    for try in 2 3 4; do
        up "$suite_dir/absent.yaml" --json
        [ "$status" -ne 0 ] || break
    done
    expect_exit 0
    expect_different "$try" 4
    on_host apt-get update
    expect_exit 0

    case_ "the apt of Debian 13, which checks signatures with sqv, takes the key as it is"
    boot_host next --codename trixie
    trust_origin
    up "$suite_dir/rotated.yaml" --json
    expect_exit 0
    on_host stand-in-tool
    expect_output "stand-in-tool 1.0"
    on_host apt-get update
    expect_exit 0
    expect_no_output "Warning"
    up "$suite_dir/rotated.yaml" --json
    expect_exit 0
    expect_unchanged
    sign_repository first
    on_host sh -c 'rm /var/lib/apt/lists/*repo_*'
    up "$suite_dir/rotated.yaml"
    expect_exit 1
    expect_output "$origin/repo is signed by key"
}

repository_recipe() {
    cat <<RECIPE
name: repository
steps:
  - apt_repository:
      name: stand-in
      url: $origin/repo/
      key: $origin/$1.asc
      sha256: $(digest "$1.asc")
      priority: 600
  - apt: [stand-in-tool]
RECIPE
}

keyring_recipe() {
    cat <<RECIPE
name: keyring
steps:
  - apt_repository:
      name: stand-in
      url: $origin/repo/
      keyring: $origin/repo/stand-in-keyring.deb
      sha256: $(digest repo/stand-in-keyring.deb)
  - apt: [stand-in-tool]
RECIPE
}

deb_recipe() {
    cat <<RECIPE
name: deb
steps:
  - deb: { url: "$origin/single/$1.deb", sha256: $(digest "single/$1.deb") }
RECIPE
}

digest() { sha256sum "$suite_dir/www/$1" | cut -c1-64; }

# A flat repository like NVIDIA's, with two throw-away keys, and packages that are in no repository.
publish_packages() {
    local www=$suite_dir/www key
    mkdir -p "$www/repo" "$www/single"
    install -d -m 0700 "$suite_dir/gnupg"
    for key in first second; do
        throwaway_gpg --quick-gen-key "$key (throw-away, for a test) <$key@example.org>" ed25519 sign never
        throwaway_gpg --armor --export "$key@example.org" >"$www/$key.asc"
    done
    make_deb repo stand-in-tool ''
    make_deb repo stand-in-library ''
    make_deb single stand-in-extra stand-in-library
    make_deb single stand-in-orphan stand-in-nothing
    make_deb single stand-in-late ''
    mkdir -p "$suite_dir/stand-in-keyring/usr/share/keyrings" "$suite_dir/stand-in-keyring/etc/apt/sources.list.d"
    throwaway_gpg --export second@example.org >"$suite_dir/stand-in-keyring/usr/share/keyrings/stand-in-archive-keyring.gpg"
    echo "deb [signed-by=/usr/share/keyrings/stand-in-archive-keyring.gpg] $origin/repo/ /" \
        >"$suite_dir/stand-in-keyring/etc/apt/sources.list.d/stand-in-repo.list"
    make_deb repo stand-in-keyring ''
    sign_repository first
}

# make_deb FOLDER NAME DEPENDS: version 1.0, for every architecture; its program says its name.
make_deb() {
    local tree=$suite_dir/$2
    mkdir -p "$tree/DEBIAN" "$tree/usr/bin"
    printf '#!/bin/sh\necho "%s 1.0"\n' "$2" >"$tree/usr/bin/$2"
    chmod +x "$tree/usr/bin/$2"
    {
        printf 'Package: %s\nVersion: 1.0\nArchitecture: all\n' "$2"
        printf 'Maintainer: A test <test@example.org>\nDescription: stand-in for a test\n'
        [ -z "$3" ] || printf 'Depends: %s\n' "$3"
    } >"$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$suite_dir/www/$1/$2.deb" >/dev/null
}

# One that is being installed until somebody writes to /run/gate.
make_gated_deb() {
    mkdir -p "$suite_dir/stand-in-gated/DEBIAN"
    printf '#!/bin/sh\nread -r line </run/gate\n' >"$suite_dir/stand-in-gated/DEBIAN/postinst"
    chmod +x "$suite_dir/stand-in-gated/DEBIAN/postinst"
    make_deb single stand-in-gated ''
}

sign_repository() {
    (
        cd "$suite_dir/www/repo" || exit
        dpkg-scanpackages --multiversion . >Packages 2>"$suite_dir/scan.log"
        {
            printf 'Origin: Stand-in\nLabel: Stand-in\nDate: %s\nSHA256:\n' "$(LC_ALL=C date -R -u)"
            printf ' %s %s Packages\n' "$(sha256sum Packages | cut -c1-64)" "$(stat -c %s Packages)"
        } >Release
        throwaway_gpg --yes --local-user "$1@example.org" --clearsign --output InRelease Release
    )
}

# As apt names it: the last 16 digits of the fingerprint.
key_id() {
    throwaway_gpg --with-colons --list-keys "$1@example.org" | sed -n 's/^fpr:.*\(.\{16\}\):$/\1/p' | head -n 1
}

# Its agent ends with each call, or it would outlive the suite.
throwaway_gpg() {
    gpg --homedir "$suite_dir/gnupg" --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' "$@" &&
        gpgconf --homedir "$suite_dir/gnupg" --kill all
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
