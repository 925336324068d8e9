#!/bin/sh
# Makes kernels.ptx of kernels.cu, after every change of it: sh src/fast/cuda/make_ptx.sh (nvcc of any toolkit from 12 on).
#
# compute_75 is the lowest that CUDA 13 compiles for; the driver compiles the PTX for the card at hand. The kernels use
# nothing that PTX 6.5 (CUDA 10.2) lacks, so the file says so, and drivers older than the toolkit take it; ptxas checks.
# The first line ties the file to its source: a test compares it.
set -e
cd "$(dirname "$0")"
nvcc -ptx -arch=compute_75 -fmad=false -O3 kernels.cu -o kernels.tmp
sum=$(sha256sum kernels.cu | cut -d' ' -f1)
{ echo "// kernels.cu $sum"; grep -v '^//' kernels.tmp | sed 's/^\.version .*/.version 6.5/'; } > kernels.ptx
rm kernels.tmp
ptxas -arch=sm_90 kernels.ptx -o /dev/null
