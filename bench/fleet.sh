# shellcheck shell=bash disable=SC2154 # user, key and the like come from lib.sh
# A rerun of ten steps that are all done already, on 100 hosts at once: each is an address and a login of its own on one of four booted hosts,
# with its own agent, state and run. Their sshds and checks share this machine's processors with whoever is measured. Other tools take minutes for
# so many: they are measured on the first box's hosts alone, gpustrap beside them.

hosts_each=25 boxes=4

measure() {
    boot_bench_host
    bench_home
    if [ -z "${GPUSTRAP_BENCH_QUICK:-}" ]; then
        install_on_bench_host python3 # for Ansible alone
        install_peers ansible pyinfra
    fi
    boot_boxes
    # shellcheck disable=SC2046 # words
    cc -O2 -pthread -o "$scratch/bare_fleet" "$bench_dir/bare_fleet.c" $(pkg-config --cflags --libs libssh)
    fleet_up >"$scratch/up.log" 2>&1 || { # pushes the agents and does the steps
        tail -n 30 "$scratch/up.log" >&2
        return 1
    }
    local here=$bench_dir/fleet list=$scratch/contestants count=$((hosts_each * boxes))
    {
        printf 'gpustrap up\t5\t%s\n' "$gpustrap up $here/recipe.yaml -f $scratch/hosts.yaml -y"
        printf 'libssh, exec true\t5\t%s\n' "sh -c '$scratch/bare_fleet 50 $key $known_hosts <$scratch/hosts'"
    } >"$list"
    echo "  $count hosts, 50 at once"
    contest "$list"
    local ours bare beyond peak
    ours=$(took 'gpustrap up' 4) bare=$(took 'libssh, exec true' 4)
    beyond=$(awk -v a="$ours" -v b="$bare" -v n="$count" 'BEGIN { printf "%.2f", 1000 * (a - b) / n }')
    figure "gpustrap against a bare libssh exec true on each" "$(ratio "$(took 'gpustrap up')" "$(took 'libssh, exec true')")" times
    figure "CPU here a host, beyond that of libssh alone" "$beyond" ms 3
    peak=$(peak_memory "$gpustrap" up "$here/recipe.yaml" -f "$scratch/hosts.yaml" -y)
    figure "peak resident memory of the controller, $count at once 50" "$peak" MB 60
    peak=$(peak_memory "$gpustrap" up "$here/recipe.yaml" -f "$scratch/hosts.yaml" -y --parallel "$count")
    figure "peak resident memory of the controller, all $count at once" "$peak" MB 60
    [ -n "${GPUSTRAP_BENCH_QUICK:-}" ] || beside_peers
}

# The same ten steps, all done already, on the hosts of the first box.
beside_peers() {
    local here=$bench_dir/fleet list=$scratch/contestants
    describe_hosts "$hosts_each"
    {
        printf 'gpustrap up\t3\t%s\n' "$gpustrap up $here/recipe.yaml -f $scratch/few.yaml -y"
        printf 'pyinfra\t2\t%s\n' "$pyinfra -y $scratch/few.py $here/deploy.py"
        printf 'Ansible, Mitogen\t1\t%s\n' "env ANSIBLE_STRATEGY=mitogen_linear ANSIBLE_STRATEGY_PLUGINS=$mitogen $ansible -f 50 -i $scratch/few.ini $here/playbook.yaml"
        printf 'Ansible, pipelining\t1\t%s\n' "env ANSIBLE_PIPELINING=1 $ansible -f 50 -i $scratch/few.ini $here/playbook.yaml"
    } >"$list"
    echo "  $hosts_each hosts, all at once"
    contest "$list" --between "$bench_dir/end_masters.sh $scratch/masters"
    local peer
    for peer in pyinfra 'Ansible, Mitogen' 'Ansible, pipelining'; do
        figure "gpustrap against $peer" "$(ratio "$(took 'gpustrap up')" "$(took "$peer")")" times 1
    done
}

# describe_hosts N: the first N in each tool's own words.
describe_hosts() {
    local login at
    head -n $((2 + $1)) "$scratch/hosts.yaml" >"$scratch/few.yaml"
    : >"$scratch/few.ini"
    echo 'few = [' >"$scratch/few.py"
    head -n "$1" "$scratch/hosts" | while read -r login at; do
        echo "$login ansible_host=$at ansible_user=$login ansible_ssh_private_key_file=$key" >>"$scratch/few.ini"
        echo "    (\"$at\", {\"ssh_user\": \"$login\", \"ssh_key\": \"$key\"})," >>"$scratch/few.py"
    done
    echo ']' >>"$scratch/few.py"
}

fleet_up() { "$gpustrap" up "$bench_dir/fleet/recipe.yaml" -f "$scratch/hosts.yaml" -y; }

# Of the process itself, in MB.
peak_memory() {
    python3 -c 'import os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
print(f"{usage.ru_maxrss / 1024:.1f}" if status == 0 else "failed")' "$@"
}

# Logins and addresses on four hosts, and what each of the measured is told of them.
boot_boxes() {
    local box
    for box in bench two three four; do
        [ "$box" = bench ] || "$repository/tests/testbed/testbed" boot "$box" >"$scratch/$box.host"
    done
    : >"$scratch/hosts"
    local number=99 i login at
    for box in bench two three four; do
        for ((i = 0; i < hosts_each; ++i)); do
            number=$((number + 1)) login=u$number at=${address%.*}.$number
            echo "$login $at" >>"$scratch/hosts"
            echo "ip address add $at/24 dev host0; useradd -m -s /bin/bash $login; install -d -m 700 -o $login -g $login /home/$login/.ssh
                install -m 600 -o $login -g $login /home/$user/.ssh/authorized_keys /home/$login/.ssh/"
        done >"$scratch/$box.setup"
        {
            echo 'set -e; echo MaxStartups 500 >/etc/ssh/sshd_config.d/01-bench.conf; systemctl reload ssh'
            cat "$scratch/$box.setup"
        } | "$repository/tests/testbed/testbed" exec "$box" sh >"$scratch/$box.log" 2>&1 || {
            cat "$scratch/$box.log" >&2
            return 1
        }
    done
    cut -d' ' -f2 "$scratch/hosts" | ssh-keyscan -t ed25519 -f - 2>/dev/null >>"$known_hosts"
    {
        printf 'key: %s\nhosts:\n' "$key"
        sed 's/^\(.*\) \(.*\)$/  \1: \1@\2/' "$scratch/hosts"
    } >"$scratch/hosts.yaml"
}
