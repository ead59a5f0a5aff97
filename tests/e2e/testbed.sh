# shellcheck shell=bash disable=SC2154 # host, key and password come from boot_host
# The testbed itself: what every other suite stands on.

testbed_cases() {
    local first second

    case_ "a host boots and its user logs in"
    boot_host one
    login uname -n
    expect_exit 0
    expect_output one

    case_ "the user has sudo, and the host has no Python"
    login sudo -n id -u
    expect_exit 0
    on_host sh -c 'command -v python3 || echo none'
    expect_output none

    case_ "apt reaches its archive"
    on_host apt-get update -q -o APT::Update::Error-Mode=any
    expect_exit 0

    case_ "pip's index is reachable by the names and certificates the host has"
    on_host sh -c 'apt-get install -y -q --no-install-recommends python3-pip >/dev/null && pip3 download --no-deps --quiet --dest /tmp idna && ls /tmp'
    expect_exit 0
    expect_output idna

    case_ "nothing changes on a host that is left alone"
    take_listing
    expect_same_listing

    case_ "a listing shows a file that was rewritten with the same bytes"
    take_listing
    on_host touch /etc/hostname
    testbed listing one --except var/lib/gpustrap >after
    expect_different "$(sha256sum <listing)" "$(sha256sum <after)"

    case_ "a reboot is a new boot on the same disk"
    first=$(testbed exec one cat /proc/sys/kernel/random/boot_id)
    on_host touch /etc/kept
    testbed reboot one
    second=$(testbed exec one cat /proc/sys/kernel/random/boot_id)
    expect_different "$first" "$second"
    on_host test -e /etc/kept
    expect_exit 0

    case_ "a host comes back after a power loss"
    testbed kill one
    run_recorded testbed exec one true
    expect_exit 1
    expect_output "not running"
    testbed start one
    login true
    expect_exit 0

    case_ "a host shows the GPUs it was given, also after a reboot, and no other"
    boot_host gpus --gpu 2xt4,l4-6gb --nvswitches 2
    testbed reboot gpus
    # shellcheck disable=SC2016 # expanded on the host
    on_host sh -c 'cd /sys/bus/pci/devices && for f in *; do printf "%s " $(cat $f/class $f/device $f/subsystem_device); done'
    expect_exit 0
    expect_output "0x030200 0x1eb8 0x0000 0x030200 0x1eb8 0x0000 0x030200 0x27b8 0x1735 0x068000 0x22a3 0x0000 0x068000 0x22a3 0x0000 "
    run_recorded testbed boot other --gpu t5
    expect_exit 1
    expect_output "neither in recipes/compat.yaml nor a PCI id"

    case_ "a second host has its own address and host key"
    first=$(testbed exec one cat /etc/ssh/ssh_host_ed25519_key.pub)
    boot_host two --sudo password --shell dash --banner 'Welcome to two'
    second=$(testbed exec two cat /etc/ssh/ssh_host_ed25519_key.pub)
    expect_different "${first% *}" "${second% *}"
    login uname -n
    expect_output 'Welcome to two'
    expect_output two

    case_ "a sudo password is asked for, and the one printed is right"
    login sudo -n true
    expect_exit 1
    login "echo $password | sudo -S -p '' id -u"
    expect_exit 0

    case_ "a small disk is full soon"
    boot_host small --disk 64M
    ! on_host sh -c 'head -c 100M /dev/zero >/var/big'
    expect_exit 1
    expect_output 'No space left'

    case_ "a host without certificates trusts nobody"
    boot_host bare --no-ca --root-login
    login id -un
    expect_output root
    on_host sh -c 'ls /etc/ssl/certs | wc -l'
    expect_output 0

    case_ "after 'down' nothing is left"
    local tag
    tag=gt$(cut -d. -f2-3 <"$GPUSTRAP_TESTBED_DIR/subnet" | tr . -)
    testbed down
    run_recorded leftovers "$tag"
    expect_equal "$(cat stdout)" ''
}

login() {
    run_recorded ssh -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=accept-new "$host" "$@"
}

# Whatever carries the testbed's name anywhere it could have left something.
leftovers() {
    local tag=$1
    ip netns list | grep -F "$tag"
    ip -o link | grep -F "$tag"
    nft list tables | grep -F "gpustrap_${tag//-/_}"
    grep -F "$GPUSTRAP_TESTBED_DIR" /proc/mounts
    find /sys/fs/cgroup -name "*$tag*"
    # The brackets keep grep from finding itself.
    grep -l -a "${GPUSTRAP_TESTBED_DIR%?}[${GPUSTRAP_TESTBED_DIR: -1}]/" /proc/[0-9]*/cmdline 2>/dev/null
    ls -d "$GPUSTRAP_TESTBED_DIR" 2>/dev/null
    true
}
