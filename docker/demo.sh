#!/bin/sh
# The main job on shipped pictures, into the store and runs database that the environment names:
# ingest, fit, backfill in place, compare. Killed at any moment, the same command goes on.
set -eu
out=${1:-/data}
projection=$out/pca.safetensors
pictures=$(python -c 'from intramodal.demo import pictures_list; print(pictures_list())')

if [ -f "$projection" ]; then
    # A repeat: first what an earlier call may have left undone, then only what is new is encoded.
    intramodal backfill demo --projection "$projection"
    intramodal ingest "$pictures" --collection demo --model demo --projection "$projection"
else
    intramodal ingest "$pictures" --collection demo --model demo
    intramodal fit --model demo --out "$projection"
    intramodal backfill demo --projection "$projection"
fi
intramodal compare demo --labels identity,subgroup,category,vendor --cluster code_point \
    --projection "$projection" --pictures "$(dirname "$pictures")" --report "$out/report.html"
