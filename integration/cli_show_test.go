// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// others are rulesets of other programs, by their names.
func others(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{"kube-proxy": kubeProxy(1000)}
	files, err := filepath.Glob("testdata/others/*.nft")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d rulesets of others: %v", len(files), err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".nft")] = string(text)
	}
	return out
}

// kubeProxy is a ruleset as kube-proxy writes it, with two chains a service.
func kubeProxy(services int) string {
	var b strings.Builder
	b.WriteString(`table ip kube-proxy {
	set cluster-ips {
		type ipv4_addr
	}
	chain reject-chain {
		reject
	}
	chain mark-for-masquerade {
		meta mark set meta mark | 0x4000
	}
`)
	var ips []string
	for i := range services {
		a, b2 := i/250, i%250+1
		fmt.Fprintf(&b, "chain endpoint-%04d {\nip saddr 10.180.%d.%d jump mark-for-masquerade\nmeta l4proto tcp dnat to 10.180.%[2]d.%[3]d:80\n}\n", i, a, b2)
		fmt.Fprintf(&b, "chain service-%04d {\nip daddr 172.30.%d.%d tcp dport 80 ip saddr != 10.0.0.0/8 jump mark-for-masquerade\nnumgen random mod 1 vmap { 0 : goto endpoint-%04[1]d }\n}\n", i, a, b2)
		ips = append(ips, fmt.Sprintf("172.30.%d.%d . tcp . 80 : goto service-%04d", a, b2, i))
	}
	fmt.Fprintf(&b, `	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { %s }
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @cluster-ips counter drop comment "ports of services that are not served"
	}
	chain nat-prerouting {
		type nat hook prerouting priority -100;
		jump services
	}
	chain nat-output {
		type nat hook output priority -100;
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority 100;
		meta mark & 0x4000 != 0 masquerade fully-random
	}
}
`, strings.Join(ips, ", "))
	return b.String()
}

// titlesOf are the titles of the tables of a ruleset's text.
func titlesOf(text string) (titles []string) {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(line, "table "); ok {
			titles = append(titles, strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(title), "{")))
		}
	}
	return titles
}

// TestShowOfOthers: tables of other programs are shown whole; what is not known is
// shown as such.
func TestShowOfOthers(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for name, text := range others(t) {
		t.Run(name, func(t *testing.T) {
			here := c.elsewhere(t)
			here.nft(text)
			chains, rules := 0, 0
			for _, title := range titlesOf(text) {
				v := jsonOf[showJSON](t, here.ok("show", "--json", "--foreign", title))
				for _, ch := range v.Chains {
					chains++
					rules += len(ch.Rules)
					for _, r := range ch.Rules {
						if r.Text == "" {
							t.Errorf("%s: chain %s has a rule of no words", title, ch.Name)
						}
					}
				}
				here.ok("show", "-v", "--foreign", title)
			}
			if want := strings.Count(text, "chain "); chains < want/2 {
				t.Errorf("%d chains are shown of %d", chains, want)
			}
			t.Logf("%d chains, %d rules", chains, rules)
			here.run("show").want(t, 0).prints(t, "absent: ", "base chains of others")
		})
	}
	c.run("show", "--foreign", "ip none").want(t, 1).says(t, "show ip none: there is no such table")
	c.run("show", "--foreign", "none").want(t, 2).says(t, `--foreign: "none" is not a table (want a family and a name, such as "ip kube-proxy")`)
	c.run("show", "--foreign", "ip none", "--mode", "none").want(t, 2).says(t, "--foreign shows a table that is not weir's")
}

// TestShowBesideOthers: the order of chains, the configuration, and what others'
// base chains may do.
func TestShowBesideOthers(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	config := []string{"--mode", "sidecar", "--proxy-uids", "1337", "--inbound-via", "tproxy"}
	c.ok(append([]string{"apply"}, config...)...)
	c.nft("table ip x {\nchain a {\ntype nat hook output priority -101\n}\nchain b {\ntype nat hook output priority -99\n}\n" +
		"chain c {\ntype filter hook output priority -200\n}\nchain d {\ntype filter hook forward priority 0\n}\nchain e {\ntype nat hook output priority -100\n}\n}\n")
	text := c.run(append([]string{"show"}, config...)...).want(t, 0).prints(t,
		"it is what the configuration says",
		"chain a of table ip x (output -101): runs between weir's chains",
		"chain b of table ip x (output -99): runs after weir's chains",
		"chain c of table ip x (output -200): runs before weir's chains",
		"chain d of table ip x (forward 0): no chain of weir's is on this hook",
		"chain e of table ip x (output -100): has the place of weir's chain output").out
	at := 0
	for _, chain := range []string{"mangle_prerouting", "tproxy_inbound", "tproxy_divert", "tproxy_deliver", "mangle_output", "output"} {
		next := strings.Index(text, "\nchain "+chain+" (")
		if next < at {
			t.Errorf("chain %s does not stand where packets meet it:\n%s", chain, text)
		}
		at = next
	}
	c.run(append([]string{"show", "--proxy-uids", "1338"}, config[:2]...)...).want(t, 0).prints(t, "it differs from what the configuration says")
	v := jsonOf[showJSON](t, c.ok("show", "--json", "--mode", "sidecar", "--proxy-uids", "1338"))
	if v.Configuration == nil || v.Configuration.Same || len(v.Configuration.Differences) == 0 {
		t.Errorf("of another configuration show says %+v", v.Configuration)
	}
}

// TestNamesSteerNoTerminal: what others call their tables, chains and rules is shown,
// and moves no cursor.
func TestNamesSteerNoTerminal(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
	k, err := nftables.New(nftables.WithNetNSFd(int(c.file.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	theirs := k.AddTable(&nftables.Table{Name: "theirs\x1b[2J", Family: nftables.TableFamilyINet})
	early := k.AddChain(&nftables.Chain{Name: "early\x1b]0;mine\a", Table: theirs, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-150)})
	k.AddRule(&nftables.Rule{Table: theirs, Chain: early, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}})
	if err := k.Flush(); err != nil {
		t.Fatal(err)
	}
	c.nft("table inet others { chain c { type filter hook output priority -200; tcp dport 80 accept comment \"a\x1b[2Jb\"; }; }")
	for _, args := range [][]string{{"show"}, {"explain", "--live", "--markdown", "tcp", "192.0.2.1:80"}, {"graph"}, {"graph", "--format", "html"}, {"show", "--foreign", "ip missing"},
		{"explain", "--live", "tcp", "192.0.2.1:80"}, {"apply", "--mode", "sidecar", "--proxy-uids", "1"}} {
		o := c.run(args...)
		if !strings.Contains(o.out+o.errs, "theirs") && args[0] != "explain" {
			t.Errorf("the table is not told of: %s", o)
		}
		if strings.ContainsAny(o.out+o.errs, "\x1b\a") {
			t.Errorf("%q printed %q%q", args, o.out, o.errs)
		}
	}
}
