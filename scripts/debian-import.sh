#!/bin/bash
# Imports every package record that apt knows into a cluster of `kvd dev`, kills one node half-way
# with `kill -9` and starts it again by hand, and then reads everything back through every node as
# coordinator with r = 2.
#
#   scripts/debian-import.sh [DIRECTORY]     default: a new one below /tmp, removed when all is well
#
# Needs apt-cache and awk; builds what it runs, unless KVD_BIN_DIR says where that is. Prints figures;
# exits 0 only if nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${KVD_BIN_DIR:-target/release}
kept=${1:-}
work=${kept:-$(mktemp -d)}
host=127.88.$((RANDOM % 250 + 1)).$((RANDOM % 250 + 1))
port=7450
dir=$work/cluster
nodes=("$host:$port" "$host:$((port + 10))" "$host:$((port + 20))")
all=$(IFS=,; echo "${nodes[*]}")
by_hand=

# Everything is done from here on by the programs users have.
kvd() { "$bin/kvd" "$@"; }
kvctl() { "$bin/kvctl" "$@"; }

finish() {
    status=$?
    kvd dev --dir "$dir" --stop 2>/dev/null || true
    if [ -n "$by_hand" ]; then kill "$by_hand" 2>/dev/null || true; fi
    if [ $status = 0 ] && [ -z "$kept" ]; then rm -rf "$work"; else echo "files: $work"; fi
    exit $status
}
trap finish EXIT

if [ -z "${KVD_BIN_DIR:-}" ]; then
    cargo build --release --quiet --bins --example dumpavail_to_ndjson
fi
mkdir -p "$work"
# Keys first, values last: the last record of a name wins, as with apt.
apt-cache dumpavail | "$bin/examples/dumpavail_to_ndjson" > "$work/packages.ndjson"
records=$(wc -l < "$work/packages.ndjson")
bytes=$(wc -c < "$work/packages.ndjson")
echo "$(date -u +'%Y-%m-%d %H:%M UTC'), $(nproc) x $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)"
echo "records: $records, $((bytes / 1024 / 1024)) MiB of ndjson"
[ "$records" -gt 0 ]

kvd dev --detach --dir "$dir" --host "$host" --base-port "$port" 2> /dev/null

# The import, and half-way through it the end of a node that owns a copy of everything.
half=$(awk -v line=$((records / 2)) 'NR == line' "$work/packages.ndjson" | sed 's/^{"key":"\([^"]*\)".*/\1/')
kvctl -e "$all" -o json --no-progress import "$work/packages.ndjson" --format ndjson > "$work/summary" &
import=$!
until kvctl -e "${nodes[0]}" get "$half" > /dev/null 2>&1; do kill -0 $import || break; done
kill -0 $import && during=yes || during=no
victim=$(cat "$dir/n2/kvd.pid")
kill -9 "$victim"
killed=$(date +%s%N)
while [ -e "/proc/$victim/stat" ] && ! grep -q ") Z " "/proc/$victim/stat"; do :; done
"$bin/kvd" run --config "$dir/n2/kvd.toml" >> "$dir/n2/log" 2>&1 &
by_hand=$!
until kvctl -e "${nodes[1]}" get "$half" > /dev/null 2>&1; do :; done
back=$(date +%s%N)
echo "killed n2 while importing: $during; serving again after $(((back - killed) / 1000000)) ms"
wait $import
cat "$work/summary"

# Every record through every node, asking two replicas for each.
LC_ALL=C sort "$work/packages.ndjson" > "$work/wanted"
for node in "${nodes[@]}"; do
    begin=$(date +%s%N)
    kvctl -e "$node" --no-progress export - -r 2 | LC_ALL=C sort > "$work/found"
    end=$(date +%s%N)
    cmp "$work/wanted" "$work/found"
    echo "$node: $(wc -l < "$work/found") records equal, read with r = 2 in $(((end - begin) / 1000000)) ms"
done
kvctl -e "$all" status
echo "nothing is missing"
