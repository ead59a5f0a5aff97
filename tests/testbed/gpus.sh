# shellcheck shell=bash disable=SC2154 # what `testbed` sets: here
# Stand-in GPUs: PCI functions that a host shows and nothing is behind. They are what is seen of a GPU
# before any driver exists, and no more: no driver binds to them, no test on them says that a GPU
# works. Sourced by `testbed`.

compat=$here/compat.yaml # in a release
[ -f "$compat" ] || compat=$here/../../recipes/compat.yaml

# "1eb8 " or "27b8 1733": device and subsystem of a name in recipes/compat.yaml, such as t4 or l4-3gb.
pci_ids_of() {
    awk -v wanted="$1" '
        function plain(text) { gsub(/.*\[|\].*|["]/, "", text); return text }
        /^[a-z]/ { if (found) exit; section = $1 }
        section != "gpus:" { next }
        /^  - name:/ { if (found) exit }
        /^    aliases:/ {
            count = split(plain($0), names, /, */)
            for (i = 1; i <= count; i++) if (names[i] == wanted) found = 1
        }
        found && /^    ids:/ { split(plain($0), ids, /, */); device = ids[1] }
        found && /^    subsystems:/ { split(plain($0), ids, /, */); subsystem = ids[1] }
        END { if (found) print device, subsystem }
    ' "$compat"
}

# Writes one function as sysfs would show it: folder, device, class, subsystem.
put_function() {
    mkdir -p "$1"
    echo 0x10de >"$1/vendor"
    echo "0x$2" >"$1/device"
    echo "0x$3" >"$1/class"
    echo 0x10de >"$1/subsystem_vendor"
    echo "0x${4:-0000}" >"$1/subsystem_device"
}

# What "t4", "8xh100", "10de:1eb8", "none", several with commas, mean: "device subsystem", one GPU a line.
gpu_functions() {
    local word count device subsystem
    for word in ${1//,/ }; do
        [ "$word" != none ] || continue
        count=1 device='' subsystem=''
        if [[ $word =~ ^([0-9]+)x(.+)$ ]]; then
            count=${BASH_REMATCH[1]} word=${BASH_REMATCH[2]}
        fi
        if [[ $word =~ ^10de:([0-9a-f]{4})(:([0-9a-f]{4}))?$ ]]; then
            device=${BASH_REMATCH[1]} subsystem=${BASH_REMATCH[3]}
        else
            read -r device subsystem < <(pci_ids_of "$word") || true
        fi
        [ -n "$device" ] || die "boot: --gpu '$word' is neither in recipes/compat.yaml nor a PCI id such as 10de:1eb8"
        for ((; count > 0; count--)); do
            echo "$device $subsystem"
        done
    done
}

# Gives a host exactly these GPUs and NVSwitches, from its next boot on, instead of what this machine has.
# $1: its root; $2: what gpu_functions printed; $3: how many NVSwitches.
add_gpus() {
    local root=$1 device subsystem slot=0
    local folder=$root/usr/share/gpustrap-testbed
    mkdir -p "$folder/pci"
    echo "Stand-ins: PCI functions without any device behind them, mounted over /sys/bus/pci/devices." >"$folder/README"
    while read -r device subsystem; do
        [ -n "$device" ] || continue
        put_function "$folder/pci/$(printf '0000:10:%02x.0' "$slot")" "$device" 030200 "$subsystem"
        slot=$((slot + 1))
    done <<<"$2"
    for ((slot = 0; slot < $3; slot++)); do
        put_function "$folder/pci/$(printf '0000:20:%02x.0' "$slot")" 22a3 068000
    done
    # sshd waits for it, so a host that cannot be given its GPUs never answers instead of lying.
    cat >"$root/etc/systemd/system/testbed-gpus.service" <<'UNIT'
[Unit]
Description=Stand-in GPUs of the testbed
DefaultDependencies=no
After=local-fs.target
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/mount --bind /usr/share/gpustrap-testbed/pci /sys/bus/pci/devices
UNIT
    mkdir -p "$root/etc/systemd/system/ssh.service.requires"
    ln -sf ../testbed-gpus.service "$root/etc/systemd/system/ssh.service.requires/"
}

# A driver is installed on machines alone; in a container there is none to install. sshd waits here too.
hide_container() {
    cat >"$1/etc/systemd/system/testbed-machine.service" <<'UNIT'
[Unit]
Description=No sign of the testbed's container
DefaultDependencies=no
After=local-fs.target
Before=ssh.service ssh.socket

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/rm -f /run/systemd/container
UNIT
    mkdir -p "$1/etc/systemd/system/ssh.service.requires"
    ln -sf ../testbed-machine.service "$1/etc/systemd/system/ssh.service.requires/"
}
