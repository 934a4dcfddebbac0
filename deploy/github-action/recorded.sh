#!/usr/bin/env bash
# Says whether record.sh left a receipt. A step of its own, since that one's process became the program.
set -euo pipefail

recorded=false
[[ -s "$RECEIPT" ]] && recorded=true
echo "recorded=$recorded" >> "$GITHUB_OUTPUT"
