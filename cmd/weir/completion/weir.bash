# SPDX-License-Identifier: Apache-2.0
# weir's completion for bash
_weir() {
	local IFS=$'\n'
	COMPREPLY=($(weir complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _weir weir
