#!/bin/sh
# Builds the workbench page into ../static, which is committed: nothing here is needed at run time.
set -eu
cd "$(dirname "$0")"
npm ci --ignore-scripts --no-fund --no-audit
npx tsc --noEmit
node build.mjs
