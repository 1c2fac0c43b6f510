#!/usr/bin/env bash
# On a bare machine with a GPU, from the project's root: builds in place, then checks every operator and times everything,
# the most valuable rows first. Ends after eight minutes whatever happens; $OUT/gpu.json holds each row from the moment it
# is made, for `aosa-fast bench publish`. Installs nothing: it needs torch, triton, numba, OpenCV, typer, pybind11,
# setuptools and g++. DEVICE=cpu and arguments, such as --suite stages:estimate --quick, try it elsewhere.
set -eu
out=${OUT:-out/gpu} python=${PYTHON:-python3} limit=${SECONDS_IN_ALL:-480}
mkdir -p "$out"
exec > >(tee "$out/log.txt") 2>&1
"$python" setup.py -q build_ext --inplace
for room in kernels bench; do # where packages lie, which only an installation knows from pyproject.toml
    [ -e aosa_fast/$room ] || ln -s ../$room aosa_fast/$room
done
echo "built after $SECONDS s"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
status=0
timeout --signal INT --kill-after 10 $((limit - SECONDS)) "$python" -c 'from aosa_fast.cli.main import main; main()' \
    bench --device "${DEVICE:-cuda}" --json "$out/gpu.json" "$@" || status=$?
echo "ended with $status after $SECONDS s"
exit $status
