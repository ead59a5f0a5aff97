# shellcheck shell=bash disable=SC2154 # what `testbed` sets: dir, cache, here, registry
# The testbed's network: one bridge and one 10.x.y.0/24 per testbed, one namespace per host, and a
# masqueraded way out. Sourced by `testbed`.

# The subnets in use and the machine's own ip_forward are kept under one machine-wide lock, so that
# testbeds come and go side by side and the last one out restores what it found.
with_registry() {
    mkdir -p "$registry/subnets"
    (
        flock 9
        "$@"
    ) 9>"$registry/lock"
}

network_up() {
    [ ! -f "$dir/subnet" ] || return 0
    with_registry claim_subnet
    local subnet tag mtu
    subnet=$(<"$dir/subnet")
    tag=$(network_tag)
    # A path narrower than 1500 bytes drops large segments silently when the bridge claims more.
    mtu=$(uplink_mtu)
    ip link add "$tag" type bridge
    ip link set "$tag" mtu "$mtu" up
    ip address add "$subnet.1/24" dev "$tag"
    nft -f - <<RULES
table ip gpustrap_${tag//-/_} {
    chain out {
        type nat hook postrouting priority srcnat;
        ip saddr $subnet.0/24 ip daddr != $subnet.0/24 masquerade
    }
}
RULES
}

network_tag() {
    local a b
    IFS=. read -r _ a b <"$dir/subnet"
    echo "gt$a-$b"
}

uplink_mtu() {
    local device
    device=$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    cat "/sys/class/net/${device:-lo}/mtu" 2>/dev/null || echo 1500
}

claim_subnet() {
    local try subnet
    for try in $(seq 200); do
        subnet=10.$((200 + RANDOM % 50)).$((RANDOM % 256))
        [ ! -e "$registry/subnets/$subnet" ] || continue
        [ -z "$(ip -4 route show root "$subnet.0/24")" ] || continue
        ! ip -4 route show match "$subnet.0/24" | grep -qv '^default' || continue
        if [ -z "$(ls -A "$registry/subnets")" ]; then
            sysctl -n net.ipv4.ip_forward >"$registry/ip_forward"
        fi
        sysctl -q -w net.ipv4.ip_forward=1
        echo "$dir" >"$registry/subnets/$subnet"
        echo "$subnet" >"$dir/subnet"
        return 0
    done
    die "no free subnet in 10.200.0.0 to 10.249.255.0 after $try tries"
}

release_subnet() {
    rm -f "$registry/subnets/$(<"$dir/subnet")"
    if [ -z "$(ls -A "$registry/subnets")" ] && [ -f "$registry/ip_forward" ]; then
        sysctl -q -w "net.ipv4.ip_forward=$(<"$registry/ip_forward")"
        rm -f "$registry/ip_forward"
    fi
}

network_down() {
    [ -f "$dir/subnet" ] || return 0
    local tag
    tag=$(network_tag)
    ip link delete "$tag" 2>/dev/null || true
    nft delete table ip "gpustrap_${tag//-/_}" 2>/dev/null || true
    with_registry release_subnet
}

netns_of() { echo "$(network_tag)-$1"; }

# Gives the host the subnet's next free address, in a namespace that outlives its reboots.
network_attach() {
    local name=$1 host=$dir/hosts/$1 subnet tag netns number
    subnet=$(<"$dir/subnet")
    tag=$(network_tag)
    netns=$(netns_of "$name")
    exec 8>"$dir/lock"
    flock 8
    number=$(($(cat "$dir/last_address" 2>/dev/null || echo 1) + 1))
    [ "$number" -lt 255 ] || die "this testbed has no address left"
    echo "$number" >"$dir/last_address"
    exec 8>&-
    echo "$subnet.$number" >"$host/address"

    ip netns add "$netns"
    ip link add "${tag}h$number" type veth peer name host0 netns "$netns"
    ip link set "${tag}h$number" mtu "$(uplink_mtu)" master "$tag" up
    ip -n "$netns" link set lo up
    ip -n "$netns" link set host0 mtu "$(uplink_mtu)" up
    ip -n "$netns" address add "$subnet.$number/24" dev host0
    ip -n "$netns" route add default via "$subnet.1"
}

network_detach() {
    [ -f "$dir/subnet" ] || return 0
    # The bridge's end of the veth pair goes with the namespace.
    ip netns delete "$(netns_of "$1")" 2>/dev/null || true
}
