# shellcheck shell=bash disable=SC2034,SC2154 # cloud and the settings are the suite cloud's
# Launches that are cut off, at every call that they make: the same command again completes them, or they are cleaned up, and nothing that is
# billed is left. The EC2 is that of the suite cloud.

# shellcheck source=tests/e2e/cloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/cloud.sh"

launches_needs() { cloud_needs; }

launches_cases() {
    start_cloud || {
        case_ "the stand-in for EC2 comes up"
        fail_case "moto cannot be had, or does not start: $(tail -n 3 "$suite_dir/cloud.log")"
        return 0
    }
    settings

    local kind calls n ended orders
    for kind in "on demand" "of spot" "that finds none of the first type, and one of the next in its second zone"; do
        case_ "a launch $kind, killed at any of its calls: the same command again completes it, and nothing is made twice"
        fresh_cloud
        launch_of "$kind"
        : >"$cloud/calls"
        launch_lab
        expect_exit 0
        expect_equal "$(counts)" "1 1 1 1"
        calls=$(wc -l <"$cloud/calls")
        orders=$(grep -n RunInstances "$cloud/calls" | cut -d: -f1)
        [ "$calls" -ge 10 ] || fail_case "a launch makes only $calls calls"
        case $kind in *that*) expect_equal "$(wc -w <<<"$orders")" 7 ;; *) expect_equal "$(wc -w <<<"$orders")" 1 ;; esac
        for ((n = 1; n <= calls; n++)); do
            # After the N-th call but without its answer. Before the N-th is after the one before it, but for what was noted here between.
            fresh_cloud
            kill_at "$n after"
            launch_lab
            [ "$status" -eq 0 ] || fail_case "killed after call $n, the next launch ended with $status: $(last_output)"
            expect_equal "$n: $(counts)" "$n: 1 1 1 1"
            expect_equal "$(open_orders)" ""
        done

        case_ "a launch $kind, killed at any of its calls and never run again: terminate and ls --orphans leave nothing behind"
        for ((n = 1; n <= calls; n++)); do
            fresh_cloud
            kill_at "$n after"
            gpustrap terminate lab -y
            ended=$status
            gpustrap ls --orphans -y
            expect_exit 0
            expect_equal "$n: $(counts)" "$n: 0 0 0 0"
            [ "$ended" -ne 0 ] || expect_equal "$n: $(open_orders)" "$n: "
        done

        case_ "a launch $kind, killed before it gives an order: it is told, and the next launch gives it once"
        for n in $orders; do
            fresh_cloud
            kill_at "$n before"
            gpustrap ls
            expect_output "A launch of lab (g"
            gpustrap terminate lab -y
            expect_exit 2
            expect_output ") was cut off"
            launch_lab
            expect_exit 0
            expect_equal "$n: $(counts)" "$n: 1 1 1 1"
        done
    done

    case_ "killed at an order that was refused, and there are machines again: it is one that is rented, where it was asked for"
    for n in $orders; do
        fresh_cloud
        kill_at "$n after"
        rm "$cloud/capacity"
        launch_lab
        expect_exit 0
        expect_equal "$n: $(aws_counts)" "$n: 1 1 1 1"
        launch_of "$kind"
    done
    fresh_cloud
    launch_of "on demand"

    case_ "an order is an account's: whatever profile leads there takes it up, and no other account hears of it"
    kill_at "$(order_call) before"
    as_second gpustrap ls
    expect_exit 0
    expect_no_output "was cut off"
    as_second launch_lab
    expect_exit 0
    expect_no_output "Taking up"
    expect_equal "$(counts)" "0 0 1 1"
    mkdir -p "$HOME/.aws"
    printf '[%s]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = %s\n' work "$AWS_SECRET_ACCESS_KEY" >"$HOME/.aws/credentials"
    gpustrap ls --profile work
    expect_output "A launch of lab (g4dn.xlarge) was cut off"
    gpustrap launch --gpu t4 --name lab --no-wait -y --profile work
    expect_exit 0
    expect_output "Taking up the launch of lab"
    expect_equal "$(counts)" "1 1 1 1"
    as_second gpustrap terminate lab -y
    expect_exit 0
    expect_equal "$(counts)" "1 1 1 1"
    as_second gpustrap ls --orphans -y
    rm -r "$HOME/.aws"

    case_ "a launch that was cut off in another region is told"
    local there
    there=$(order_call)
    launch_words=(--gpu t4 --region eu-west-1)
    kill_at "$there before"
    gpustrap ls
    expect_exit 0
    expect_output "A launch in eu-west-1 was cut off, and may have rented something: gpustrap ls --region eu-west-1"
    gpustrap ls --all-regions
    expect_output "A launch of lab (g4dn.xlarge) was cut off"
    expect_no_output "gpustrap ls --region"
    gpustrap ls --orphans --all-regions -y
    launch_of "on demand"
}

# What launch_lab and kill_at launch from now on. "That finds none": a machine is to be had in the second zone alone, and not of
# the first type.
launch_of() {
    case $1 in *that*) launch_words=(--type "g4dn.xlarge,g5.xlarge") ;; *) launch_words=(--gpu t4) ;; esac
    rm -f "$cloud/capacity"
    case $1 in *that*) echo "g5.xlarge us-east-1b" >"$cloud/capacity" ;; esac
    case $1 in *spot*) launch_words+=(--spot) ;; esac
}

# Of instances, volumes, groups and keys, as aws_counts has it, and sooner.
counts() { curl -s "$AWS_ENDPOINT_URL/counts"; }

open_orders() { find "$HOME/.local/state/gpustrap/ec2/orders" -name '*.json' -printf '%f '; }
# The number of the call by which a launch on demand orders.
order_call() {
    fresh_cloud
    : >"$cloud/calls"
    launch_lab
    grep -n RunInstances "$cloud/calls" | head -n 1 | cut -d: -f1
    fresh_cloud
}

# With the keys of another account.
as_second() {
    local -x AWS_ACCESS_KEY_ID=AKIDSECOND
    "$@"
}

# kill_at "N before|after": a launch that is killed while it waits for the answer to its N-th call.
kill_at() {
    echo "$1" >"$cloud/hang"
    follow launch "${launch_words[@]}" --name lab --no-wait -y
    await "$cloud/hung"
    kill -KILL "$follower"
    wait "$follower" 2>/dev/null || true
    rm "$cloud/hang" "$cloud/hung"
}
