# shellcheck shell=bash disable=SC2034,SC2154 # bin, suite_dir and the like come from the frame
# `recipe lint --upstream` against the testbed's origin, which answers as servers do on a bad day. No host is needed.

upstream_needs() {
    needs_gpustrap
    have gpg || echo "gpg is not installed"
}

# A recipe with one download from the origin: `recipe_of PATH [SHA256]`.
recipe_of() {
    printf 'name: lab\ndescription: d\nsteps:\n  - download: { url: "%s", to: ~/tool.tgz%s }\n' "$1" "${2:+, sha256: $2}" >lab.yaml
}

lint_upstream() { gpustrap recipe lint lab.yaml --upstream "$@"; }

# A throw-away key that is valid until then: `make_key NAME UNTIL`.
make_key() {
    local home=$suite_dir/gpg
    mkdir -p "$home" && chmod 0700 "$home"
    gpg --homedir "$home" --batch --quiet --passphrase '' --faked-system-time 20200101T000000 --quick-generate-key "$1" ed25519 sign "$2"
    gpg --homedir "$home" --batch --armor --export "$1" >"$suite_dir/served/$1.asc"
}

upstream_cases() {
    local served=$suite_dir/served digest
    mkdir -p "$served/repository/dists/stable"
    head -c 300000 /dev/urandom >"$served/tool.tgz"
    digest=$(sha256sum <"$served/tool.tgz" | cut -d' ' -f1)
    echo 'Suite: stable' >"$served/repository/dists/stable/Release"
    make_key good 2099-01-01
    make_key late 2021-01-01
    address=127.0.0.1
    serve "$served"
    export CURL_CA_BUNDLE=$suite_dir/origin/ca.pem

    case_ "what is there is asked for by its head alone"
    recipe_of "$origin/tool.tgz" "$digest"
    lint_upstream
    expect_exit 0
    expect_equal "$(origin_requests | grep -c 'HEAD /tool.tgz')" 1
    expect_equal "$(origin_requests | grep -c 'GET /tool.tgz')" 0

    case_ "what is gone is an error with its place"
    recipe_of "$origin/~fault;status=404/tool.tgz" "$digest"
    lint_upstream
    expect_exit 1
    expect_output "lab.yaml:4:"
    expect_output "is not there any more (HTTP 404)"
    expect_output "[upstream-gone]"

    case_ "a redirect is followed, and one that drops encryption is refused"
    recipe_of "$origin/~fault;redirect=%2Ftool.tgz/other.tgz" "$digest"
    lint_upstream --upstream-full
    expect_exit 0
    recipe_of "$origin/~fault;redirect=http/tool.tgz" "$digest"
    lint_upstream
    expect_exit 1
    expect_output "which is not encrypted"

    case_ "other bytes under the same name are found where they are asked for"
    recipe_of "$origin/~fault;wrong/tool.tgz" "$digest"
    lint_upstream
    expect_exit 0
    lint_upstream --upstream-full
    expect_exit 1
    expect_output "and the recipe names $digest"
    expect_output "[upstream-changed]"

    case_ "a server that is broken is a warning, and the rest is asked all the same"
    recipe_of "$origin/~fault;status=503/tool.tgz" "$digest"
    printf '  - id: two\n    download: { url: "%s/nowhere.tgz", to: ~/two.tgz, sha256: %s }\n' "$origin" "$digest" >>lab.yaml
    lint_upstream
    expect_exit 1
    expect_output "answers HTTP 503"
    expect_output "[upstream-silent]"
    expect_output "nowhere.tgz is not there any more"

    case_ "a key that is valid says nothing, one that has expired says when"
    local key
    for key in good late; do
        printf 'name: lab\ndescription: d\nsteps:\n  - apt_repository:\n      name: tool\n      url: %s/repository\n      suites: [stable]\n      components: [main]\n      key: %s/%s.asc\n      fingerprint: %s\n' \
            "$origin" "$origin" "$key" 0123456789ABCDEF0123456789ABCDEF01234567 >lab.yaml
        lint_upstream
        if [ "$key" = good ]; then expect_exit 0; else expect_exit 1; fi
    done
    expect_output "late.asc expired on 2021-01-01"
    expect_output "[upstream-key]"

    case_ "an index is asked for pinned packages: which it has, and which were withdrawn"
    mkdir -p "$served/simple/idna"
    printf '<!DOCTYPE html><html><body><a href="a">idna-3.9-py3-none-any.whl</a><a href="b" data-yanked="broken">idna-3.8.tar.gz</a></body></html>\n' >"$served/simple/idna/index.html"
    printf 'name: lab\ndescription: d\nsteps:\n  - pip: { venv: ~/env, index: "%s/simple", packages: [idna==3.9, idna==3.8, idna==3.7, absent==1] }\n' "$origin" >lab.yaml
    lint_upstream
    expect_exit 1
    expect_output "idna 3.8 was withdrawn: broken"
    expect_output "[upstream-yanked]"
    expect_output "the index has no idna 3.7"
    expect_output "the index has no package absent"
    expect_no_output "idna 3.9"

    case_ "a channel of conda is asked for by its head, and an address of the host's own in a command is passed over"
    mkdir -p "$served/channel/noarch" && echo '{}' >"$served/channel/noarch/repodata.json"
    printf 'name: lab\ndescription: d\nsteps:\n  - conda_env: { name: lab, python: "3.11", channels: ["%s/channel", "%s/lost"] }\n  - command: { run: "curl -fsSL %s/install-me.sh | sh", creates: /x }\n' \
        "$origin" "$origin" "$origin" >lab.yaml
    lint_upstream
    expect_exit 1
    expect_output "the channel $origin/lost is not there"
    expect_no_output "the channel $origin/channel"
    expect_equal "$(origin_requests | grep -c install-me)" 0
    expect_equal "$(origin_requests | grep -c 'GET /channel')" 0

    case_ "a mirror of config.yaml is asked in the index's place"
    mkdir -p "$HOME/.config/gpustrap"
    printf 'mirror: uni\nmirrors:\n  uni: { pypi: "%s/simple" }\n' "$origin" >"$HOME/.config/gpustrap/config.yaml"
    printf 'name: lab\ndescription: d\nsteps:\n  - pip: { venv: ~/env, packages: [idna==3.9, idna==2.0] }\n' >lab.yaml
    lint_upstream
    expect_exit 1
    expect_output "the index has no idna 2.0 ($origin/simple/idna/)"
    expect_no_output "idna 3.9"
    rm "$HOME/.config/gpustrap/config.yaml"

    case_ "nobody is asked where nobody said so"
    recipe_of "$origin/asked-by-nobody.tgz" "$digest"
    gpustrap recipe lint lab.yaml
    expect_exit 0
    expect_equal "$(origin_requests | grep -c asked-by-nobody)" 0
}
