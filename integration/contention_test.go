// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
)

// playChurn commits without rest, on the order "GAP WHAT TABLE", and says when the
// first commits are made.
func playChurn() error {
	lines := bufio.NewScanner(os.Stdin)
	if !lines.Scan() {
		return lines.Err()
	}
	words := strings.Fields(lines.Text())
	gap, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: words[2], Family: nftables.TableFamilyINet})
	set := &nftables.Set{Name: "churned", Table: table, KeyType: nftables.TypeMark}
	if err := c.AddSet(set, nil); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return err
	}
	go func() {
		for lines.Scan() { // ends with its standard input
		}
		os.Exit(0)
	}()
	for i := 0; ; i++ {
		switch words[1] {
		case "elements":
			_ = c.SetAddElements(set, []nftables.SetElement{{Key: []byte{byte(i), byte(i>>8) & 3, 0, 1}}}) // 1,024 of them, again and again
		case "chains":
			chain := c.AddChain(&nftables.Chain{Name: "churned", Table: table})
			if i%2 == 1 {
				c.DelChain(chain)
			}
		case "tables":
			other := c.AddTable(&nftables.Table{Name: fmt.Sprint("churned", i%4), Family: nftables.TableFamilyIPv4})
			if i%2 == 1 {
				c.DelTable(other)
			}
		}
		_ = c.Flush() // who deletes the table meanwhile makes it fail, and goes on
		if i == 16 {
			fmt.Println("churns")
		}
		time.Sleep(gap)
	}
}

// churn starts a writer in the namespace, and ends it with the test.
func (n *namespace) churn(t *testing.T, gap, what, table string) (stop func()) {
	t.Helper()
	c := n.start("churn")
	c.say("%s %s %s", gap, what, table)
	c.hear()
	return func() { _ = c.Process.Kill(); _ = c.Wait() }
}

// TestForeignWriter: whoever commits without rest to other tables starves no other.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	for _, tt := range []struct {
		why, gap, what string
		locked         bool // the lock is another's, too
	}{
		{"elements, a commit a millisecond", "1ms", "elements", false},
		{"elements, as fast as it can", "0s", "elements", false},
		{"chains, a commit a millisecond", "1ms", "chains", false},
		{"tables, a commit a millisecond", "1ms", "tables", false},
		{"elements, beside a lock that is held", "1ms", "elements", true},
		{"elements as fast as it can, beside a lock that is held", "0s", "elements", true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := c.elsewhere(t)
			n.nft("add table inet other") // not of the writer's making alone
			if tt.locked {
				n.holdLock()
			}
			defer n.churn(t, tt.gap, tt.what, "other")()
			start := time.Now()
			n.run(with("apply", plainSidecar...)...).want(t, 0).prints(t, "created: ")
			n.run(with("apply", append(plainSidecar, "--outbound-exclude-ports", "9000")...)...).want(t, 0)
			n.run(with("apply", withRouting...)...).want(t, 0).prints(t, "replaced: ")
			n.run(with("verify", withRouting...)...).want(t, 0)
			n.run("show").want(t, 0).prints(t, "as written")
			n.run("remove").want(t, 0).prints(t, "removed: ")
			t.Logf("six commands took %s", time.Since(start).Round(time.Millisecond))
		})
	}
}

var lastWriter = regexp.MustCompile(`the ruleset kept changing; gave up after \S+ \(last writer: [^\n]+, PID ([0-9]+)\)`)

// TestRivalWriter: whoever commits without rest to weir's own table keeps it from its
// end, and is named.
func TestRivalWriter(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	for _, tt := range []struct{ why, gap, what, table string }{
		{"elements, in weir's table", "0s", "elements", tableName},
		{"chains, in weir's table", "0s", "chains", tableName},
		{"elements, in the helper's", "0s", "elements", tableName + "-next"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			n := c.elsewhere(t)
			n.ok(with("apply", withRouting...)...)
			rival := n.start("churn")
			rival.say("%s %s %s", tt.gap, tt.what, tt.table)
			rival.hear()
			start := time.Now()
			o := n.run(with("apply", append(plainSidecar, "--timeout", "3s")...)...)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
			switch m := lastWriter.FindStringSubmatch(o.errs); {
			case o.code == 0: // it came between two of the rival's commits
			case strings.Contains(o.errs, "weir did not write it"): // the helper's name
			case o.code != 1 || m == nil:
				t.Errorf("it ended otherwise: %s", o)
			case m[1] != strconv.Itoa(rival.Process.Pid):
				t.Errorf("the rival is %d: %s", rival.Process.Pid, o)
			}
			_ = rival.Process.Kill()
			_ = rival.Wait()
			n.nft("add table inet weir-next; delete table inet weir-next")
			n.run(with("apply", plainSidecar...)...).want(t, 0)
			n.run(with("verify", plainSidecar...)...).want(t, 0)
		})
	}
}
