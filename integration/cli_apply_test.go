// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the commands print as JSON.
type (
	differenceJSON struct{ Where, Want, Have string }
	resultJSON     struct {
		Outcome, Table, State, Previous string
		Changes                         []differenceJSON
		Foreign                         []string
		Seconds                         struct{ Read, Commit, Verify float64 }
	}
	verdictJSON struct {
		Conflicts   []map[string]any
		Table       string
		Clean       bool
		Differences []differenceJSON
	}
	planJSON struct {
		Table, Ruleset       string
		Routing              []string
		Differences          []differenceJSON
		NotCompared, Refused string
	}
	ruleJSON struct {
		Reason, Text   string
		Counted        bool
		Packets, Bytes uint64
	}
	chainJSON struct {
		Name, Type, Hook string
		Priority         int
		Drop             bool
		Rules            []ruleJSON
	}
	setJSON struct {
		Name, Type string
		Elements   []string
	}
	showJSON struct {
		Family, Table    string
		Present, Drifted bool
		State, Written   string
		Configuration    *struct {
			Same        bool
			Differences []differenceJSON
		}
		Chains          []chainJSON
		Sets            []setJSON
		Routing         []string
		Others, Foreign []string
		Conflicts       []map[string]any
	}
)

// result is what an apply or remove says that it did.
func (c *cli) result(args ...string) resultJSON {
	c.Helper()
	return jsonOf[resultJSON](c, c.ok(append(args, "--json")...))
}

// shown is what is live.
func (c *cli) shown() showJSON {
	c.Helper()
	return jsonOf[showJSON](c, c.ok("show", "--json"))
}

// uncounted is the state without its counts.
func (s showJSON) uncounted() showJSON {
	s.Chains = append([]chainJSON{}, s.Chains...)
	for i, ch := range s.Chains {
		s.Chains[i].Rules = append([]ruleJSON{}, ch.Rules...)
		for j := range ch.Rules {
			s.Chains[i].Rules[j].Packets, s.Chains[i].Rules[j].Bytes = 0, 0
		}
	}
	return s
}

func TestApplySaysWhatItDid(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	first := c.result("apply", "-f", pod)
	if first.Outcome != "created" || first.Table != "weir" || first.State == "" || first.Previous != "" || first.Seconds.Read <= 0 || first.Seconds.Commit <= 0 || first.Seconds.Verify <= 0 {
		t.Errorf("the first apply says %+v", first)
	}
	if len(first.Changes) != 1 || first.Changes[0].Where != "table inet weir" {
		t.Errorf("the first apply changed %+v", first.Changes)
	}
	changes := c.watch()
	if again := c.result("apply", "-f", pod); again.Outcome != "unchanged" || again.State != first.State || len(again.Changes) != 0 || !strings.Contains(again.Previous, first.State) {
		t.Errorf("the second apply says %+v", again)
	}
	if sent := changes(); len(sent) > 0 {
		t.Errorf("the second apply sent %v", sent)
	}
	for _, step := range []struct{ outcome, flags string }{
		{"replaced", "--outbound-exclude-cidrs 10.0.0.0/8"},
		{"updated", "--outbound-exclude-cidrs 10.0.0.0/8,192.0.2.0/24"},
		{"updated", "--outbound-exclude-cidrs 192.0.2.1"},
		{"replaced", "--inbound-via tproxy"},
		{"replaced", ""},
	} {
		got := c.result(append([]string{"apply", "--config", pod}, strings.Fields(step.flags)...)...)
		if got.Outcome != step.outcome || len(got.Changes) == 0 || got.State == first.State == (step.flags != "") {
			t.Errorf("apply %s says %+v, want %s", step.flags, got, step.outcome)
		}
		if live := c.shown(); live.State != got.State || live.Drifted {
			t.Errorf("apply %s: live is state %s, drifted %v; applied was %s", step.flags, live.State, live.Drifted, got.State)
		}
	}
	if got := c.result("remove"); got.Outcome != "removed" || got.State != "" {
		t.Errorf("remove says %+v", got)
	}
	if got := c.result("remove"); got.Outcome != "absent" {
		t.Errorf("a second remove says %+v", got)
	}
	if got := c.result("apply", "--mode", "none"); got.Outcome != "absent" {
		t.Errorf("an apply of nothing says %+v", got)
	}
	c.ok("apply", "-f", pod)
	if got := c.result("apply", "--mode=none"); got.Outcome != "removed" {
		t.Errorf("an apply of nothing says %+v", got)
	}
	c.run("apply", "-f", pod).want(t, 0).prints(t, "created: inet weir, state "+first.State+" (read ")
}

func TestWhereAConfigurationComesFrom(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	want := c.result("apply", "-f", pod).State
	list := write(t, "cidrs", "10.0.0.0/8, 192.0.2.0/24 # two\n\nfd00::/8\n")
	listed := c.result("apply", "-f", pod, "--outbound-exclude-cidrs", "10.0.0.0/8,192.0.2.0/24,fd00::/8").State
	for _, tt := range []struct {
		why, stdin, state string
		args              []string
	}{
		{"standard input", podYAML, want, []string{"--config", "-"}},
		{"standard input, as JSON", `{"mode": "sidecar", "proxy": {"uids": [1337], "gids": ["1337"]}}`, want, []string{"--config=-"}},
		{"flags", "", want, []string{"--mode", "sidecar", "--proxy-uids", "1337", "--proxy-gids=1337"}},
		{"flags with one dash", "", want, []string{"-mode", "sidecar", "-proxy-uids=1337", "-proxy-gids", "1337"}},
		{"a flag that replaces a key", strings.Replace(podYAML, "uids: [1337]", "uids: [1, 2]", 1), want, []string{"--proxy-uids", "1337", "-f", "-"}},
		{"a flag that is given again", podYAML, listed, []string{"-f", "-", "--outbound-exclude-cidrs", "10.0.0.0/8", "--outbound-exclude-cidrs", "192.0.2.0/24, fd00::/8"}},
		{"a flag that reads a file", podYAML, listed, []string{"--outbound-exclude-cidrs", "@" + list, "-f", "-"}},
		{"a bare flag", podYAML + "dropInvalid: disabled\n", want, []string{"-f", "-", "--drop-invalid=disabled"}},
	} {
		o := c.feed(tt.stdin, append([]string{"apply", "--json"}, tt.args...)...).want(t, 0)
		if got := jsonOf[resultJSON](t, o.out); got.State != tt.state {
			t.Errorf("%s: state %s, want %s", tt.why, got.State, tt.state)
		}
	}
}

func TestVerify(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	verdict := func(code int, args ...string) verdictJSON {
		t.Helper()
		v := jsonOf[verdictJSON](t, c.run(append([]string{"verify", "--json"}, args...)...).want(t, code).out)
		if v.Clean != (code == 0) || v.Clean != (len(v.Differences) == 0) || v.Table != "weir" || v.Differences == nil {
			t.Errorf("exit %d, and the verdict is %+v", code, v)
		}
		return v
	}
	for _, args := range [][]string{nil, {"-f", pod}} {
		if v := verdict(3, args...); v.Differences[0].Where != "table inet weir" {
			t.Errorf("nothing was applied, and verify says %+v", v)
		}
	}
	c.ok("apply", "-f", pod)
	verdict(0)
	verdict(0, "-f", pod)
	c.run("verify").want(t, 0).prints(t, "clean: inet weir\n")
	if v := verdict(3, "-f", pod, "--inbound-port", "15016"); len(v.Differences) == 0 || !strings.Contains(v.Differences[0].Want, "15016") {
		t.Errorf("against another port verify says %+v", v)
	}
	c.nft("delete rule inet weir output handle " + c.handle("all other TCP goes to the outbound listener"))
	if v := verdict(3); v.Differences[0].Where != "chain output" {
		t.Errorf("against the tag verify says %+v", v)
	}
	if v := verdict(3, "-f", pod); len(v.Differences) != 1 || !strings.Contains(v.Differences[0].Where, `"all other TCP goes to the outbound listener"`) {
		t.Errorf("against the configuration verify says %+v", v)
	}
	c.run("verify", "--config", pod).want(t, 3).prints(t, `verify inet weir: chain output rule`, `"all other TCP goes to the outbound listener"`, "\n  want  ")
	c.nft("delete table inet weir")
	c.nft("add table inet weir")
	c.run("verify").want(t, 3).prints(t, "set tag is missing")
	c.run("show").prints(t, "table inet weir, which holds no tag of weir's\n")
	c.run("verify", "-f", pod).want(t, 3)
	c.run("apply", "-f", pod).want(t, 1).says(t, "table inet weir is there, and weir did not write it")
}

func TestVerifyWaits(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	start := time.Now()
	c.run("verify", "-f", pod, "--wait", "400ms").want(t, 3)
	if took := time.Since(start); took < 400*time.Millisecond {
		t.Errorf("it waited for %s", took)
	}
	cmd, out, errs := c.command("", "verify", "-f", pod, "--wait", "30s")
	c.do(cmd.Start)
	c.waits(cmd)
	c.ok("apply", "-f", pod)
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "clean") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
	// Somebody ends the wait.
	c.signalled(syscall.SIGTERM, nil, "verify", "-f", pod, "--dns-capture", "all", "--wait", "30s").want(t, 1).says(t, "terminated")
}

// signalled is how a command ends that a signal reaches once it handles signals.
func (c *cli) signalled(signal syscall.Signal, stdin io.Reader, args ...string) outcome {
	c.Helper()
	cmd, out, errs := c.command("", args...)
	cmd.Stdin = stdin
	c.do(cmd.Start)
	c.handlesSignals(cmd)
	_ = cmd.Process.Signal(signal)
	limit := time.AfterFunc(eventPatience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // the exit code tells
	if !limit.Stop() {
		c.Errorf("%s did not end it", signal)
	}
	return ended(cmd, args, out.String(), errs.String())
}

func TestShow(t *testing.T) {
	c := newCLI(t)
	if s := c.shown(); s.Present || s.Chains == nil || s.Sets == nil || s.Routing == nil || s.Foreign == nil || s.Table != "weir" {
		t.Errorf("of nothing show says %+v", s)
	}
	c.run("show").want(t, 0).prints(t, "absent: there is no table inet weir")
	c.outside()
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--inbound-via", "tproxy", "--outbound-exclude-ports", "1,3,5,7,9,11,13,15,17")
	c.connect("203.0.113.1:80")
	s := c.shown()
	if !s.Present || s.Drifted || s.State == "" || !strings.Contains(s.Written, s.State) {
		t.Errorf("show says %+v", s)
	}
	if want := []string{
		"ip route add local default dev lo table 133 protocol 119",
		"ip route add local 127.0.0.1/32 dev eth0 metric 2048 table 255 protocol 119",
		"ip rule add priority 32765 fwmark 0x539/0xfff lookup 133 protocol 119",
	}; !reflect.DeepEqual(s.Routing, want) {
		t.Errorf("show says of the routing %q", s.Routing)
	}
	counted := false
	for _, ch := range s.Chains {
		for _, r := range ch.Rules {
			if r.Reason == "" || r.Text == "" || !r.Counted {
				t.Errorf("chain %s: show says %+v", ch.Name, r)
			}
			counted = counted || r.Reason == "all other TCP goes to the outbound listener" && r.Packets == 1 && r.Bytes > 0
		}
	}
	if !counted {
		t.Errorf("the packet was not counted: %+v", s.Chains)
	}
	short := c.run("show").prints(t, "as written", "1 packets", "9 elements\n  1, 3, 5, 7, 9, 11, 13, 15, ...\n", "routing\n  ip route add")
	c.run("show", "-v").prints(t, "13, 15, 17\n")
	if strings.Contains(short.out, "17") {
		t.Errorf("all elements are shown:\n%s", short.out)
	}
	c.nft("add rule inet weir output counter")
	c.run("show").prints(t, "drifted from what was written")
	if !c.shown().Drifted {
		t.Error("a rule was added, and nothing drifted")
	}
	c.nft("add table ip nat; add chain ip nat OUTPUT { type nat hook output priority -100; }")
	if s := c.shown(); len(s.Foreign) != 1 || !strings.Contains(s.Foreign[0], "ip nat") {
		t.Errorf("of others' chains show says %q", s.Foreign)
	}
	if o := c.run("apply", "--mode", "sidecar", "--proxy-uids", "1337").want(t, 0); strings.Contains(o.errs, "warning: ") {
		t.Errorf("an empty chain decides nothing, and apply says %s", o.errs)
	}
	c.nft("add chain ip nat early { type nat hook output priority -110; }; add rule ip nat early tcp dport 80 redirect to :9")
	c.run("apply", "--mode", "sidecar", "--proxy-uids", "1337").want(t, 0).says(t, "warning: chain early of table ip nat (nat output -110) (iptables-nft) sends outbound TCP (IPv4) elsewhere than to the proxy")
	if s := c.shown(); len(s.Conflicts) == 0 || s.Conflicts[0]["kind"] != "redirects" || s.Conflicts[0]["table"] != "ip nat" {
		t.Errorf("in the way is %v", s.Conflicts)
	}
}

// TestRivals: which of two nat chains decides first is as the warning says.
func TestRivals(t *testing.T) {
	c := newCLI(t)
	c.outside()
	pod := write(t, "pod.yaml", podYAML)
	rival := func(name string, priority int) {
		t.Helper()
		c.nft(fmt.Sprintf(`add table ip %s; delete table ip %[1]s; add table ip %[1]s; add chain ip %[1]s c { type nat hook output priority %d; }; add rule ip %[1]s c tcp dport 80 counter redirect to :9 comment "%[1]s"`, name, priority))
	}
	redirected := func() []string {
		t.Helper()
		return regexp.MustCompile(`counter packets \d+ bytes \d+ redirect to \S+ comment "[^"]*"`).FindAllString(c.nft("list ruleset"), -1)
	}
	decider := func() string {
		t.Helper()
		before := redirected()
		c.connect("203.0.113.9:80")
		for _, rule := range redirected() {
			if !slices.Contains(before, rule) {
				return strings.Split(rule, `"`)[1]
			}
		}
		return "no one"
	}
	const ours = "all other TCP goes to the outbound listener"
	for _, step := range []struct {
		why     string
		do      func()
		args    []string
		says    string
		decider string
	}{
		{"theirs were there, of our priority", func() { rival("same", -100) }, nil, "", ours},
		{"theirs are made anew", func() { rival("same", -100) }, nil, "warning: chain c of table ip same (nat output -100) sends outbound TCP (IPv4) elsewhere than to the proxy", "same"},
		{"ours are replaced for an element", nil, []string{"--outbound-exclude-ports", "7"}, "", ours},
		{"theirs are made anew again, and ours were too: at an unknown time", func() { rival("same", -100) }, []string{"--outbound-exclude-ports", "8"}, "the one that was made last runs first", "same"},
		{"ours are replaced", nil, []string{"--outbound-port", "15009"}, "", ours},
		{"theirs run later", func() { c.nft("delete table ip same"); rival("later", -99) }, nil, "", ours},
		{"theirs run before", func() { rival("before", -101) }, nil, "warning: chain c of table ip before (nat output -101) sends outbound TCP (IPv4) elsewhere than to the proxy", "before"},
		{"that stays so", nil, []string{"--outbound-port", "15009"}, "(nat output -101) sends outbound TCP (IPv4) elsewhere", "before"},
	} {
		if step.do != nil {
			step.do()
		}
		o := c.run(append([]string{"apply", "-f", pod}, step.args...)...).want(t, 0).says(t, step.says)
		if step.says == "" && strings.Contains(o.errs, "warning") {
			t.Errorf("%s: it says %s", step.why, o.errs)
		}
		if got := decider(); got != step.decider {
			t.Errorf("%s: %q decides first, want %q", step.why, got, step.decider)
		}
	}
}

// TestForeignTable: who chose a name that is taken loses no table of others.
func TestForeignTable(t *testing.T) {
	c := newCLI(t)
	c.nft(`add table inet fw; add chain inet fw input { type filter hook input priority 0; }; add rule inet fw input tcp dport 22 accept`)
	before := c.nft("list ruleset")
	pod := write(t, "pod.yaml", podYAML)
	for _, args := range [][]string{{"apply", "-f", pod, "--table", "fw"}, {"remove", "--table", "fw"}, {"apply", "--mode", "none", "--table", "fw"}} {
		c.run(args...).want(t, 1).says(t, "table inet fw is there, and weir did not write it: it has no tag (to give it up: nft delete table inet fw)")
	}
	for _, args := range [][]string{{"plan", "-f", pod, "--table", "fw"}, {"plan", "--mode", "none", "--table", "fw"}} {
		c.run(args...).want(t, 0).prints(t, "# apply will refuse: table inet fw is there, and weir did not write it")
		if p := jsonOf[planJSON](t, c.ok(append(args, "--json")...)); !strings.HasPrefix(p.Refused, "table inet fw is there") {
			t.Errorf("plan --json says %+v", p)
		}
	}
	if d := changed(before, c.nft("list ruleset")); d != "" {
		t.Errorf("changed:\n%s", d)
	}
	for i, outcome := range []string{"created", "unchanged"} {
		if got := c.result("apply", "-f", pod, "--table", "mine"); got.Outcome != outcome || got.Table != "mine" {
			t.Errorf("apply %d says %+v", i, got)
		}
	}
	c.run("verify", "--table", "mine").want(t, 0).prints(t, "clean: inet mine")
	c.run("verify").want(t, 3)
	if got := c.result("remove", "--table", "mine"); got.Outcome != "removed" {
		t.Errorf("remove says %+v", got)
	}
	if d := changed(before, c.nft("list ruleset")); d != "" {
		t.Errorf("changed:\n%s", d)
	}
}

// manyCIDRs is a file of n prefixes, none next to another.
func manyCIDRs(t *testing.T, n int) string {
	t.Helper()
	var text strings.Builder
	for _, p := range manyPrefixes(n) {
		fmt.Fprintln(&text, p)
	}
	return write(t, "cidrs", text.String())
}

// TestTerminated sends SIGTERM at any moment of an apply: what is in force then
// is the former state or the new one, whole, and the exit code says which.
func TestTerminated(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	former, next := []string{"apply", "-f", pod, "--inbound-via", "tproxy"}, []string{"apply", "-f", pod, "--outbound-exclude-cidrs", "@" + manyCIDRs(t, 10000)}
	states := map[int]string{0: c.result(next...).State, 1: c.result(former...).State}
	start := time.Now()
	c.ok(next...)
	span := time.Since(start)
	seen := map[int]int{}
	for range howOften(10, 200) {
		c.ok(former...)
		cmd, out, errs := c.command("", next...)
		c.do(cmd.Start)
		time.Sleep(time.Duration(rand.Float64() * float64(span)))
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // the exit code tells
		o := ended(cmd, next, out.String(), errs.String())
		seen[o.code]++
		want := states[o.code]
		switch {
		case o.signal == syscall.SIGTERM: // before the program listened to it
			want = states[1]
		case o.code == 1:
			o.says(t, "terminated")
		case o.code != 0:
			t.Errorf("ended otherwise: %s", o)
		}
		if live := c.shown(); live.State != want || live.Drifted {
			t.Errorf("exit %d, and live is state %s, drifted %v; want %s", o.code, live.State, live.Drifted, want)
		}
		if tables := c.tables(); len(tables) != 1 {
			t.Errorf("left behind: %v", tables)
		}
	}
	t.Logf("an apply takes %s; exit codes (-1: by the signal) %v", span, seen)
}

func TestTimeout(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	before := c.result("apply", "-f", pod).State
	for _, args := range [][]string{
		{"apply", "--mode", "sidecar", "--proxy-uids", "1"}, {"remove"}, {"verify"}, {"show"}, {"plan", "-f", pod},
	} {
		c.run(append(args, "--timeout", "1ns")...).want(t, 1).says(t, "deadline exceeded: --timeout 1ns")
	}
	unlock := c.holdLock()
	start := time.Now()
	c.run("apply", "-f", pod, "--inbound-via", "tproxy", "--timeout", "300ms").want(t, 1).says(t, "--timeout 300ms")
	if took := time.Since(start); took > eventPatience {
		t.Errorf("it took %s", took)
	}
	unlock()
	if live := c.shown(); live.State != before || live.Drifted {
		t.Errorf("the former state is not in force: %+v", live)
	}
	if left := append(c.tables()[1:], c.ours()...); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestOutputGoesNowhere: what could not be printed was done all the same.
func TestOutputGoesNowhere(t *testing.T) {
	c := newCLI(t)
	pod := write(t, "pod.yaml", podYAML)
	to := func(file *os.File, args ...string) outcome {
		t.Helper()
		cmd, _, errs := c.command("", args...)
		cmd.Stdout = file
		c.do(cmd.Start)
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return ended(cmd, args, "", errs.String())
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"plan", "-f", pod}, {"apply", "-f", pod}, {"verify"}, {"show"}, {"show", "--json"}, {"version"}, {"help"}, {"remove"}} {
		if args[0] == "remove" {
			c.run("verify").want(t, 0)
		}
		if o := to(w, args...); o.signal != syscall.SIGPIPE {
			t.Errorf("into a closed pipe: %s", o)
		}
	}
	c.run("verify").want(t, 3) // removed
	to(full, "apply", "-f", pod).want(t, 1).says(t, "inet weir is created, which could not be printed", "no space left")
	for _, args := range [][]string{{"verify"}, {"show"}, {"show", "--json"}, {"plan", "-f", pod}, {"version"}} {
		to(full, args...).want(t, 1).says(t, "no space left")
	}
	c.run("verify").want(t, 0)
}

// TestTerminatedWhileReading: a configuration that does not come is not waited
// for when a signal does.
func TestTerminatedWhileReading(t *testing.T) {
	c := newCLI(t)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		in, far, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		defer far.Close()
		if _, err := io.WriteString(far, podYAML); err != nil {
			t.Fatal(err)
		}
		c.signalled(signal, in, "apply", "-f", "-").want(t, 1).says(t, signal.String()+" signal received")
	}
	if tables := c.tables(); len(tables) > 0 {
		t.Errorf("there are tables %v", tables)
	}
}

// TestConfigurationOfAPipe: a writer that ends late is waited for, and nothing
// is opened before.
func TestConfigurationOfAPipe(t *testing.T) {
	c := newCLI(t)
	cmd, out, errs := c.command("", "apply", "-f", "-")
	from, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	cmd.Stdin = from
	c.do(cmd.Start)
	for _, part := range []string{podYAML[:20], podYAML[20:]} {
		if _, err := io.WriteString(in, part); err != nil {
			t.Fatal(err)
		}
		c.eventually("the command waits for more", func() bool {
			left, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCINQ) // FIONREAD
			threads := threadsOf(cmd.Process.Pid)
			return err != nil || hasEnded(threads) || left == 0 && sleptSince(cmd.Process.Pid, threads)
		})
		if hasReadAll(cmd.Process.Pid) {
			t.Errorf("it opened netfilter's sockets before it knew what to apply")
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "created") {
		t.Errorf("%v: %s%s", err, out, errs)
	}
}
