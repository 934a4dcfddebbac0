#!/usr/bin/env bash
# Puts `counterfoil` on the PATH of the job's later steps: downloaded and checked, or built from the sources beside this file.
set -euo pipefail

bin="$RUNNER_TEMP/counterfoil-bin"
mkdir -p "$bin"

if [[ -n "$DOWNLOAD_URL" ]]; then
  if [[ ! "$SHA256" =~ ^[0-9a-fA-F]{64}$ ]]; then
    echo "error: download-url needs sha256, 64 hexadecimal digits: nothing else says that the download is the right one" >&2
    exit 2
  fi
  curl --fail --silent --show-error --location --proto '=https' --proto-redir '=https' --retry 3 --max-time 300 \
    --output "$bin/download" -- "$DOWNLOAD_URL"
  echo "${SHA256,,}  $bin/download" | sha256sum --check --quiet --strict
  chmod 755 "$bin/download"
  mv "$bin/download" "$bin/counterfoil"
else
  # From there: rustup and cargo go by the toolchain and the configuration of the directory that they run in.
  (cd "$GITHUB_ACTION_PATH/../.." && CARGO_TARGET_DIR="$RUNNER_TEMP/counterfoil-target" cargo build --release --locked --package counterfoil-cli)
  cp "$RUNNER_TEMP/counterfoil-target/release/counterfoil" "$bin/counterfoil"
fi

"$bin/counterfoil" --version
echo "$bin" >> "$GITHUB_PATH"
