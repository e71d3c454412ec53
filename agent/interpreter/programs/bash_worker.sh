# Runs pieces of code one after the other in one shell: a bash context's worker.
#
#   bash --noprofile --norc bash_worker.sh
#
# What python_context.py says of the agent's descriptors holds here too, but requests are words
# that end in NUL: mark, code, the number of variables, then name and value of each (`=value`,
# or nothing to remove it). Bash cannot have descriptors closed at exec, so they are closed
# for the time that code is run: bash keeps copies that no child sees.
#
# An interrupt has to end the code, and not this loop around it. `return` in a trap ends one
# sourced script or function, and sets a trap that ends all the others in the same way. It
# has to be set anew for each run, because bash takes one that it returned from as running.

# For messages: `bash: line 1: ...`.
BASH_ARGV0=bash

exec {__toolbox_in}<&0 {__toolbox_out}>&1 {__toolbox_err}>&2 {__toolbox_control}>&3
exec 0</dev/null 3>&-
readonly __toolbox_in __toolbox_out __toolbox_err __toolbox_control

__toolbox_tell() {
  printf '%s' "$__toolbox_mark" >&"$__toolbox_out"
  printf '%s' "$__toolbox_mark" >&"$__toolbox_err"
  printf '%s\n' "$1" >&"$__toolbox_control"
}

__toolbox_done() {
  local error=null
  if ((__toolbox_status)); then
    error='{"name":"CommandError","value":"exit code '$__toolbox_status'","traceback":""}'
  fi
  __toolbox_tell '{"type":"done","error":'"$error"'}'
}

# Whose request was cut short is gone, and so is the agent.
__toolbox_word() {
  IFS= read -r -d '' -u "$__toolbox_in" "$1" || exit 0
}

__toolbox_variables() {
  local count name value
  __toolbox_word count
  __toolbox_names=() __toolbox_values=()
  while ((count-- > 0)); do
    __toolbox_word name
    __toolbox_word value
    __toolbox_names+=("$name")
    if [[ -v $name ]]; then __toolbox_values+=("=${!name}"); else __toolbox_values+=(''); fi
    __toolbox_set "$name" "$value"
  done 2>/dev/null
}

__toolbox_set() {
  if [[ $2 ]]; then export "$1=${2#=}"; else unset -v "$1"; fi
}

__toolbox_take_back() {
  local number
  for number in "${!__toolbox_names[@]}"; do
    __toolbox_set "${__toolbox_names[number]}" "${__toolbox_values[number]}"
  done 2>/dev/null
}

__toolbox_arm() {
  __toolbox_interrupted=
  trap - INT
  # shellcheck disable=SC2064
  trap '__toolbox_interrupted=1; set -T
    trap "((\${#BASH_SOURCE[@]} > 1)) && return 130" DEBUG
    return 130' INT
}

trap : INT
while true; do
  __toolbox_word __toolbox_mark
  __toolbox_word __toolbox_code
  __toolbox_variables
  printf '{"type":"begun"}\n' >&"$__toolbox_control"
  __toolbox_arm
  # A condition, so that `set -e` in the code does not end the shell.
  if source /dev/fd/9 9<<<"exec 9<&-; $__toolbox_code" </dev/null \
    >&"$__toolbox_out" 2>&"$__toolbox_err" \
    {__toolbox_in}<&- {__toolbox_out}>&- {__toolbox_err}>&- {__toolbox_control}>&-; then
    __toolbox_status=0
  else
    __toolbox_status=$?
  fi
  trap : INT
  if [[ $__toolbox_interrupted ]]; then
    trap - DEBUG
    set +T
  fi
  __toolbox_take_back
  __toolbox_done
done
