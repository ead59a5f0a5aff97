# shellcheck shell=bash disable=SC2034,SC2154 # host, origin and the like come from the frame
# Hosts behind a proxy, and users far from where things are: proxies and mirrors of the user's configuration, kind by kind. apt, pip and
# the fetching are real; the proxy (tests/testbed/proxy.py), the packages and conda are stand-ins. What has gone by which way is read from
# the proxy's and the origin's own logs.

mirrors_needs() {
    needs_gpustrap
    have dpkg-scanpackages || echo "dpkg-scanpackages is not installed"
}

mirrors_cases() {
    boot_host box
    mkdir -p "$suite_dir/www"
    serve "$suite_dir/www"
    trust_origin
    publish
    as_login sh -c 'sudo apt-get update && sudo apt-get install -y --no-install-recommends python3-venv'
    # Nobody knows this name but the proxy and the mirror.
    testbed exec box sh -c "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*
        echo 'deb [trusted=yes] http://archive.example.org/debian repo/' >/etc/apt/sources.list"
    start_proxy

    case_ "plan shows the proxy, and changes nothing"
    configure "proxy: $proxy" "no_proxy: [nearby.example.org]"
    proxied_recipe >"$suite_dir/proxied.yaml"
    gpustrap plan "$suite_dir/proxied.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    take_listing
    gpustrap plan "$suite_dir/proxied.yaml" "$host" -i "$key"
    expect_exit 0
    expect_output "through the proxy $proxy, but for nearby.example.org"
    expect_same_listing

    case_ "apt, downloads, pip and commands go through it, loopback does not"
    up "$suite_dir/proxied.yaml" --json
    expect_exit 0
    expect_proxied "GET http://archive.example.org/debian/repo/stand-in-tool_1.0.deb"
    expect_proxied "GET http://files.example.org/files/notes.txt"
    expect_proxied "CONNECT ${origin#https://}"
    on_host cat /home/ubuntu/environment
    expect_output "http_proxy=$proxy"
    expect_output "https_proxy=$proxy"
    expect_output "HTTPS_PROXY=$proxy"
    expect_output "no_proxy=nearby.example.org,localhost,127.0.0.1,::1"
    on_host cat /home/ubuntu/notes.txt
    expect_output "notes of everyone"
    on_host cat /home/ubuntu/loopback
    expect_equal "$(cat "$case_dir/stdout")" "the host itself"

    case_ "the second run is unchanged, with it and without it"
    up "$suite_dir/proxied.yaml" --json
    expect_exit 0
    expect_unchanged
    up "$suite_dir/proxied.yaml" --proxy none --json
    expect_exit 0
    expect_unchanged

    case_ "a run that restarts the host goes on through it"
    configure
    restarting_recipe >"$suite_dir/restarting.yaml"
    up "$suite_dir/restarting.yaml" --proxy "$proxy" --json
    expect_exit 0
    expect_equal "$(json_events rebooting | wc -l)" 1
    expect_proxied "GET http://files.example.org/files/late.txt"

    case_ "a proxy that is not there is named, with what to do"
    rm_on_host /home/ubuntu/notes.txt
    up "$suite_dir/proxied.yaml" --proxy http://127.0.0.1:9 --json
    expect_exit 1
    expect_output "the way out is the proxy http://127.0.0.1:9"

    case_ "plan shows the mirror"
    configure "mirror: uni" "mirrors:" "$(mirror_called uni)"
    mirrored_recipe >"$suite_dir/mirrored.yaml"
    gpustrap plan "$suite_dir/mirrored.yaml" "$host" -i "$key"
    expect_exit 0
    expect_output "apt from the mirror uni ($origin_http/mirror)"
    expect_output "pypi from the mirror uni ($origin/mirror/simple)"
    expect_output "conda from the mirror uni ($origin/mirror/channels)"
    expect_output "downloads from the mirror uni ($origin/mirror/files)"

    case_ "apt, pip, conda and downloads take what they need from it, and the host's own settings stay"
    local proxied
    proxied=$(proxy_requests | wc -l)
    up "$suite_dir/mirrored.yaml" --json
    expect_exit 0
    expect_mirrored debian/repo/stand-in-other_1.0.deb
    expect_mirrored simple/torch/torch-2.14.0-py3-none-any.whl
    expect_mirrored channels/conda-forge/noarch/repodata.json
    expect_mirrored files/files.example.org/files/data.txt
    expect_mirrored files/files.example.org/files/installer.sh
    expect_output "taking packages from the mirror uni"
    expect_equal "$(proxy_requests | wc -l)" "$proxied"
    on_host cat /etc/apt/sources.list
    expect_equal "$(cat "$case_dir/stdout")" "deb [trusted=yes] http://archive.example.org/debian repo/"

    case_ "the second run is unchanged, with it and without it"
    up "$suite_dir/mirrored.yaml" --json
    expect_exit 0
    expect_unchanged
    up "$suite_dir/mirrored.yaml" --mirror none --json
    expect_exit 0
    expect_unchanged

    case_ "a mirror that lacks a file, or has another one, is left for the address itself, and the run says so"
    configure "mirrors:" "  partial: { downloads: { '$origin/files': '$origin/mirror/partial' } }"
    partial_recipe >"$suite_dir/partial.yaml"
    up "$suite_dir/partial.yaml" --mirror partial --json
    expect_exit 0
    expect_output "the mirror partial does not have it: the server answered 404"
    expect_output "taking $origin/files/late.txt"
    expect_output "the mirror partial does not have it: $origin/mirror/partial/data.txt has sha256"
    on_host cat /home/ubuntu/checked.txt
    expect_output "data of everyone"

    case_ "one that does not answer is left too; where packages come from it, it is named with what to do"
    configure "mirrors:" "  dead: { apt: 'http://127.0.0.1:9', pypi: 'https://127.0.0.1:9/simple', downloads: 'http://127.0.0.1:9' }"
    rm_on_host /home/ubuntu/checked.txt
    up "$suite_dir/partial.yaml" --mirror dead --json
    expect_exit 0
    expect_output "the mirror dead does not have it"
    as_login /home/ubuntu/env/bin/python -m pip uninstall -q -y torch
    as_login sudo dpkg --purge stand-in-other
    up "$suite_dir/mirrored.yaml" --mirror dead --json
    expect_exit 1
    expect_output "the mirror dead (http://127.0.0.1:9) was asked"
    expect_output "--mirror none"
    printf 'name: pip\nsteps:\n  - pip: { venv: ~/env, packages: [torch] }\n' >"$suite_dir/pip.yaml"
    up "$suite_dir/pip.yaml" --mirror dead --json
    expect_exit 1
    expect_output "the package index could not be reached"
    expect_output "the mirror dead (https://127.0.0.1:9/simple) was asked"

    case_ "what is wrong with a configuration is said with its place, before anything is reached"
    configure "proxy: http://proxy:3128" "mirrors:" "  uni: { pip: https://mirror.example.org/simple }"
    up "$suite_dir/pip.yaml"
    expect_exit 2
    expect_output "config.yaml:3:10: \`pip\` is not a field of the mirror uni"
    configure "mirrors: { uni: { pypi: 'https://mirror.example.org/simple' } }"
    up "$suite_dir/pip.yaml" --mirror unii
    expect_exit 2
    expect_output "there is no mirror \`unii\`; did you mean \`uni\`?"
    up "$suite_dir/pip.yaml" --proxy http://ann:hunter2@proxy:3128
    expect_exit 2
    expect_output "/etc/environment"
    expect_no_output hunter2
}

# configure LINE…: the user's configuration has these lines, and no others.
configure() {
    mkdir -p "$HOME/.config/gpustrap"
    printf '%s\n' "$@" >"$HOME/.config/gpustrap/config.yaml"
}

# The proxy alone knows archive.example.org and files.example.org: the origin.
start_proxy() {
    local name
    local -a maps=()
    for name in archive files; do maps+=(--map "$name.example.org=${origin_http#http://}"); done
    "$repository/tests/testbed/proxy.py" --state "$suite_dir/proxy" --bind "${address%.*}.1" "${maps[@]}" \
        >"$suite_dir/proxy.log" 2>&1 </dev/null &
    background+=($!)
    await "$suite_dir/proxy/address"
    proxy=$(<"$suite_dir/proxy/address")
}

proxy_requests() { cat "$suite_dir/proxy/requests"; }

expect_proxied() { proxy_requests | grep -q -F -- "$1" || fail_case "the proxy has seen no '$1', but: $(proxy_requests | sort | uniq -c)"; }

expect_mirrored() {
    origin_requests | grep -q -F -- "GET /mirror/$1 " || fail_case "the mirror was not asked for $1, but: $(origin_requests | grep mirror)"
}

rm_on_host() { testbed exec "$host_name" rm -f "$@"; }

mirror_called() {
    cat <<MIRROR
  $1:
    apt: $origin_http/mirror
    pypi: $origin/mirror/simple
    conda: $origin/mirror/channels
    downloads: $origin/mirror/files
MIRROR
}

digest_of() { sha256sum <"$suite_dir/www/$1" | cut -c1-64; }

proxied_recipe() {
    cat <<RECIPE
name: proxied
steps:
  - apt: [stand-in-tool]
  - download: { url: "http://files.example.org/files/notes.txt", to: ~/notes.txt, sha256: $(digest_of files/notes.txt) }
  - venv: ~/env
  - pip: { venv: ~/env, packages: [torchvision], index: $origin/simple/ }
  - id: environment
    command: { run: env >environment, creates: ~/environment }
  # A server of the host's own, asked by a program that goes through the proxy for everything else.
  - id: loopback
    command:
      creates: ~/loopback
      run: |
        mkdir -p served && echo "the host itself" >served/index.html
        ~/env/bin/python - <<'END' >loopback
        import functools, http.server, threading, urllib.request
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="served")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/").read().decode(), end="")
        END
RECIPE
}

restarting_recipe() {
    cat <<RECIPE
name: restarting
steps:
  - reboot: always
  - download: { url: "http://files.example.org/files/late.txt", to: ~/late.txt, sha256: $(digest_of files/late.txt) }
RECIPE
}

mirrored_recipe() {
    cat <<RECIPE
name: mirrored
steps:
  - apt: { packages: [stand-in-other], update: true }
  - download: { url: "http://files.example.org/files/data.txt", to: ~/data.txt, sha256: $(digest_of files/data.txt) }
  - venv: ~/env
  - pip: { venv: ~/env, packages: [torch] }
  - conda: { url: "http://files.example.org/files/installer.sh", sha256: $(digest_of files/installer.sh), prefix: ~/conda }
  - conda_env: { name: toys, packages: [toy], channels: [conda-forge] }
RECIPE
}

partial_recipe() {
    cat <<RECIPE
name: partial
steps:
  - id: missing
    download: { url: $origin/files/late.txt, to: ~/missing.txt, sha256: $(digest_of files/late.txt) }
  - id: wrong
    download: { url: $origin/files/data.txt, to: ~/checked.txt, sha256: $(digest_of files/data.txt) }
RECIPE
}

publish() {
    local name www=$suite_dir/www make=$repository/tests/testbed/stand_in_conda.py
    mkdir -p "$www/files" "$www/mirror/partial" "$www/mirror/files/files.example.org" "$www/debian/repo"
    for name in notes late data; do echo "$name of everyone" >"$www/files/$name.txt"; done
    echo "not that" >"$www/mirror/partial/data.txt"
    for name in tool other; do
        mkdir -p "$suite_dir/stand-in-$name/DEBIAN"
        printf 'Package: stand-in-%s\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: a stand-in\n' \
            "$name" >"$suite_dir/stand-in-$name/DEBIAN/control"
        dpkg-deb --root-owner-group --build "$suite_dir/stand-in-$name" "$www/debian/repo/stand-in-${name}_1.0.deb" >/dev/null
    done
    (
        cd "$www/debian" || exit
        dpkg-scanpackages repo 2>"$suite_dir/scan.log" >repo/Packages
        {
            printf 'Origin: Stand-in\nLabel: Stand-in\nDate: %s\nSHA256:\n' "$(LC_ALL=C date -R -u)"
            printf ' %s %s Packages\n' "$(sha256sum repo/Packages | cut -c1-64)" "$(stat -c %s repo/Packages)"
        } >repo/Release
    )
    "$e2e_dir/stand_in_index.py" "$www/simple"
    "$make" channel "$www/mirror/channels/conda-forge"
    # The channel that the installer knows is none: what comes from a channel comes from the mirror's.
    "$make" installer "$www/files/installer.sh" --channels "$origin/nowhere"
    cp -r "$www/files" "$www/mirror/files/files.example.org/"
    cp -r "$www/simple" "$www/debian" "$www/mirror/"
}
