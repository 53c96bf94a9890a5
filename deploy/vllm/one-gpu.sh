#!/usr/bin/env bash
# vLLM on one GPU: both lanes ask this server, and people go before background work.
#
#   MODEL=Qwen/Qwen3-8B deploy/vllm/one-gpu.sh
#
# then, for Countersign:  VLLM_BASE_URL=http://127.0.0.1:8000  VLLM_MODEL=assistant
# and to see whether all is well:  ./countersign model check
set -euo pipefail
source "$(dirname "$0")/flags.sh"

# VLLM_API_KEY, where it is set, is read by vLLM itself and asked of every client.
# 0.90 of the GPU's memory: weights first, the rest is room for requests and for the prefix cache.
exec vllm serve "${MODEL:?set MODEL to the name or the folder of the weights}" "${flags[@]}" \
  --port "${PORT:-8000}" \
  --gpu-memory-utilization "${GPU_MEMORY:-0.90}"
