# shellcheck shell=bash disable=SC2154 # host, key and the like come from lib.sh
# Many small files over https at RTT 50 ms: what a connection for each costs, what keeping connections saves, and what HTTP/2 would. The server
# is nginx on the bench host, the client curl here: neither is gpustrap's, which keeps connections where a step has many files with digests.

files=60 bytes=60000

measure() {
    boot_bench_host
    install_on_bench_host nginx-light openssl
    prepare_server | "$repository/tests/testbed/testbed" exec bench sh -s "$files" "$bytes" >"$scratch/server.log" 2>&1
    relay_to "$address:8443"
    bench_relay latency 25
    local server
    server=https://$(<"$scratch/relay/address")
    seq "$files" | sed "s,.*,url=$server/f&\noutput=/dev/null," >"$scratch/urls"
    {
        printf 'a connection for each file, 4 at once\t5\t%s\n' \
            "sh -c 'seq $files | xargs -P 4 -I{} curl -sk --http1.1 -o /dev/null $server/f{}'"
        printf '4 connections that are kept\t5\t%s\n' "curl -sk --http1.1 --parallel --parallel-max 4 -K $scratch/urls"
        printf 'HTTP/2, one connection\t5\t%s\n' "curl -sk --http2 --parallel --parallel-max $files -K $scratch/urls"
    } >"$scratch/contestants"
    contest "$scratch/contestants"
    figure "kept connections against one for each" \
        "$(ratio "$(took '4 connections that are kept')" "$(took 'a connection for each file, 4 at once')")" times
    figure "HTTP/2 against a connection for each" "$(ratio "$(took 'HTTP/2, one connection')" "$(took 'a connection for each file, 4 at once')")" times
}

prepare_server() {
    cat <<'SH'
set -e
mkdir -p /srv/www && cd /srv/www
for i in $(seq "$1"); do head -c "$2" /dev/urandom >"f$i"; done
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=bench -days 3 -keyout /etc/nginx/key.pem -out /etc/nginx/certificate.pem
cat >/etc/nginx/sites-enabled/default <<NGINX
ssl_certificate certificate.pem;
ssl_certificate_key key.pem;
server { listen 8443 ssl http2; root /srv/www; }
NGINX
systemctl restart nginx
SH
}
