// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// interactiveNFT is one nft that loads many scripts: a new one for each would
// spend half of its time on pages that were never touched before.
type interactiveNFT struct {
	t      *testing.T
	script string // the file that is loaded
	loads  int

	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	stop context.CancelFunc
}

const (
	loadsOfOne  = 500         // until another takes over: what it leaks is not ours to know
	loadTimeout = time.Minute // of one script
	endOfAnswer = "marker"    // no command: nft quotes it where it is told off
)

func newInteractiveNFT(t *testing.T) *interactiveNFT {
	n := &interactiveNFT{t: t, script: filepath.Join(t.TempDir(), "script.nft")}
	t.Cleanup(n.end)
	return n
}

func (n *interactiveNFT) start() error {
	ctx, stop := context.WithCancel(context.Background())
	n.cmd, n.stop, n.loads = exec.CommandContext(ctx, "nft", "-i"), stop, 0
	var err error
	if n.in, err = n.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := n.cmd.StderrPipe()
	if err != nil {
		return err
	}
	n.out = bufio.NewReader(out)
	return n.cmd.Start()
}

func (n *interactiveNFT) end() {
	if n.cmd == nil {
		return
	}
	_ = n.in.Close()
	n.stop()
	_ = n.cmd.Wait() // it was killed
	n.cmd = nil
}

// flush takes all tables away.
func (n *interactiveNFT) flush() error { return n.command("flush ruleset") }

// load loads a script in one commit; the error is what nft said.
func (n *interactiveNFT) load(text string) error {
	if err := os.WriteFile(n.script, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return n.command(fmt.Sprintf("include %q", n.script))
}

func (n *interactiveNFT) command(line string) error {
	if n.loads == loadsOfOne {
		n.end()
	}
	if n.cmd == nil {
		if err := n.start(); err != nil {
			n.t.Fatal(err)
		}
	}
	n.loads++
	late := time.AfterFunc(loadTimeout, n.stop)
	defer late.Stop()
	if _, err := fmt.Fprintf(n.in, "%s\n%s\n", line, endOfAnswer); err != nil {
		n.end()
		return err
	}
	answer, err := n.answer()
	if err != nil {
		n.end()
		return fmt.Errorf("nft is gone: %w: %s", err, answer)
	}
	if answer != "" {
		return errors.New(answer)
	}
	return nil
}

// answer is what nft says up to the marker: that is quoted between an error and
// the place of it.
func (n *interactiveNFT) answer() (string, error) {
	var lines []string
	for {
		line, err := n.out.ReadString('\n')
		if err != nil {
			return strings.Join(lines, ""), err
		}
		if line != endOfAnswer+"\n" {
			lines = append(lines, line)
			continue
		}
		_, err = n.out.ReadString('\n')
		return strings.Join(lines[:max(len(lines)-1, 0)], ""), err
	}
}
