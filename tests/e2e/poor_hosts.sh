# shellcheck shell=bash disable=SC2154 # host, origin and the like come from the frame
# Hosts that lack something: room, certificates, time.

poor_hosts_needs() { needs_gpustrap; }

poor_hosts_cases() {
    mkdir -p "$suite_dir/www"
    head -c 30000000 /dev/zero >"$suite_dir/www/large"

    case_ "a full disk is named as such, and leaves no half of a file"
    boot_host small --disk 40M
    serve "$suite_dir/www"
    trust_origin
    cat >"$suite_dir/large.yaml" <<RECIPE
name: large
steps:
  - download: { url: $origin/large, to: /opt/large }
RECIPE
    on_host sh -c 'head -c 15M /dev/urandom >/var/ballast'
    up "$suite_dir/large.yaml"
    expect_exit 1
    expect_output "No space left"
    expect_output "free in /opt"
    ! on_host test -e /opt/large
    expect_exit 1

    case_ "with room again, the same command goes on"
    on_host rm /var/ballast
    up "$suite_dir/large.yaml"
    expect_exit 0

    case_ "a requirement that does not hold stops before any change"
    cat >"$suite_dir/roomy.yaml" <<'RECIPE'
name: roomy
steps:
  - require: { disk_free: 100GiB }
  - file: { path: /etc/gpustrap-test, content: "x\n" }
RECIPE
    take_listing
    up "$suite_dir/roomy.yaml"
    expect_exit 1
    expect_output "100"
    expect_same_listing

    case_ "a disk too full for the agent itself is one clear error"
    boot_host full --disk 16M
    ! on_host sh -c 'cat /dev/zero >/var/ballast' # until there is no room
    up "$suite_dir/large.yaml"
    expect_different "$status" 0
    expect_output "No space left"

    case_ "a host without certificates is told what to install"
    boot_host bare --no-ca
    sed 's,/opt/large,~/large,' "$suite_dir/large.yaml" >"$suite_dir/bare.yaml"
    up "$suite_dir/bare.yaml"
    expect_exit 1
    expect_output ca-certificates

    case_ "and can install it"
    printf 'name: certificates\nsteps:\n  - apt: [ca-certificates]\n' >"$suite_dir/certificates.yaml"
    on_host dpkg --purge --force-depends ca-certificates
    up "$suite_dir/certificates.yaml"
    expect_exit 0
    on_host test -s /etc/ssl/certs/ca-certificates.crt
    expect_exit 0
}
