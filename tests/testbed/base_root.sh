# shellcheck shell=bash disable=SC2154 # what `testbed` sets: dir, cache, here, registry
# The root every host starts from, and what of this machine is carried into it. Sourced by `testbed`.

# sshd, sudo and what a cloud image cannot boot without; above all no Python and no compiler, since
# gpustrap promises to need neither.
base_packages=systemd,systemd-sysv,openssh-server,sudo,ca-certificates,dbus,iproute2,procps,libpam-systemd
# Login shells that no image has by default.
shell_packages=fish,zsh

own_codename() { (. /etc/os-release && echo "${VERSION_CODENAME:?this machine names no release}"); }

debian_releases=' bullseye bookworm trixie forky '
ubuntu_releases=' jammy noble plucky questing resolute '

distribution_of() {
    case "$debian_releases|$ubuntu_releases" in
    *" $1 "*"|"*) echo debian ;;
    *"|"*" $1 "*) echo ubuntu ;;
    *) die "'$1' is not a release known here:$debian_releases$ubuntu_releases" ;;
    esac
}

# Package sources for a release: this machine's own with the release's name put in, so that a mirror
# is used there as here. For another distribution's, the mirror in GPUSTRAP_UBUNTU_MIRROR or GPUSTRAP_DEBIAN_MIRROR.
sources_for() {
    local codename=$1 own components=main
    own=$(own_codename)
    [ "$(distribution_of "$codename")" = debian ] || components='main universe'
    if [ "$(distribution_of "$codename")" = "$(distribution_of "$own")" ]; then
        # shellcheck disable=SC2016 # apt's own placeholders
        apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
            sort -u | while read -r uri release; do
            case $release in
            "$own" | "$own"-updates | "$own"-security | "$own"/updates)
                echo "deb $uri ${release/#$own/$codename} $components"
                ;;
            esac
        done
    elif [ "$(distribution_of "$codename")" = ubuntu ]; then
        : "${GPUSTRAP_UBUNTU_MIRROR:?"this machine has no sources of Ubuntu: name a mirror's URL in it"}"
        printf "deb $GPUSTRAP_UBUNTU_MIRROR %s $components\n" "$codename" "$codename-updates" "$codename-security"
    else
        : "${GPUSTRAP_DEBIAN_MIRROR:?"this machine has no sources of Debian: name a mirror's URL in it"}"
        printf "deb $GPUSTRAP_DEBIAN_MIRROR%s $components\n" " $codename" " $codename-updates" "-security $codename-security"
    fi
}

# The keys that sign a release. Debian 12 has no package of Ubuntu's keys, but later Debian does, and
# Debian's own signature vouches for it.
keyring_for() {
    local distribution installed fetched=$cache/ubuntu-keyring
    distribution=$(distribution_of "$1")
    installed=/usr/share/keyrings/$distribution-archive-keyring.gpg
    if [ -f "$installed" ] || [ "$distribution" = debian ]; then
        echo "$installed"
        return
    fi
    if [ ! -d "$fetched" ]; then
        local work
        work=$(mktemp -d)
        mkdir -p "$work/lists/partial" "$work/archives/partial"
        sources_for trixie |
            sed 's,^deb,deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg],' >"$work/list"
        local -a apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/list" -o Dir::Etc::sourceparts=/dev/null
            -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o Acquire::Languages=none
            -o APT::Sandbox::User=root)
        (cd "$work" && "${apt[@]}" update && "${apt[@]}" download ubuntu-keyring) >&2 ||
            die "Ubuntu's archive keys cannot be fetched from Debian, so no Ubuntu host can be made here"
        dpkg-deb -x "$work"/ubuntu-keyring_*.deb "$work/unpacked"
        mv "$work/unpacked" "$fetched"
        rm -rf "$work"
    fi
    echo "$fetched/usr/share/keyrings/ubuntu-archive-keyring.gpg"
}

# How this machine's apt reaches its sources: proxies, retries, checks that a frozen mirror fails.
acquire_settings() {
    apt-config dump |
        grep -E '^Acquire::(http|https|ftp|Retries|Check-|ForceIPv|Queue-Mode|AllowInsecure|AllowWeak)' |
        grep -v -i -E 'Acquire::https?::(CaInfo|CaPath|SslCert|SslKey)|Auto-Detect' || true
}

# Prints the path of the cached root for a release, building it if this is the first time.
base_root() {
    local codename='' packages=$base_packages argument
    for argument in "$@"; do
        case $argument in
        --shells) packages+=,$shell_packages ;;
        -*) die "base: unknown option '$argument'" ;;
        *) codename=$argument ;;
        esac
    done
    codename=${codename:-$(own_codename)}
    mkdir -p "$cache"
    local sources settings digest
    sources=$(sources_for "$codename")
    settings=$(acquire_settings)
    digest=$({
        echo "$codename $packages $sources $settings"
        cat "$here/base_root.sh"
        cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true
    } | sha256sum | cut -c1-16)
    local root=$cache/$codename-$digest
    (
        flock 9
        [ -d "$root" ] || build_base_root "$codename" "$packages" "$sources" "$settings" "$root" >&2
    ) 9>"$cache/lock"
    [ -d "$root" ] || die "the base root of $codename could not be built; see above"
    echo "$root"
}

build_base_root() {
    local codename=$1 packages=$2 sources=$3 settings=$4 root=$5
    local scratch=$root.partial
    command -v mmdebstrap >/dev/null || die "mmdebstrap is not installed; './dev setup' installs it"
    echo "testbed: building the $codename root, once"
    rm -rf --one-file-system "$scratch"
    local keyring
    keyring=$(keyring_for "$codename")
    printf '%s\n' "$sources" >"$scratch.list"
    printf '%s\n' "$settings" >"$scratch.conf"
    # An interrupted build leaves only the scratch name, which the next one removes.
    mmdebstrap --quiet --variant=apt --include="$packages" --aptopt="$scratch.conf" \
        --keyring="$keyring" "$codename" "$scratch" "$scratch.list" || return 1
    mv "$scratch"/etc/apt/sources.list.d/0000*.list "$scratch/etc/apt/sources.list"
    rm -f "$scratch.list" "$scratch.conf"
    # TLS may be re-signed on this machine's network, and then the host must know that CA too.
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        cp /usr/local/share/ca-certificates/*.crt "$scratch/usr/local/share/ca-certificates/"
        # It warns of the bundle of its own making, which is no single certificate.
        chroot "$scratch" update-ca-certificates 2>&1 >/dev/null | grep -v '^rehash: warning' >&2 || true
    fi
    # Each host makes its own, or a changed host key could not be told.
    rm -f "$scratch"/etc/ssh/ssh_host_*
    # Timers that would touch files between two listings, or hold the apt lock when they please.
    local unit
    for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-tmpfiles-clean.timer \
        e2scrub_all.timer fstrim.timer motd-news.timer man-db.timer; do
        ln -sf /dev/null "$scratch/etc/systemd/system/$unit"
    done
    mv "$scratch" "$root"
}

# Writes what only this host needs into its root: name, resolver, host keys, pip's way out.
furnish() {
    local root=$1 name=$2
    echo "$name" >"$root/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$name" >"$root/etc/hosts"
    rm -f "$root/etc/resolv.conf"
    resolver >"$root/etc/resolv.conf"
    ssh-keygen -q -t ed25519 -N '' -C "root@$name" -f "$root/etc/ssh/ssh_host_ed25519_key"
    ssh-keygen -q -t ecdsa -N '' -C "root@$name" -f "$root/etc/ssh/ssh_host_ecdsa_key"
    pip_settings >"$root/etc/pip.conf"
    chmod 0644 "$root/etc/resolv.conf" "$root/etc/pip.conf"
    env | grep -E '^(http|https|no)_proxy=' >>"$root/etc/environment" || true
    if [ -d /etc/apt/auth.conf.d ] && [ -n "$(ls -A /etc/apt/auth.conf.d)" ]; then
        cp /etc/apt/auth.conf.d/* "$root/etc/apt/auth.conf.d/"
    fi
    cat >"$root/etc/ssh/sshd_config.d/50-testbed.conf" <<'SSHD'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
SSHD
}

# A resolver that answers from another namespace: the stub on the loopback does not.
resolver() {
    local file
    for file in /etc/resolv.conf /run/systemd/resolve/resolv.conf; do
        if grep -q '^nameserver' "$file" 2>/dev/null && ! grep -q '^nameserver 127\.' "$file"; then
            grep -E '^(nameserver|search|options)' "$file"
            return 0
        fi
    done
    die "this machine resolves names only through its loopback, which a host cannot reach"
}

# The index this machine's pip uses, from its files (least to most binding) and its environment.
# Local paths are left out: they name nothing on the host.
pip_settings() {
    local key variable value
    echo '[global]'
    for key in index-url extra-index-url trusted-host timeout retries proxy; do
        variable=PIP_${key//-/_}
        variable=${variable^^}
        [ "$key" != timeout ] || variable=PIP_DEFAULT_TIMEOUT
        value=${!variable:-}
        if [ -z "$value" ]; then
            value=$(cat /etc/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf" 2>/dev/null |
                sed -n "s/^ *$key *= *//p" | tail -n 1 || true)
        fi
        [ -z "$value" ] || echo "$key = $value"
    done
    # pip's own bundle does not know a CA that re-signs TLS; the host's does.
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        echo 'cert = /etc/ssl/certs/ca-certificates.crt'
    fi
}

add_login() {
    local root=$1 user=$2 shell=$3 sudo=$4 host=$5
    chroot "$root" useradd --create-home --uid 1000 --shell "$(chroot "$root" which "$shell")" "$user"
    authorize "$root" "$user" "/home/$user"
    case $sudo in
    nopasswd)
        echo "$user ALL=(ALL) NOPASSWD:ALL" >"$root/etc/sudoers.d/90-testbed"
        ;;
    password)
        openssl rand -hex 8 >"$host/password"
        chroot "$root" usermod --password "$(openssl passwd -6 -in "$host/password")" "$user"
        echo "$user ALL=(ALL) ALL" >"$root/etc/sudoers.d/90-testbed"
        ;;
    esac
    [ ! -f "$root/etc/sudoers.d/90-testbed" ] || chmod 0440 "$root/etc/sudoers.d/90-testbed"
}

authorize() {
    local root=$1 user=$2 home=$3
    mkdir -p "$root$home/.ssh"
    cp "$dir/key.pub" "$root$home/.ssh/authorized_keys"
    chmod 0700 "$root$home/.ssh"
    chmod 0600 "$root$home/.ssh/authorized_keys"
    chroot "$root" chown -R "$user:" "$home/.ssh"
}

# Both kinds at once: the one SSH shows before login, and chatter on the stdout of every command.
add_banner() {
    local root=$1 text=$2
    printf '%s\n' "$text" >"$root/etc/ssh/banner"
    echo 'Banner /etc/ssh/banner' >>"$root/etc/ssh/sshd_config.d/50-testbed.conf"
    printf '%s\n' '#!/bin/sh' 'cat /etc/ssh/banner' >"$root/etc/ssh/sshrc"
}

drop_certificates() {
    rm -rf "$1/etc/ssl/certs" "$1/usr/share/ca-certificates" "$1/usr/local/share/ca-certificates" \
        "$1/etc/pip.conf"
    mkdir -p "$1/etc/ssl/certs"
}
