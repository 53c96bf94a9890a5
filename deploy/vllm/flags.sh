# The flags every vLLM server for Countersign has; sourced by one-gpu.sh and several-gpus.sh, not run by itself.
# What each is for; the versions meant are vLLM 0.10 and newer, checked with 0.32 (docs/model.md).

flags=(
  # A name of your own for the model: VLLM_MODEL on Countersign's side stays the same when the weights change.
  --served-model-name "${SERVED_NAME:-assistant}"

  # Listens to this machine only. Countersign on another machine: HOST=0.0.0.0, and VLLM_API_KEY on both sides.
  --host "${HOST:-127.0.0.1}"

  # Tokens of one request, its answer included. 16,384 holds the longest thread we show a model with room to spare;
  # every token more is memory that is no longer there for other people's requests.
  --max-model-len "${MAX_MODEL_LEN:-16384}"

  # People waiting (priority 0) go before background work (priority 10). It reorders the queue and stops nothing that
  # already runs, so a slot has to come free quickly: see the next one.
  --scheduling-policy priority

  # Requests computed at once. Countersign sends at most VLLM_CONCURRENCY (64) from each process, of which background
  # work gets VLLM_BACKGROUND_CONCURRENCY (8); with more slots than both together, nobody waits for a slot at all.
  --max-num-seqs "${MAX_NUM_SEQS:-128}"

  # Long prompts are read in pieces between other people's tokens, so that nobody's answer stalls behind them.
  --enable-chunked-prefill

  # The standing part of our prompts is the same bytes every time and is computed once. Answers say how much of a
  # prompt came from the cache (the second flag), which `countersign model check` and our own metrics read.
  --enable-prefix-caching
  --enable-prompt-tokens-details

  # Plans are tool calls. The parser belongs to the model: hermes for Qwen 2.5 and Qwen 3, qwen3_coder for Qwen3-Coder,
  # llama3_json for Llama 3, mistral for Mistral; vLLM's manual lists them under "Tool Calling".
  --enable-auto-tool-choice
  --tool-call-parser "${TOOL_CALL_PARSER:-hermes}"

  # JSON by schema, without free spaces between values: a weak model may otherwise write spaces until its answer is cut.
  --structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}'

  # Our sampling values, and not those that came with the weights.
  --generation-config vllm

  # The id of one of our requests comes back as X-Request-Id, so that both sides' logs can be laid side by side.
  --enable-request-id-headers
)

# Nothing is reported to the makers of vLLM.
export VLLM_NO_USAGE_STATS=1
