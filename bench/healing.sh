# shellcheck shell=bash disable=SC2034,SC2154 # host, address and the like come from lib.sh
# How long the view of a run stands still: a link that is cut, away, or silent; a host that restarts.

measure() {
    local name value cut='' outage='' silence='' silence_here='' silence_there='' restart=''
    boot_bench_host
    start_bench_relay
    while read -r name value; do
        case $name in
        cut) cut=$value ;;
        outage) outage=$value ;;
        silence) silence=$value ;;
        silence_here) silence_here=$value ;;
        silence_there) silence_there=$value ;;
        restart) restart=$value ;;
        esac
    done < <("$bench_dir/heal_times.py" "${GPUSTRAP_BIN:-$repository/build/release}/gpustrap" "$repository/tests/testbed/testbed" \
        "$repository/tests/testbed/relay.py" "$address" "$user" "$key" "$scratch")
    [ -n "$restart" ] || return 1
    figure "a link that is cut, to the next line shown, median of 7" "$cut" s 2
    figure "a link that was away for 10 s, from its return on, median of 3" "$outage" s 4
    figure "a silent link, until the controller notices, worst of 3" "$silence_here" s 20
    figure "  until the host's end of it is gone, worst of 3" "$silence_there" s 20
    figure "  from its return to the next line shown, median of 3" "$silence" s 10
    figure "a restart, from sshd's answer to the run in view, median of 3" "$restart" s 5
}
