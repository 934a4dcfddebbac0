#!/usr/bin/env bash
# Records one event, or the start and the end of a command. All input comes as variables; see action.yml.
set -euo pipefail
# For this script alone: make, for one, takes variables of such names from its environment.
export -n EVENT_TYPE COMMAND STEP_NAME DEPLOY_ENVIRONMENT ARTIFACTS DATA_FILE CONTENT_TYPE EVENT_ID EVENT_TIME \
  OIDC_AUDIENCE REQUIRE_RECEIPT

# What waits is recorded as whoever delivers it: not one repository's as another's, nor what a pull request's job queued as a
# protected branch's. Without a home the program says what is missing.
state_home="${XDG_STATE_HOME:-${HOME:+$HOME/.local/state}}"
if [[ -z "${COUNTERFOIL_OUTBOX:-}" && -n "$state_home" ]]; then
  export COUNTERFOIL_OUTBOX="$state_home/counterfoil/outbox-${GITHUB_REPOSITORY_ID:-0}-${GITHUB_REF_PROTECTED:-false}"
fi

receipt="$RUNNER_TEMP/counterfoil-$$.tlog-proof"
payload="$RUNNER_TEMP/counterfoil-$$.json"
{
  echo "receipt=$receipt"
  echo "artifact=${GITHUB_JOB:-job}-${GITHUB_RUN_ATTEMPT:-1}-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')"
} >> "$GITHUB_OUTPUT"
options=(--type "$EVENT_TYPE" --receipt "$receipt")
[[ "$REQUIRE_RECEIPT" == true ]] && options+=(--require-receipt)
[[ -n "$OIDC_AUDIENCE" ]] && options+=(--oidc-audience "$OIDC_AUDIENCE")

# A runner that cancels a step signals the step's process alone: that has to be the program.
if [[ -n "$COMMAND" ]]; then
  echo "payload=$payload" >> "$GITHUB_OUTPUT"
  options+=(--payload-to "$payload")
  [[ -n "$STEP_NAME" ]] && options+=(--name "$STEP_NAME")
  [[ -n "$DEPLOY_ENVIRONMENT" ]] && options+=(--environment "$DEPLOY_ENVIRONMENT")
  while IFS= read -r artifact; do
    [[ -n "$artifact" ]] && options+=(--artifact "$artifact")
  done <<< "$ARTIFACTS"
  exec counterfoil run "${options[@]}" -- bash --noprofile --norc -eo pipefail -c "$COMMAND"
fi
options+=(--source "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY")
[[ -n "$DATA_FILE" ]] && options+=(--data-file "$DATA_FILE")
[[ -n "$CONTENT_TYPE" ]] && options+=(--content-type "$CONTENT_TYPE")
[[ -n "$EVENT_ID" ]] && options+=(--id "$EVENT_ID")
[[ -n "$EVENT_TIME" ]] && options+=(--time "$EVENT_TIME")
exec counterfoil submit "${options[@]}"
