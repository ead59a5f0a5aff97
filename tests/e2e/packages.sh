# shellcheck shell=bash disable=SC2034,SC2154 # host, origin and the like are the frame's
# What apt and dpkg meet on real hosts: installations that were cut short, locks, mirrors with a bad day, packages that ask.
# The packages and their repository are stand-ins; apt and dpkg are the host's own.

packages_needs() { needs_gpustrap; }

packages_cases() {
    boot_host box
    mkdir -p "$suite_dir/www/repo"
    serve "$suite_dir/www"
    trust_origin
    publish
    # No other source: what the internet does today decides nothing here.
    testbed exec box sh -c "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] $origin repo/' >/etc/apt/sources.list"

    case_ "a plan names the versions that would be installed, and touches nothing"
    open_gate
    testbed exec box apt-get update -q
    recipe stand-in-tool
    take_listing --except usr/local/lib
    gpustrap plan "$suite_dir/packages.yaml" "$host" -i "$key" --accept-new-host-key
    expect_exit 0
    expect_output "install stand-in-tool 1."
    expect_same_listing --except usr/local/lib

    case_ "an installation that was killed is finished first, and is said"
    close_gate
    cut_installation stand-in-gated "Setting up stand-in-gated"
    on_host dpkg --audit
    expect_output stand-in-gated
    open_gate
    recipe stand-in-tool
    up "$suite_dir/packages.yaml" --verbose
    expect_exit 0
    expect_output "an earlier installation was cut short; finishing it first"
    expect_healthy stand-in-gated stand-in-tool

    case_ "one that was killed before it was unpacked, too"
    close_gate
    cut_installation stand-in-early "Preparing to unpack"
    open_gate
    recipe stand-in-other
    up "$suite_dir/packages.yaml" --verbose
    expect_exit 0
    expect_healthy stand-in-other

    case_ "one that is broken for good fails the step with its name, and is finished once it is mended"
    testbed exec box touch /run/break
    recipe stand-in-broken
    up "$suite_dir/packages.yaml"
    expect_exit 1
    expect_output stand-in-broken
    up "$suite_dir/packages.yaml"
    expect_exit 1
    expect_output stand-in-broken
    testbed exec box rm /run/break
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_healthy stand-in-broken

    case_ "the holder of the lists' lock is named, and update waits for it"
    hold_lock /var/lib/apt/lists/lock
    printf 'name: lists\nsteps:\n  - apt: { update: true, max_age: 1s }\n' >"$suite_dir/lists.yaml"
    in_background "$suite_dir/lists.yaml"
    await_that grep -q "waiting for process $holder (perl) to release the locks of apt" "$case_dir/run"
    testbed exec box kill "$holder"
    wait "$run"

    case_ "the holder of dpkg's lock is named, and a step's own limit ends the waiting"
    hold_lock /var/lib/dpkg/lock-frontend
    recipe stand-in-late 3s
    up "$suite_dir/packages.yaml" --verbose
    expect_exit 1
    expect_output "waiting for process $holder (perl)"
    expect_output "still not done after 3.0s"
    printf 'name: wait\nsteps:\n  - wait: { apt: true, limit: 2s }\n' >"$suite_dir/wait.yaml"
    up "$suite_dir/wait.yaml"
    expect_exit 1
    expect_output "process $holder (perl)"
    testbed exec box kill "$holder"
    recipe stand-in-late
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_healthy stand-in-late

    case_ "a limit does not end an installation that has begun"
    close_gate
    recipe stand-in-slow 2s
    in_background "$suite_dir/packages.yaml"
    await_that grep -q "so it is left to finish" "$case_dir/run"
    open_gate
    wait "$run"
    expect_healthy stand-in-slow

    case_ "a mirror that fails for a while is asked again"
    mirror "~status=503;times=2"
    recipe stand-in-one
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_healthy stand-in-one

    case_ "a mirror that goes on failing is named"
    mirror "~status=503"
    recipe stand-in-two
    up "$suite_dir/packages.yaml" --verbose
    expect_exit 1
    expect_output "trying again"
    expect_output "${origin#https://}"
    expect_output 503
    mirror

    case_ "a package whose bytes are wrong once is fetched again"
    recipe stand-in-wrong-once
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_different "$(requests_of wrong-once)" 1
    expect_healthy stand-in-wrong-once

    case_ "one whose bytes stay wrong is not installed; it and its mirror are named"
    recipe stand-in-wrong
    up "$suite_dir/packages.yaml"
    expect_exit 1
    expect_output "Hash Sum mismatch"
    expect_output "stand-in-wrong_1.0.deb"
    expect_output "another mirror"
    ! on_host dpkg-query -W stand-in-wrong
    expect_exit 1
    expect_healthy

    case_ "large packages come several at once, and apt takes them where they are what its lists promise"
    recipe stand-in-heap
    up "$suite_dir/packages.yaml" --json
    expect_exit 0
    expect_equal "$(json_events downloaded | grep -c stand-in-heavy-)" 3
    expect_healthy stand-in-heap stand-in-heavy-1 stand-in-heavy-2 stand-in-heavy-3
    on_host sh -c 'ls /var/cache/apt/archives/partial'
    expect_equal "$(<"$case_dir/stdout")" ''

    case_ "one of them whose bytes are wrong is not taken; apt fetches it itself"
    recipe stand-in-odd-heap
    up "$suite_dir/packages.yaml" --verbose
    expect_exit 0
    expect_output "left to apt"
    expect_healthy stand-in-odd-heap stand-in-odd-1 stand-in-odd-2
    on_host sh -c 'ls /var/cache/apt/archives/partial'
    expect_equal "$(<"$case_dir/stdout")" ''

    case_ "what a later step installs comes while dpkg works for an earlier one, and apt does not fetch it again"
    close_gate
    printf 'name: packages\nsteps:\n  - apt: [stand-in-held]\n  - { id: later, apt: [stand-in-later] }\n' >"$suite_dir/packages.yaml"
    in_background "$suite_dir/packages.yaml"
    await_that grep -q '"event":"downloaded".*"step":"later".*"ahead":true' "$case_dir/run"
    open_gate
    wait "$run"
    expect_equal "$(origin_requests | grep 'GET .*stand-in-later' | grep -c -v 'bytes=')" 1
    expect_healthy stand-in-held stand-in-later

    case_ "a question of the highest priority is answered with its default"
    recipe stand-in-asks
    up "$suite_dir/packages.yaml" --json
    expect_exit 0
    on_host cat /run/answer
    expect_output "the default"
    expect_healthy stand-in-asks

    case_ "a script that reads from the terminal finds none"
    recipe stand-in-reads
    up "$suite_dir/packages.yaml"
    expect_exit 0
    on_host cat /run/read
    expect_output "nobody"

    case_ "a configuration file that the user has changed stays theirs, without a question"
    recipe stand-in-settings=1.0
    up "$suite_dir/packages.yaml"
    expect_exit 0
    on_host sh -c 'echo mine >/etc/stand-in-settings.conf'
    recipe stand-in-settings=2.0
    up "$suite_dir/packages.yaml"
    expect_exit 0
    on_host cat /etc/stand-in-settings.conf
    expect_equal "$(cat stdout)" mine

    case_ "needrestart is told to keep quiet; its stand-in hangs where it is not"
    # shellcheck disable=SC2016 # apt's shell expands it
    testbed exec box sh -c 'mkfifo /run/never
        echo "DPkg::Post-Invoke { \"[ x\$NEEDRESTART_SUSPEND = x1 ] || cat /run/never\"; };" >/etc/apt/apt.conf.d/99needrestart-stand-in'
    ! GPUSTRAP_TESTBED_EXEC_LIMIT=10 testbed exec box apt-get install -y -q --reinstall stand-in-tool >/dev/null 2>&1 ||
        fail_case "the stand-in does not hang without it, so that the next check says nothing"
    testbed exec box pkill -f '[/]run/never' || true
    recipe stand-in-quiet
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_healthy stand-in-quiet
    testbed exec box rm /etc/apt/apt.conf.d/99needrestart-stand-in

    case_ "a disk that is too full for a package says so, and with room the same command goes on"
    boot_host small --disk 120M
    trust_origin
    testbed exec small sh -c "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; echo 'deb [trusted=yes] $origin repo/' >/etc/apt/sources.list
        head -c 75M /dev/zero >/var/ballast"
    recipe stand-in-large
    up "$suite_dir/packages.yaml"
    expect_exit 1
    expect_output "make room"
    testbed exec small rm /var/ballast
    up "$suite_dir/packages.yaml"
    expect_exit 0
    expect_healthy stand-in-large
}

# recipe PACKAGE [TIMEOUT]
recipe() {
    printf 'name: packages\nsteps:\n  - apt: [%s]\n' "$1" >"$suite_dir/packages.yaml"
    [ -z "${2:-}" ] || echo "    timeout: $2" >>"$suite_dir/packages.yaml"
}

in_background() {
    "$bin/gpustrap" up "$1" "$host" -i "$key" -y --no-tunnel --json >"$case_dir/run" 2>&1 </dev/null &
    run=$!
}

# dpkg finds nothing wrong, and these are installed.
expect_healthy() {
    on_host dpkg --audit
    expect_equal "$(cat "$case_dir/output")" ''
    local name
    for name in "$@"; do
        # shellcheck disable=SC2016 # dpkg's own placeholders
        on_host dpkg-query -W -f '${Status}' "$name"
        expect_equal "$(cat "$case_dir/stdout")" "install ok installed"
    done
}

# A package's script waits at the gate until it is open.
open_gate() { testbed exec "$host_name" sh -c 'touch /run/open'; }
close_gate() { testbed exec "$host_name" rm -f /run/open; }

# Starts the installation of a package on the host itself, and kills all of it once it has said so.
cut_installation() {
    testbed exec box sh -c "exec setsid apt-get install -y -q $1" >"$case_dir/installer" 2>&1 </dev/null &
    local installer=$!
    await_that grep -q "$2" "$case_dir/installer"
    await_that testbed exec box test -e /run/waiting
    testbed exec box sh -c 'pkill -KILL apt-get; pkill -KILL dpkg; pkill -KILL -f "[s]tand-in"; rm /run/waiting'
    wait "$installer" || true
}

# $holder keeps a record lock, as apt and dpkg take them, until it is killed.
hold_lock() {
    # shellcheck disable=SC2016 # perl's own
    testbed exec box systemd-run --quiet --collect --unit=holder /usr/bin/perl -e '
        use Fcntl;
        open(my $file, ">>", "'"$1"'") or die;
        my $lock = pack("s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0);
        fcntl($file, F_SETLK, $lock) or die;
        mkdir("/run/holding");
        sleep;'
    await_that testbed exec box rmdir /run/holding
    holder=$(testbed exec box systemctl show --property MainPID --value holder)
}

# The one source, with or without a fault; lists are fetched anew.
mirror() {
    testbed exec box sh -c "echo 'deb [trusted=yes] $origin/${1:+$1/} repo/' >/etc/apt/sources.list
        rm -rf /var/lib/apt/lists/* /var/lib/gpustrap/apt-updated"
}

requests_of() { origin_requests | grep -c "$1" || true; }

publish() {
    local name
    for name in tool other late one two quiet; do make_package "stand-in-$name" 1.0; done
    # shellcheck disable=SC2016 # the host's shell expands it
    local wait_at_gate='until [ -e /run/open ]; do touch /run/waiting; sleep 0.1; done'
    script stand-in-gated postinst "$wait_at_gate"
    script stand-in-slow postinst "$wait_at_gate"
    script stand-in-early preinst "$wait_at_gate"
    script stand-in-held postinst "$wait_at_gate"
    script stand-in-broken postinst 'if [ -e /run/break ]; then echo "this package is broken" >&2; exit 1; fi'
    # shellcheck disable=SC2016
    script stand-in-reads postinst 'read -r answer || answer=nobody; echo "$answer" >/run/read'
    for name in gated slow early held broken reads; do make_package "stand-in-$name" 1.0; done
    # debconf's own protocol; a question of this priority is asked even where little is.
    mkdir -p "$suite_dir/stand-in-asks/DEBIAN"
    printf 'Template: stand-in/question\nType: string\nDefault: the default\nDescription: What shall it be?\n' \
        >"$suite_dir/stand-in-asks/DEBIAN/templates"
    script stand-in-asks config '. /usr/share/debconf/confmodule; db_input critical stand-in/question || true; db_go'
    # shellcheck disable=SC2016
    script stand-in-asks postinst '. /usr/share/debconf/confmodule; db_get stand-in/question; echo "$RET" >/run/answer'
    make_package stand-in-asks 1.0 "Depends: debconf"
    for name in 1.0 2.0; do
        mkdir -p "$suite_dir/stand-in-settings/etc" "$suite_dir/stand-in-settings/DEBIAN"
        echo "settings of $name" >"$suite_dir/stand-in-settings/etc/stand-in-settings.conf"
        echo /etc/stand-in-settings.conf >"$suite_dir/stand-in-settings/DEBIAN/conffiles"
        make_package stand-in-settings "$name"
    done
    mkdir -p "$suite_dir/stand-in-large/opt"
    head -c 30000000 /dev/urandom >"$suite_dir/stand-in-large/opt/large"
    make_package stand-in-large 1.0
    # Just over what is fetched beside apt.
    for name in heavy-1 heavy-2 heavy-3 odd-1 odd-2 later; do
        mkdir -p "$suite_dir/stand-in-$name/opt"
        head -c 1100000 /dev/urandom >"$suite_dir/stand-in-$name/opt/$name"
        make_package "stand-in-$name" 1.0
    done
    make_package stand-in-heap 1.0 "Depends: stand-in-heavy-1, stand-in-heavy-2, stand-in-heavy-3"
    make_package stand-in-odd-heap 1.0 "Depends: stand-in-odd-1, stand-in-odd-2"
    make_package stand-in-wrong 1.0
    make_package stand-in-wrong-once 1.0
    (
        cd "$suite_dir/www" || exit
        dpkg-scanpackages --multiversion repo 2>"$suite_dir/scan.log" |
            sed -e 's,^Filename: repo/stand-in-wrong_,Filename: ~wrong/repo/stand-in-wrong_,' \
                -e 's,^Filename: repo/stand-in-odd-1_,Filename: ~wrong;times=1/repo/stand-in-odd-1_,' \
                -e 's,^Filename: repo/stand-in-wrong-once_,Filename: ~wrong;times=1/repo/stand-in-wrong-once_,' >repo/Packages
        {
            printf 'Origin: Stand-in\nLabel: Stand-in\nDate: %s\nSHA256:\n' "$(LC_ALL=C date -R -u)"
            printf ' %s %s Packages\n' "$(sha256sum repo/Packages | cut -c1-64)" "$(stat -c %s repo/Packages)"
        } >repo/Release
    )
}

# script PACKAGE NAME TEXT: one of its maintainer's scripts.
script() {
    mkdir -p "$suite_dir/$1/DEBIAN"
    printf '#!/bin/sh\nset -e\n%s\n' "$3" >"$suite_dir/$1/DEBIAN/$2"
    chmod 0755 "$suite_dir/$1/DEBIAN/$2"
}

# make_package NAME VERSION [FIELD]: for every architecture, with what its folder holds.
make_package() {
    mkdir -p "$suite_dir/$1/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: A test <test@example.org>\n%sDescription: stand-in for a test\n' \
        "$1" "$2" "${3:+$3$'\n'}" >"$suite_dir/$1/DEBIAN/control"
    dpkg-deb --root-owner-group --build -Znone "$suite_dir/$1" "$suite_dir/www/repo/$1_$2.deb" >/dev/null
}
