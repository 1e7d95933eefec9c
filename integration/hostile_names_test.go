// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// hostile are characters that would begin a row or a cell, turn a row around,
// steer a terminal or hide, if a command printed them as they are.
var hostile = map[string]string{
	"a new line":                  "\n",
	"a tab":                       "\t",
	"a carriage return":           "\r",
	"a vertical tab":              "\v",
	"an escape sequence":          "\x1b[2J\x1b[1;1H\x1b",
	"a sequence of one byte (C1)": "\u009b2J\u009b",
	"a delete":                    "\x7f",
	"a next line":                 "\u0085",
	"a line separator":            "\u2028",
	"a right-to-left override":    "\u202e",
	"a bidirectional isolate":     "\u2067",
	"a space of no width":         "\u200b",
	"a byte order mark":           "\ufeff",
	"invalid UTF-8":               "\xff",
}

// forged is what follows a hostile character wherever one stands: it must follow an
// escape in the output.
const forged = "FORGED"

var escaped = regexp.MustCompile(`\\(?:[nrtvabf]|x[0-9a-f]{2}|u[0-9a-f]{4})` + forged)

// wantTame wants a command to print no character of others that steers anything.
func (o outcome) wantTame(t *testing.T) outcome {
	t.Helper()
	for stream, text := range map[string]string{"stdout": o.out, "stderr": o.errs} {
		if !utf8.ValidString(text) {
			t.Errorf("weir %q: %s is not UTF-8", o.args, stream)
		}
		for i, r := range text {
			if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
				t.Errorf("weir %q: %s holds %q: %q", o.args, stream, r, text[max(i-40, 0):min(i+40, len(text))])
				break
			}
		}
		if all, tame := strings.Count(text, forged), len(escaped.FindAllString(text, -1)); all != tame {
			t.Errorf("weir %q: %s holds %d forged words, %d of them after an escape:\n%s", o.args, stream, all, tame, text)
		}
	}
	return o
}

// hostileRuleset fills the namespace with tables, chains, sets, rules and a tag whose
// names and comments hold the character, and puts some into weir's own table.
func (n *namespace) hostileRuleset(t *testing.T, char string) {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	bad := func(what string) string { return what + char + forged }
	comment := func(text string) []byte { return userdata.AppendString(nil, userdata.TypeComment, text) }
	fill := func(table *nftables.Table, base *nftables.Chain) {
		regular := c.AddChain(&nftables.Chain{Name: bad("regular"), Table: table})
		set := &nftables.Set{Name: bad("set"), Table: table, KeyType: nftables.TypeMark}
		element := nftables.SetElement{Key: []byte{1, 0, 0, 0}, Comment: bad("element")}
		if err := c.AddSet(set, []nftables.SetElement{element}); err != nil {
			t.Fatal(err)
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: regular, UserData: comment(bad("reason")), Exprs: []expr.Any{&expr.Counter{}}})
		c.AddRule(&nftables.Rule{Table: table, Chain: base, UserData: comment(bad("jumps")), Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: append([]byte(char+"if"), make([]byte, 16-len(char)-2)...)},
			&expr.Verdict{Kind: expr.VerdictJump, Chain: bad("regular")}}})
		c.AddRule(&nftables.Rule{Table: table, Chain: base, UserData: comment(bad("looks up")), Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Lookup{SourceRegister: 1, SetName: bad("set"), SetID: set.ID}, &expr.Counter{}}})
		c.AddObj(&nftables.CounterObj{Table: table, Name: bad("object")})
	}
	priority := nftables.ChainPriorityRef(-310)
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyBridge} {
		table := c.AddTable(&nftables.Table{Name: bad("table"), Family: family})
		base := c.AddChain(&nftables.Chain{Name: bad("base"), Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: priority})
		fill(table, base)
	}
	if err := c.Flush(); err != nil {
		t.Fatalf("a hostile ruleset: %v", err)
	}
	// One that says weir wrote it.
	signed := c.AddTable(&nftables.Table{Name: bad("signed"), Family: nftables.TableFamilyINet})
	var elements []nftables.SetElement
	for i, line := range []string{"weir 1 hash version", "part 01234567 " + bad("chain x"), "routing " + bad("ip rule add")} {
		elements = append(elements, nftables.SetElement{Key: []byte{byte(i + 1), 0, 0, 0}, Comment: line})
	}
	if strings.TrimSpace(char) == char { // else they are no single words
		elements[0].Comment = "weir 1 " + bad("hash") + " " + bad("version")
	}
	if err := c.AddSet(&nftables.Set{Name: "tag", Table: signed, KeyType: nftables.TypeMark}, elements); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatalf("a hostile tag: %v", err)
	}
	own := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	fill(own, &nftables.Chain{Name: "output", Table: own})
	if err := c.Flush(); err != nil {
		t.Fatalf("into weir's table: %v", err)
	}
}

// hostileResident is a process in the namespace whose name holds the character.
func (c *cli) hostileResident(t *testing.T, char string) int {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(installAs(t, filepath.Join(sharedDir(t), "p"+char[max(0, len(char)-3):]+forged), text), "60")
	c.do(cmd.Start)
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// TestHostileNames: whatever a namespace names its tables, chains, sets, comments,
// links and processes, a reading command prints rows and columns of its own alone.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	sidecar := []string{"--mode", "sidecar", "--proxy-uids", "1337"}
	with := func(command ...string) []string { return slices.Concat(command, sidecar) }
	config := filepath.Join(sharedDir(t), "pod.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nmode: sidecar\nproxy: {uids: [1337]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for why, char := range hostile {
		t.Run(why, func(t *testing.T) {
			n := c.elsewhere(t)
			n.ok(with("apply")...)
			n.hostileRuleset(t, char)
			if strings.TrimSpace(char) == char && !strings.ContainsAny(char, "/:") && strings.IndexByte(char, 0x85) < 0 && strings.IndexByte(char, 0xa0) < 0 { // what a kernel takes for a link's name
				n.must("", "ip", "link", "add", "if"+char[:min(len(char), 4)]+"x", "type", "veth", "peer", "name", "peer0")
			}
			pid := n.hostileResident(t, char)
			for _, args := range [][]string{
				{"show"}, {"show", "--verbose"}, {"show", "--json"}, with("show"), {"verify"}, {"verify", "--json"}, with("verify"),
				{"doctor"}, {"doctor", "--json"}, with("plan"), with("plan", "--json"), with("explain", "--all"),
				{"explain", "--live", "--uid", "1000", "tcp", "127.0.0.1:80"}, {"explain", "--live", "--json", "tcp", "127.0.0.1:80"},
				{"explain", "--live", "--markdown", "tcp", "127.0.0.1:80"}, {"compare", "--live", config},
				{"graph"}, {"graph", "--format", "html"}, {"graph", "--uid", "1000", "tcp", "127.0.0.1:80"},
				{"show", "--foreign", "inet table" + char + forged}, {"graph", "--foreign", "inet table" + char + forged},
				{"show", "--foreign", "inet none" + char + forged}, {"show", "--netns", char + forged}, {"apply", "--config", char + forged},
				{"show", "--table", char + forged}, {"show" + char + forged}, {"show", "--flag" + char + forged}, {"show", char + forged},
				{"explain", "--live", "tcp", "x" + char + forged}, {"graph", "--format", char + forged},
				{"apply", "--proxy-uids", "x" + char + forged}, {"apply", "--netns", char + forged + "*"}, {"show", "--pod", char + forged},
				{"istio-init", "-p", char + forged}, {"istio-init", "--x" + char + forged}, {"complete", "show", "--" + char + forged},
				with("apply", "--outbound-exclude-ports", "9000"),
			} {
				o := n.run(args...).wantTame(t)
				if o.code < 0 || o.code > 3 {
					t.Errorf("weir %q: exit %d", args, o.code)
				}
			}
			all := c.run("list").wantTame(t) // from elsewhere: it would be in the namespace too
			if got := strings.Count(all.out, fmt.Sprintf("\n%d ", pid)); got != 1 {
				t.Errorf("the namespace has %d rows:\n%s", got, all.out)
			}
			c.run("list", "--json").wantTame(t)
			n.traceHostile(t)
		})
	}
}

// traceHostile traces a packet through the hostile chains.
func (c *cli) traceHostile(t *testing.T) {
	t.Helper()
	for _, how := range [][]string{nil, {"--json"}} {
		run := c.trace(append([]string{"--count", "1", "udp"}, how...)...)
		c.do(func() error {
			conn, err := net.Dial("udp", "127.0.0.1:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			return err
		})
		if o := run.ends().wantTame(t); !strings.Contains(o.out, forged) {
			t.Errorf("no hostile chain was met:\n%s", o)
		}
	}
}
