#!/bin/sh
# install-torch.sh ACCELERATOR EXTRAS TORCH_INDEX_URL: torch and torchvision, if the extras need them.
set -eu
accelerator=$1 extras=$2 index=$3

case ",$extras," in
*,encoders,* | *,all,*) ;;
*) exit 0 ;;
esac
case $accelerator in
cpu)
    if [ -n "$index" ]; then
        exec pip install --index-url "$index" 'torch>=2.6' torchvision
    fi
    echo "no TORCH_INDEX_URL: torch comes from pip's own index, perhaps with CUDA's libraries" >&2
    ;;
cuda) ;;
*)
    echo "ACCELERATOR is cpu or cuda, got '$accelerator'" >&2
    exit 2
    ;;
esac
exec pip install 'torch>=2.6' torchvision
