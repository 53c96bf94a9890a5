#!/usr/bin/env bash
# vLLM on several GPUs of one machine, in one of three ways:
#
#   deploy/vllm/several-gpus.sh split     one model too large for one GPU, over GPUS of them (tensor parallel)
#   deploy/vllm/several-gpus.sh lanes     a fast model on GPU 0, a larger one for background work on the others
#   deploy/vllm/several-gpus.sh replicas  the same model on each of GPUS GPUs, behind one router
#
# MODEL (and RICH_MODEL for `lanes`) name the weights; GPUS says how many GPUs there are (2 when left out).
# Stop it with Ctrl-C: every server it has started ends with it.
set -euo pipefail
source "$(dirname "$0")/flags.sh"

model="${MODEL:?set MODEL to the name or the folder of the weights}"
gpus="${GPUS:-2}"
first_port="${PORT:-8000}"
trap 'kill 0' EXIT

serve() { # serve <GPUs, separated by commas> <port> <model> [flags]
  local devices="$1" port="$2" weights="$3"
  shift 3
  CUDA_VISIBLE_DEVICES="$devices" vllm serve "$weights" "${flags[@]}" \
    --port "$port" --gpu-memory-utilization "${GPU_MEMORY:-0.90}" "$@" &
}

case "${1:-}" in
  split)
    # Every layer is cut over all GPUs: the memory of all, and each token computed by all. The number of GPUs has to
    # divide the model's attention heads; 2, 4 and 8 nearly always do.
    serve "$(seq -s, 0 $((gpus - 1)))" "$first_port" "$model" --tensor-parallel-size "$gpus"
    ;;
  lanes)
    # Two servers: a digest that is being written can then not slow down anybody's answer.
    # VLLM_BASE_URL=http://127.0.0.1:8000       VLLM_MODEL=assistant
    # VLLM_RICH_BASE_URL=http://127.0.0.1:8001  VLLM_RICH_MODEL=rich
    serve 0 "$first_port" "$model"
    # A flag that is given twice counts the second time.
    serve "$(seq -s, 1 $((gpus - 1)))" $((first_port + 1)) "${RICH_MODEL:?set RICH_MODEL for the other GPUs}" \
      --tensor-parallel-size $((gpus - 1)) --served-model-name rich --tool-call-parser "${RICH_TOOL_CALL_PARSER:-hermes}"
    ;;
  replicas)
    backends=()
    models=()
    for ((gpu = 0; gpu < gpus; gpu++)); do
      serve "$gpu" $((first_port + 1 + gpu)) "$model"
      backends+=("http://127.0.0.1:$((first_port + 1 + gpu))")
      models+=("${SERVED_NAME:-assistant}")
    done
    # vLLM production-stack's router (https://github.com/vllm-project/production-stack, folder src/vllm_router: its README says how to install it).
    # prefixaware sends a prompt to the replica that has most of it in its cache; it tells replicas apart by prompt
    # alone, and each tenant's salt keeps their caches apart there as everywhere.
    vllm-router --host "${HOST:-127.0.0.1}" --port "$first_port" \
      --service-discovery static \
      --static-backends "$(IFS=,; echo "${backends[*]}")" \
      --static-models "$(IFS=,; echo "${models[*]}")" \
      --routing-logic prefixaware &
    ;;
  *)
    trap - EXIT
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

# When one server ends, all do, and whatever started this script starts it again.
wait -n
