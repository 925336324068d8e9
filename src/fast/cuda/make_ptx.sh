#!/bin/sh
# Makes the .ptx of each .cu, after every change of it: sh src/fast/cuda/make_ptx.sh (nvcc of any toolkit from 12 on).
#
# compute_75 is the lowest that CUDA 13 compiles for; the driver compiles the PTX for its card. The kernels use
# nothing that PTX 6.5 (CUDA 10.2) lacks, so the files say so, and drivers older than the toolkit take them; ptxas checks.
# The first line ties a file to its source, with common.cuh before it: a test compares it.
set -e
cd "$(dirname "$0")"
for name in kernels branches views strong; do
    nvcc -ptx -arch=compute_75 -fmad=false -O3 $name.cu -o $name.tmp
    sum=$(cat common.cuh $name.cu | sha256sum | cut -d' ' -f1)
    { echo "// $name.cu $sum"; grep -v '^//' $name.tmp | sed 's/^\.version .*/.version 6.5/'; } > $name.ptx
    rm $name.tmp
    ptxas -arch=sm_90 $name.ptx -o /dev/null
done
