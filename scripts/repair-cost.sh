#!/bin/bash
# What comparisons between owners cost puts: two clusters of `kvd dev`, one that compares itself all the
# time (each unit once a minute, ten times as often as by default), one that never does, under the same
# closed load in turn. Prints what `kvctl bench compare` says of each pair: the last column is on / off.
#
#   scripts/repair-cost.sh [ROUNDS]     default: 5
#
# Builds what it runs, unless KVD_BIN_DIR says where that is. Needs the machine for itself: 20 s a round.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${1:-5}
bin=${KVD_BIN_DIR:-target/release}
work=$(mktemp -d)
[ -n "${KVD_BIN_DIR:-}" ] || cargo build --release --quiet

finish() {
    for which in off on; do
        "$bin/kvd" dev --dir "$work/$which" --stop >/dev/null 2>&1 || true
    done
    rm -rf "$work"
}
trap finish EXIT

# start NAME HOST INTERVAL
start() {
    "$bin/kvd" dev --dir "$work/$1" --host "$2" --detach \
        --set "repair.interval=$3" --set storage.sync=none >/dev/null 2>&1
}
# load NAME HOST
load() {
    "$bin/kvctl" -e "$2:7450" bench run --mix put=100 --dist uniform --keys 100000 --value-bytes 100 \
        --closed 64 --warmup 2s --duration 7s --save "$work/$1.json" >/dev/null 2>&1
}

off=127.85.1.$((RANDOM % 250 + 1))
on=127.85.2.$((RANDOM % 250 + 1))
start off "$off" 0s
start on "$on" 1m
for round in $(seq "$rounds"); do
    if [ $((round % 2)) = 1 ]; then
        load off "$off" && load on "$on"
    else
        load on "$on" && load off "$off"
    fi
    echo "round $round"
    "$bin/kvctl" bench compare "$work/off.json" "$work/on.json"
done
