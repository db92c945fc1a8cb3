#!/usr/bin/env bash
# A certificate of the fleet's CA for one host, as agent.yaml names it under tls; the CA is made first
# where there is none yet. Its key, DIR/ca.key, belongs on no host: keep it where you make certificates.
set -euo pipefail
umask 077
if [[ $# -lt 2 || $2 == ca || ! $2 =~ ^[a-z0-9][a-z0-9.-]*$ ]]; then
    echo "usage: ./run certificate DIR HOST [ADDRESS...]: HOST is the id in its agent.yaml, not ca" >&2
    exit 2
fi
readonly dir=$1 host=$2
shift 2
names="DNS:$host"
for address in "$@"; do names+=",IP:$address"; done
mkdir -p "$dir"
new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# Two calls at once must not make two CAs.
exec 9>"$dir/lock"
flock 9
if [[ ! -e $dir/ca.crt ]]; then
    new_key "$dir/ca.key"
    openssl req -x509 -new -key "$dir/ca.key" -out "$dir/ca.crt" -days 3650 -subj "/CN=Godwit fleet" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
fi
new_key "$dir/$host.key"
openssl req -new -key "$dir/$host.key" -subj "/CN=$host" |
    openssl x509 -req -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -out "$dir/$host.crt" -days 825 \
        -set_serial "0x$(openssl rand -hex 16)" -extfile <(printf '%s\n' \
        "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
        "extendedKeyUsage=serverAuth,clientAuth" "subjectAltName=$names") 2>"$dir/openssl.log" ||
    { cat "$dir/openssl.log" >&2; exit 1; }
rm -f "$dir/openssl.log"
echo "tls: {certificate: $dir/$host.crt, key: $dir/$host.key, ca: $dir/ca.crt}"
