// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// playHoard fills its namespace with what takes long to read, on an order, and stays.
func playHoard() error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		what, count, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			return err
		}
		if err := hoard(what, n); err != nil {
			return err
		}
		fmt.Println("hoards", what)
	}
	return lines.Err()
}

func hoard(what string, n int) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "hoard", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{Name: "c", Table: table})
	flushEach := func(every int, add func(i int)) error {
		for i := range n {
			if add(i); i%every == every-1 {
				if err := c.Flush(); err != nil {
					return err
				}
			}
		}
		return c.Flush()
	}
	switch what {
	case "elements", "tag":
		set := &nftables.Set{Name: what, Table: table, KeyType: nftables.TypeMark}
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
		return flushEach(500, func(i int) {
			key := binary.NativeEndian.AppendUint32(nil, uint32(i))
			_ = c.SetAddElements(set, []nftables.SetElement{{Key: key, Comment: strings.Repeat("x", 100)}})
		})
	case "tables":
		return flushEach(100, func(i int) {
			c.AddTable(&nftables.Table{Name: fmt.Sprint("t", i), Family: nftables.TableFamilyINet})
		})
	case "chains":
		return flushEach(100, func(i int) { c.AddChain(&nftables.Chain{Name: fmt.Sprint("c", i), Table: table}) })
	case "rules":
		return flushEach(50, func(int) {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}, UserData: make([]byte, 250)})
		})
	case "commits":
		go func() {
			for i := 0; ; i++ {
				c.AddChain(&nftables.Chain{Name: fmt.Sprint("d", i%2), Table: table})
				_ = c.Flush()
				time.Sleep(time.Millisecond)
			}
		}()
	}
	return c.Flush()
}

// TestListBudget: no namespace delays or hides another's row, whatever it holds.
func TestListBudget(t *testing.T) {
	needUsers(t)
	c := newCLI(t)
	honest := c.elsewhere(t)
	honest.ok(with("apply", plainSidecar...)...)
	rows := map[int]string{}
	for _, tt := range []struct {
		why    string
		orders []string
	}{
		{"large sets", []string{"elements 60000"}},
		{"a large set by the tag's name", []string{"tag 60000"}},
		{"many tables", []string{"tables 6000"}},
		{"many chains", []string{"chains 15000"}},
		{"many rules", []string{"rules 20000"}},
		{"a commit a millisecond, beside many chains", []string{"chains 8000", "commits 1"}},
	} {
		pod := newChild(t, "hoard")
		pod.SysProcAttr = isolation(true)
		if err := pod.Start(); err != nil {
			t.Fatal(err)
		}
		for _, o := range tt.orders {
			pod.say("%s", o)
			pod.hear()
		}
		rows[pod.Process.Pid] = tt.why
	}
	rows[honest.resident()] = "honest"
	start := time.Now()
	out := c.run("list", "--timeout", "50s").want(t, 0).out
	took := time.Since(start)
	at, gaveUp := -1, -1
	for i, line := range strings.Split(out, "\n") {
		pid, _ := strconv.Atoi(strings.Fields(line + " -")[0])
		why, ours := rows[pid]
		if !ours {
			continue
		}
		t.Logf("%s: %s", why, line)
		delete(rows, pid)
		switch {
		case why == "honest":
			if at = i; !strings.HasSuffix(line, "  clean") {
				t.Errorf("the honest row is not clean: %q", line)
			}
		case gaveUp < 0 && strings.Contains(line, "gave up"):
			gaveUp = i
		}
	}
	if len(rows) > 0 {
		t.Errorf("no row for: %v", rows)
	}
	if gaveUp >= 0 && gaveUp < at {
		t.Errorf("the honest row waited for one that was given up")
	}
	t.Logf("list took %s", took.Round(time.Millisecond))
	all := jsonOf[[]residence](t, c.run("list", "--json", "--timeout", "50s").want(t, 0).out)
	for i := range all[1:] {
		if a, b := all[i], all[i+1]; a.PID > b.PID || a.PID == b.PID && a.Netns >= b.Netns {
			t.Errorf("rows %d and %d are out of order", i, i+1)
		}
	}
}
