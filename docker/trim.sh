#!/bin/sh
# trim.sh FOLDER: takes from a site-packages folder what the tool never loads: the tests of the
# large packages, what others would compile against, and Arrow's RPC (it reads and writes Parquet).
set -eu
cd "$1"
for package in networkx numba numpy pandas pyarrow scipy sklearn sympy; do
    [ ! -d "$package" ] || find "$package" -type d -name tests -prune -exec rm -rf {} +
done
if [ -d pyarrow ]; then
    rm -rf pyarrow/include pyarrow/includes pyarrow/src pyarrow/*.pyx pyarrow/*.pxi pyarrow/*.pxd
    rm -f pyarrow/_flight* pyarrow/libarrow_flight* pyarrow/libarrow_python_flight*
fi
