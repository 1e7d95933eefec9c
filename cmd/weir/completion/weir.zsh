#compdef weir
# SPDX-License-Identifier: Apache-2.0
# weir's completion for zsh
_weir() {
	local -a found
	found=(${(f)"$(weir complete "${(@)words[2,CURRENT]}" 2>/dev/null | sed -e 's/:/\\:/g' -e $'s/\t/:/')"})
	if (( $#found )); then
		_describe weir found
	else
		_files
	fi
}
if [ "$funcstack[1]" = _weir ]; then
	_weir
else
	compdef _weir weir
fi
