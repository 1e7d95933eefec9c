# SPDX-License-Identifier: Apache-2.0
# weir's completion for fish
complete -c weir -a '(weir complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
