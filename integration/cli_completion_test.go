// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletionInShells: each shell that is here loads its script and completes.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, tt := range []struct{ shell, ask string }{
		{"bash", `source <(weir completion bash); COMP_WORDS=(weir apply --outbound-p); COMP_CWORD=2; _weir; echo "${COMPREPLY[@]}"`},
		{"zsh", `autoload -U compinit; compinit -D; source <(weir completion zsh); words=(weir apply --outbound-p); CURRENT=3; _describe() { print -- "${(P)2}" }; _weir`},
		{"fish", `weir completion fish | source; complete -C 'weir apply --outbound-p'`},
	} {
		path, err := exec.LookPath(tt.shell)
		if err != nil {
			t.Logf("%s is not here", tt.shell)
			continue
		}
		cmd := exec.Command(path, "-c", tt.ask)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(c.program)+":"+os.Getenv("PATH"), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "--outbound-port") {
			t.Errorf("%s completes by %q: %v", tt.shell, out, err)
		}
	}
	c.run("completion", "ksh").want(t, 2).says(t, `unknown shell "ksh" (want bash, zsh or fish)`)
	c.run("completion").want(t, 2)
}
