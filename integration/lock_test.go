// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
)

// Flags of tables, from linux/netfilter/nf_tables.h.
const (
	ownerFlag   = 2
	persistFlag = 4
)

// playOwn makes tables of its own, "FLAGS NAME" a line, and keeps them until it
// ends. A line "toggle NAME" takes and lets go of a table without rest.
func playOwn() error {
	lines := bufio.NewScanner(os.Stdin)
	var conns []*nftables.Conn
	for lines.Scan() {
		flags, name, _ := strings.Cut(lines.Text(), " ")
		if flags == "toggle" {
			go toggle(name)
			fmt.Println("toggles")
			continue
		}
		number, err := strconv.Atoi(flags)
		if err != nil {
			return err
		}
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return err
		}
		conns = append(conns, c)
		c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet, Flags: nftables.TableFlags(number)})
		if err := c.Flush(); err != nil {
			return err
		}
		fmt.Println("owns", len(conns))
	}
	return lines.Err()
}

func toggle(name string) {
	for {
		c, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return
		}
		c.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyINet, Flags: ownerFlag})
		_ = c.Flush()
		_ = c.CloseLasting()
	}
}

var (
	plainSidecar = []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	withRouting  = append(slices.Clone(plainSidecar), "--inbound-via", "tproxy")
)

func with(command string, flags ...string) []string { return append([]string{command}, flags...) }

// TestLockHeldByAnother: who holds the lock of applies, or has a table by its name,
// stops neither what reads nor, for long, what writes.
func TestLockHeldByAnother(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	const lock = tableName + "-lock"
	for _, tt := range []struct {
		why, order string
		user       bool // the pod has its own user namespace
		says       string
	}{
		{"a process of the pod holds it", fmt.Sprintf("%d %s", ownerFlag, lock), false, "table inet weir-lock belongs to process PID ("},
		{"a process in a user namespace holds it", fmt.Sprintf("%d %s", ownerFlag, lock), true, "table inet weir-lock belongs to process PID ("},
		{"it would outlive its owner", fmt.Sprintf("%d %s", ownerFlag|persistFlag, lock), true, "table inet weir-lock belongs to process PID ("},
		{"a table has its name and no owner", "0 " + lock, false, "(delete it with: nft delete table inet weir-lock)"},
		{"it is taken and let go without rest", "toggle " + lock, true, ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			pod := newChild(t, "own")
			pod.SysProcAttr = isolation(tt.user)
			if err := pod.Start(); err != nil {
				t.Fatal(err)
			}
			pid := strconv.Itoa(pod.Process.Pid)
			run := func(args ...string) outcome {
				t.Helper()
				return c.run(append(args, "--pid", pid, "--timeout", "20s")...)
			}
			run(with("apply", plainSidecar...)...).want(t, 0)
			pod.say("%s", tt.order)
			if strings.Contains(tt.order, strconv.Itoa(ownerFlag|persistFlag)) && !linux(t, 6, 9) {
				t.Skip("this kernel knows no tables that outlive their owner")
			}
			pod.hear()

			run("verify").want(t, 0).prints(t, "clean: ")
			run(with("verify", plainSidecar...)...).want(t, 0)
			run("show").want(t, 0).prints(t, "as written")
			run(with("plan", plainSidecar...)...).want(t, 0).prints(t, "nothing differs")
			run("explain", "--live", "--uid", "1000", "tcp", "192.0.2.1:80").wantCode(t, 0, 1)
			run("doctor").wantCode(t, 0, 1).prints(t, "ok ")
			if o := run(with("apply", plainSidecar...)...).want(t, 0).prints(t, "unchanged: "); strings.Contains(o.errs, "lock") {
				t.Errorf("nothing is to be done, and it speaks of the lock: %s", o)
			}
			run(with("verify", withRouting...)...).want(t, 3) // what differs does so whoever holds the lock

			says := strings.ReplaceAll(tt.says, "PID", pid)
			run(with("apply", withRouting...)...).want(t, 0).prints(t, "replaced: ").says(t, says)
			run(with("verify", withRouting...)...).want(t, 0)
			run(with("apply", plainSidecar...)...).want(t, 0).prints(t, "replaced: ").says(t, says)
			run("remove").want(t, 0).prints(t, "removed: ").says(t, says)
			run(with("apply", withRouting...)...).want(t, 0).prints(t, "created: ")
			run(with("verify", withRouting...)...).want(t, 0)
		})
	}
}

// TestTableOwnedByAnother: a table by a name of weir's that belongs to another
// socket cannot be changed; the error says whose it is, and its remedy works.
func TestTableOwnedByAnother(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	for _, tt := range []struct {
		why, table string
		first      bool // weir applied before
		user       bool
	}{
		{"weir's table", tableName, false, false},
		{"weir's table, in a user namespace", tableName, false, true},
		{"the helper's", tableName + "-next", false, true},
		{"the helper's, beside weir's table", tableName + "-next", true, false},
		{"another name that weir's table has", "mesh", false, true},
	} {
		t.Run(tt.why, func(t *testing.T) {
			pod := newChild(t, "own")
			pod.SysProcAttr = isolation(tt.user)
			if err := pod.Start(); err != nil {
				t.Fatal(err)
			}
			pid := strconv.Itoa(pod.Process.Pid)
			name := strings.TrimSuffix(tt.table, "-next")
			run := func(args ...string) outcome {
				t.Helper()
				return c.run(append(args, "--pid", pid, "--timeout", "20s", "--table", name)...)
			}
			if tt.first {
				run(with("apply", plainSidecar...)...).want(t, 0)
			}
			pod.say("%d %s", ownerFlag, tt.table)
			pod.hear()
			says := fmt.Sprintf("table inet %s belongs to process %s (", tt.table, pid)
			for _, o := range []outcome{run(with("apply", withRouting...)...), run("remove")} {
				o.want(t, 1).says(t, says).says(t, "end process "+pid)
				if strings.Contains(o.errs, "CAP_NET_ADMIN") || strings.Contains(o.errs, "nft delete") {
					t.Errorf("what is said does not help: %s", o)
				}
			}
			run(with("plan", withRouting...)...).want(t, 0).prints(t, "# apply will refuse: "+says)
			run("doctor").want(t, 1).prints(t, says)
			run("show").want(t, 0)

			_ = pod.Process.Kill() // the remedy; the namespace stays while weir is in it
		})
	}
	t.Run("the remedy works", func(t *testing.T) {
		n := c.elsewhere(t)
		owner := n.start("own")
		owner.say("%d %s", ownerFlag, tableName)
		owner.hear()
		n.run(with("apply", withRouting...)...).want(t, 1).says(t, fmt.Sprintf("end process %d", owner.Process.Pid))
		_ = owner.Process.Kill()
		_ = owner.Wait()
		n.run(with("apply", withRouting...)...).want(t, 0).prints(t, "created: ")
	})
}

// wantCode wants one of two exit codes.
func (o outcome) wantCode(t *testing.T, a, b int) outcome {
	t.Helper()
	if o.code != a && o.code != b {
		t.Errorf("exit %d, want %d or %d: %s", o.code, a, b, o)
	}
	return o
}
