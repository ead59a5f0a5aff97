# shellcheck shell=sh
# The same twenty steps as a careful person writes them: each looks before it acts.
set -eu
dpkg-query -W -f '${db:Status-Status}\n' ca-certificates python3-apt | grep -qv '^installed$' && apt-get install -y ca-certificates python3-apt
for name in one two three four five; do
    [ "$(stat -c %F:%a "/srv/bench/$name")" = directory:755 ] || install -d -m 0755 "/srv/bench/$name"
done
keep() {
    printf '%s\n' "$2" | cmp -s - "$1" || printf '%s\n' "$2" >"$1"
    [ "$(stat -c %a "$1")" = "$3" ] || chmod "$3" "$1"
}
keep /srv/bench/one/file 'the first file' 644
keep /srv/bench/two/file 'the second file' 644
keep /srv/bench/three/file 'the third file' 644
keep /srv/bench/four/file 'the fourth file' 644
keep /srv/bench/five/file 'the fifth file' 644
keep /srv/bench/sixth 'the sixth file' 600
[ "$(readlink /srv/bench/link_1)" = /srv/bench/one ] || ln -sfn /srv/bench/one /srv/bench/link_1
[ "$(readlink /srv/bench/link_2)" = /srv/bench/two ] || ln -sfn /srv/bench/two /srv/bench/link_2
[ ! -e /srv/bench/gone ] || rm /srv/bench/gone
for number in 1 2 3 4; do
    [ -e "/srv/bench/made_$number" ] || touch "/srv/bench/made_$number"
done
{ systemctl is-enabled --quiet ssh && systemctl is-active --quiet ssh; } || systemctl enable --now ssh
