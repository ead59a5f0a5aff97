# shellcheck shell=bash disable=SC2154 # suite_dir, serve and the like come from the frame of the end-to-end tests
# A stand-in for NVIDIA's repository: a throw-away key, and tiny packages of the real names. Their "module" is a file, "loading" it shows
# the file that a driver would show in /proc, their nvidia-smi answers by that, and their libcuda is one GPU made of ordinary memory.
# Sourced by the suites `driver` and `gpu_recipes`; nothing with it says that a real driver works.

publish_stand_ins() {
    repo=$suite_dir/www/repos/debian12/x86_64
    mkdir -p "$repo"
    install -d -m 0700 "$suite_dir/gnupg"
    throwaway_gpg --quick-gen-key "stand-in for NVIDIA (throw-away, for a test) <stand-in@example.org>" ed25519 sign never
    fingerprint=$(throwaway_gpg --with-colons --list-keys stand-in@example.org | sed -n 's/^fpr:*\([0-9A-F]*\):$/\1/p' | head -n 1)
    key_id=${fingerprint: -8}
    throwaway_gpg --armor --export stand-in@example.org >"$repo/${key_id,,}.pub"
    make_driver 535 535.261.03
    make_driver 580 580.95.05
    make_package "linux-headers-$(uname -r)" 1
    make_package cuda-drivers 595.71.05-1
    make_toolkit 12.8
    make_toolkit 12.9
    make_toolkit 12.6 cuda-drivers
    # NVIDIA's installer, as far as its arguments.
    {
        printf '#!/bin/sh\n# Stand-in for a test.\nset -e\nmkdir -p /usr/local/cuda-11.8/bin /var/lib/stand-in\n'
        printf 'head -c 3000000 /dev/zero >/usr/local/cuda-11.8/bin/compiler\n'
        printf 'echo "$*" >/var/lib/stand-in/runfile-arguments\n'
        printf 'printf "#!/bin/sh\\necho release 11.8, V11.8.89\\n" >/usr/local/cuda-11.8/bin/nvcc\nchmod 0755 /usr/local/cuda-11.8/bin/nvcc\n'
    } >"$suite_dir/www/cuda_11.8.0_stand-in.run"
    (
        cd "$repo" || exit
        dpkg-scanpackages --multiversion . >Packages 2>"$suite_dir/scan.log"
        {
            printf 'Origin: Stand-in\nLabel: Stand-in\nDate: %s\nSHA256:\n' "$(LC_ALL=C date -R -u)"
            printf ' %s %s Packages\n' "$(sha256sum Packages | cut -c1-64)" "$(stat -c %s Packages)"
        } >Release
        throwaway_gpg --yes --local-user stand-in@example.org --clearsign --output InRelease Release
    )
    serve "$suite_dir/www"
}

# make_driver BRANCH VERSION
make_driver() {
    local tree=$suite_dir/packages/nvidia-open-$1
    make_package "nvidia-driver-pinning-$1" 1
    mkdir -p "$tree/usr/local/sbin" "$tree/usr/bin" "$tree/usr/lib/systemd/system" "$tree/DEBIAN"
    mkdir -p "$tree/usr/lib/x86_64-linux-gnu"
    g++ -std=c++20 -O1 -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$tree/usr/lib/x86_64-linux-gnu/libcuda.so.1" "$repository/tests/support/stand_in_libcuda.cc"
    stand_in_modinfo >"$tree/usr/local/sbin/modinfo"
    stand_in_modprobe >"$tree/usr/local/sbin/modprobe"
    stand_in_nvidia_smi >"$tree/usr/bin/nvidia-smi"
    chmod 0755 "$tree"/usr/local/sbin/* "$tree/usr/bin/nvidia-smi"
    printf '[Unit]\nDescription=Stand-in for a test\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
        >"$tree/usr/lib/systemd/system/nvidia-persistenced.service"
    # shellcheck disable=SC2016 # expanded on the host
    printf '#!/bin/sh\nmkdir -p /var/lib/stand-in\necho %s >"/var/lib/stand-in/module-$(uname -r)"\n' "$2" >"$tree/DEBIAN/postinst"
    chmod 0755 "$tree/DEBIAN/postinst"
    make_package "nvidia-open-$1" "$2-1" '' "nvidia-open"
}

# make_toolkit VERSION [DEPENDS]
make_toolkit() {
    local name=cuda-toolkit-${1/./-}
    local tree=$suite_dir/packages/$name
    mkdir -p "$tree/usr/local/cuda-$1/bin" "$tree/DEBIAN"
    head -c 3000000 /dev/zero >"$tree/usr/local/cuda-$1/bin/compiler" # more than a full disk takes
    printf '#!/bin/sh\necho "release %s, V%s.61"\n' "$1" "$1" >"$tree/usr/local/cuda-$1/bin/nvcc"
    chmod 0755 "$tree/usr/local/cuda-$1/bin/nvcc"
    printf '#!/bin/sh\nupdate-alternatives --quiet --install /usr/local/cuda cuda /usr/local/cuda-%s %s\n' "$1" "${1/./}" >"$tree/DEBIAN/postinst"
    chmod 0755 "$tree/DEBIAN/postinst"
    make_package "$name" "$1.1-1" "${2:-}"
}

# make_package NAME VERSION [DEPENDS [CONFLICTS]]: with what stands in its tree already.
make_package() {
    local tree=$suite_dir/packages/$1
    mkdir -p "$tree/DEBIAN"
    {
        printf 'Package: %s\nVersion: %s\nArchitecture: all\n' "$1" "$2"
        printf 'Maintainer: A test <test@example.org>\nDescription: stand-in for a test\n'
        [ -z "${3:-}" ] || printf 'Depends: %s\n' "$3"
        [ -z "${4:-}" ] || printf 'Provides: %s\nConflicts: %s\nReplaces: %s\n' "$4" "$4" "$4"
    } >"$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$repo/$1.deb" >/dev/null
}

stand_in_modinfo() {
    cat <<'SCRIPT'
#!/bin/sh
# Stand-in for a test: modinfo -k KERNEL -F version nvidia
cat "/var/lib/stand-in/module-$2" 2>/dev/null || { echo "modinfo: ERROR: Module nvidia not found." >&2; exit 1; }
SCRIPT
}

stand_in_modprobe() {
    cat <<'SCRIPT'
#!/bin/sh
# Stand-in for a test: what is loaded is seen in /proc, until the next boot.
[ "$1" = nvidia ] || exit 0
version=$(cat "/var/lib/stand-in/module-$(uname -r)") || exit 1
mount -t tmpfs stand-in /proc/driver
mkdir /proc/driver/nvidia
echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $version  Stand-in" >/proc/driver/nvidia/version
SCRIPT
}

stand_in_nvidia_smi() {
    cat <<'SCRIPT'
#!/bin/sh
# Stand-in for a test: answers by the stand-in module.
version=$(sed -n 's/.*x86_64  \([0-9.]*\) .*/\1/p' /proc/driver/nvidia/version 2>/dev/null)
[ -n "$version" ] || {
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    exit 9
}
case $1 in
--query-compute-apps*) [ ! -e /run/stand-in-programs ] || cat /run/stand-in-programs ;;
*)
    index=0
    for class in /sys/bus/pci/devices/*/class; do
        grep -q '^0x0302' "$class" || continue
        echo "$index, GPU-00112233-4455-6677-8899-aabbccddeeff, Tesla T4, 00000000:10:0$index.0, $version, 15360, [N/A]"
        index=$((index + 1))
    done
    ;;
esac
SCRIPT
}

# Its agent ends with each call, or it would outlive the suite.
throwaway_gpg() {
    gpg --homedir "$suite_dir/gnupg" --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' "$@" &&
        gpgconf --homedir "$suite_dir/gnupg" --kill all
}
