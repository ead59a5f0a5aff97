# shellcheck shell=bash disable=SC2034,SC2154 # address, user and key are the frame's
# A Ray cluster of three hosts. All of it is real: Ray is the one of the package index, fetched once and served to the hosts from here.

ray_needs() { needs_gpustrap; }

ray_cases() {
    local name
    for name in head one two; do testbed boot "$name" --net-admin >"$suite_dir/$name.host" & done
    wait
    use_host one
    one=$address
    use_host two
    two=$address
    use_host head
    head=$address
    hosts_file head one two >"$suite_dir/hosts.yaml"

    case_ "an address that is none of the host's own is refused before anything is installed"
    sed "s/one: .*/one: { address: $one, private_address: 10.255.255.1 }/" "$suite_dir/hosts.yaml" >wrong.yaml
    cluster_up wrong.yaml --limit one
    expect_exit 1
    expect_output "give each host its private_address"
    use_host one
    ! on_host test -e /etc/ray
    expect_exit 1
    use_host head

    case_ "one command makes a cluster of three hosts, and says how to reach it"
    fetch_ray || {
        skip_case "Ray cannot be had from the package index: $(tail -n 1 "$case_dir/output")"
        return 0
    }
    cluster_up
    expect_exit 0
    expect_output "All 3 hosts done; 3 changed"
    expect_output "gpustrap tunnel $head -L 8265:8265"
    expect_members "$head $one $two"

    case_ "a job touches every node"
    submit_job
    expect_exit 0
    for name in "$head head" "$one one" "$two two"; do expect_output "ran on $name"; done
    expect_equal "$(grep -c '^ran on ' "$case_dir/output")" 3
    expect_equal "$(grep '^ran on ' "$case_dir/output" | cut -d' ' -f5 | sort -u | wc -l)" 3

    case_ "its dashboard answers through a tunnel"
    local port
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    follow tunnel "$head" -L "$port:8265"
    await_that curl -fsS "http://localhost:$port/api/version"
    kill -INT "$follower"
    end_of_run
    expect_exit 0
    expect_output "localhost:$port leads to the host's own port 8265"

    case_ "the same command again changes nothing"
    cluster_up
    expect_exit 0
    expect_output "All 3 hosts done; nothing changed"

    case_ "what Ray listens on beyond the loopback answers the cluster's hosts and nobody else"
    for name in head one two; do
        use_host "$name"
        expect_closed
    done
    use_host head
    on_host ss -ltnH 'sport = :8265'
    expect_equal "$(awk '{ print $4 }' "$case_dir/stdout")" 127.0.0.1:8265
    connects "$head" 22 || fail_case "not even sshd can be reached from here, so that this case says nothing"
    testbed exec one bash -c "exec 3<>/dev/tcp/$head/6379" || fail_case "the worker one does not reach the head"

    case_ "without its wall it would; the next run puts that up again, and Ray goes on meanwhile"
    on_host nft delete table inet gpustrap_ray
    connects "$head" 6379 || fail_case "port 6379 of the head cannot be reached for another reason"
    on_host systemctl show --property MainPID ray-head
    cp stdout process
    cluster_up
    expect_exit 0
    expect_output "All 3 hosts done; 1 changed"
    expect_closed
    on_host systemctl show --property MainPID ray-head
    expect_equal "$(<stdout)" "$(<process)"

    case_ "a worker that is cut off joins again by itself once it is back"
    node_of "$two" >before
    testbed kill two
    testbed start two
    within 120 is_another_node "$two" "$(<before)"
    submit_job
    expect_exit 0
    expect_output "ran on $two two"

    case_ "a worker that is no longer in the file leaves at the next run, and cannot come back"
    hosts_file head one >"$suite_dir/hosts.yaml"
    cluster_up
    expect_exit 0
    expect_output "All 2 hosts done"
    expect_members "$head $one"
    ! testbed exec two timeout 3 bash -c "exec 3<>/dev/tcp/$head/6379" 2>/dev/null || fail_case "the head still answers it"

    case_ "back in the file, it joins at the next run"
    hosts_file head one two >"$suite_dir/hosts.yaml"
    cluster_up
    expect_exit 0
    expect_members "$head $one $two"
}

# hosts_file NAME…: the first is the head.
hosts_file() {
    local name
    printf 'user: %s\nkey: %s\nvars: { options: "--num-cpus=2 --object-store-memory=100000000" }\nhosts:\n' "$user" "$key"
    for name in "$@"; do echo "  $name: ${!name}"; done
    shift
    local IFS=,
    echo "groups: { workers: [$*] }"
}

# cluster_up [FILE] [OPTION…]
cluster_up() {
    local file=${1:-$suite_dir/hosts.yaml}
    shift || true
    gpustrap up ray -f "$file" --accept-new-host-key -y "$@"
}

# The wheels that the recipe asks for, fetched by the head's own Python and served to all three. Its pip says why not where it cannot.
fetch_ray() {
    local packages
    packages=$("$bin/gpustrap" recipe show ray | sed -n 's/^ *packages: \["\(ray[^"]*\)"\].*/\1/p')
    on_host sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv && python3 -m venv /root/fetch"
    run_recorded testbed exec head /root/fetch/bin/pip download --quiet --only-binary :all: --dest /root/wheels "$packages" pip
    [ "$status" -eq 0 ] || return 1
    mkdir -p "$suite_dir/www/wheels"
    testbed exec head tar -C /root/wheels -c . | tar -C "$suite_dir/www/wheels" -x
    local name
    for name in "$suite_dir"/www/wheels/*.whl; do
        echo "<a href=\"${name##*/}\">${name##*/}</a>" >>"$suite_dir/www/wheels/index.html"
    done
    serve "$suite_dir/www"
    for name in head one two; do
        testbed trust "$name" "$suite_dir/origin/ca.pem"
        printf '[global]\nno-index = true\nfind-links = %s/wheels/\ncert = /etc/ssl/certs/ca-certificates.crt\n' "$origin" |
            testbed exec "$name" tee /etc/pip.conf >/dev/null
    done
}

# A job that asks each node that lives to run something there and nowhere else.
submit_job() {
    testbed exec head tee /srv/job.py >/dev/null <<'JOB'
import socket
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ray.init(log_to_driver=False)

@ray.remote
def where():
    context = ray.get_runtime_context()
    return f"ran on {ray.util.get_node_ip_address()} {socket.gethostname()} {context.get_node_id()}"

nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
for line in ray.get([where.options(scheduling_strategy=On(node, soft=False)).remote() for node in nodes]):
    print(line)
JOB
    as_login_of head ray job submit --address http://127.0.0.1:8265 -- python3 /srv/job.py
}

as_login_of() {
    use_host "$1"
    shift
    as_login "$@"
}

# "ADDRESS NODE-ID" of each node that lives. With no host named, all of them are strangers to the recipe's own script.
members() { (testbed exec head python3 /etc/ray/strangers.py 8265 || true) | sort; }

# These addresses and no others, each once: a node that was cut off is missed after a while only.
expect_members() { within 120 are_members "$(tr ' ' '\n' <<<"$1" | sort)"; }
are_members() { [ "$(members | cut -d' ' -f1)" = "$1" ]; }

node_of() { members | sed -n "s/^$1 //p"; }

is_another_node() {
    local now
    now=$(node_of "$1")
    [[ $now =~ ^[0-9a-f]+$ ]] && [ "$now" != "$2" ]
}

# within SECONDS COMMAND…
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $deadline ] || {
            fail_case "'$*' did not come true"
            return 0
        }
        sleep 0.5
    done
}

connects() { timeout 3 bash -c "exec 3<>/dev/tcp/$1/$2" 2>/dev/null; }

# No port that a process of the user ray has open on the current host, but for those on the loopback, can be reached from this machine.
expect_closed() {
    local port ports uid
    local -a tries=()
    uid=$(testbed exec "$host_name" id -u ray)
    ports=$(testbed exec "$host_name" ss -ltnHe | grep "uid:$uid " | awk '{ print $4 }' | grep -v -E '^(\[::ffff:)?127\.' | sed 's/.*://' | sort -un)
    [ "$(wc -l <<<"$ports")" -ge 4 ] || fail_case "Ray listens on fewer ports of $host_name than it has: $ports"
    for port in $ports; do
        { ! connects "$address" "$port" || echo "$port" >>"$case_dir/open"; } &
        tries+=($!)
    done
    wait "${tries[@]}"
    [ ! -s "$case_dir/open" ] || fail_case "these ports of $host_name answer: $(tr '\n' ' ' <"$case_dir/open")"
}
