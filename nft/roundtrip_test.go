// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

const (
	roundTripEnv = "WEIR_ROUNDTRIP" // how many rulesets nft must have loaded; without it, as many as fit into roundTripTime
	roundSeedEnv = "WEIR_SEED"      // the first seed, or where there is no number of rulesets, the only one

	roundTripTime  = 12 * time.Second
	roundTripShort = time.Second / 2
	roundTripBatch = 100
	mostRefused    = 0.2
)

// TestRoundTrip has nft load rulesets made at random from its grammar, and lifts
// them. Where all of a table is known to the model, nft must take our text of it,
// and the kernel then hold the same; of the other tables that holds for the rest,
// and what is not known must be said. A failure tells the seed, by which
// WEIR_SEED=... go test -run TestRoundTrip ./nft runs one ruleset again.
func TestRoundTrip(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	_ = exec.Command("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1").Run() // only rulesets that name it miss it
	r := &roundTrip{t: t, c: dialKernel(t), nft: newInteractiveNFT(t), refusals: map[string]int{}}
	want, replay := int(numberIn(t, roundTripEnv, 0)), os.Getenv(roundSeedEnv) != ""
	seed := numberIn(t, roundSeedEnv, 1)
	if replay && want == 0 {
		r.verbose = true
		r.batch([]uint64{seed})
		t.Log(r)
		return
	}
	budget := roundTripTime
	if testing.Short() {
		budget = roundTripShort
	}
	first, start, told := seed, time.Now(), time.Now()
	for more := true; more; {
		seeds := make([]uint64, roundTripBatch)
		for i := range seeds {
			seeds[i] = seed
			seed++
		}
		r.batch(seeds)
		more = r.loaded < want || want == 0 && time.Since(start) < budget
		if more && time.Since(told) > 20*time.Second || !more {
			told = time.Now()
			fmt.Printf("seeds %d to %d, %.0f a second: %s\n", first, seed-1, float64(r.loaded)/time.Since(start).Seconds(), r)
		}
		if r.failures > 20 {
			t.Fatal("that is enough")
		}
	}
	if share := float64(r.refused) / float64(r.refused+r.loaded); share > mostRefused {
		t.Errorf("nft refused %.0f %% of the rulesets", 100*share)
	}
	if r.whole == 0 || r.partly == 0 {
		t.Error("a class of rulesets was never met")
	}
	for _, why := range r.commonRefusals(12) {
		t.Log(why)
	}
}

// numberIn is a number in the environment.
func numberIn(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// roundTrip counts what becomes of rulesets.
type roundTrip struct {
	t       *testing.T
	c       *Conn
	nft     *interactiveNFT
	verbose bool

	loaded, refused    int
	whole, partly      int // known to the model in all their parts and equal; in some, and these equal
	rules, opaqueRules int
	mutants            int
	failures           int
	refusals           map[string]int
}

func (r *roundTrip) String() string {
	return fmt.Sprintf("%d loaded, %d refused by nft (%.1f %%); %d wholly in the model and equal, %d with opaque parts and equal beside, %d unequal; %d rules, %d of them opaque; %d mutants told apart",
		r.loaded, r.refused, 100*float64(r.refused)/float64(max(1, r.loaded+r.refused)), r.whole, r.partly, r.failures, r.rules, r.opaqueRules, r.mutants)
}

// script is one table as text for nft.
type script struct {
	seed         uint64
	family, name string
	text         string
}

func (s script) fail(r *roundTrip, format string, args ...any) {
	r.failures++
	family, _, text := ruleset(s.seed)
	r.t.Errorf("seed %d (%s): %s\n--- the ruleset, of WEIR_SEED=%d go test -run '^TestRoundTrip$' -v ./nft\n%s", s.seed, family, fmt.Sprintf(format, args...), s.seed, text)
}

// batch has a round trip of one ruleset for each seed. Where reading fails, it is
// told of which alone.
func (r *roundTrip) batch(seeds []uint64) {
	scripts := make([]script, len(seeds))
	for i, seed := range seeds {
		scripts[i].seed = seed
		scripts[i].family, scripts[i].name, scripts[i].text = ruleset(seed)
	}
	loaded, refused := r.load(scripts)
	read, err := r.read()
	if err != nil {
		if len(seeds) > 1 {
			for _, seed := range seeds {
				r.batch([]uint64{seed})
			}
			return
		}
		scripts[0].fail(r, "cannot be read: %v", err)
		return
	}
	r.refused += len(refused)
	for s, why := range refused {
		r.refusals[fmt.Sprintf("%s (seed %d)", withoutPlace(why), s.seed)]++
		if r.verbose {
			r.t.Logf("seed %d: nft refuses\n%s\n%s", s.seed, s.text, why)
		}
	}
	r.loaded += len(loaded)
	printed := make([]script, 0, len(loaded))
	known := map[string]*rules.Table{}
	refusedOnce := false
	for i, s := range loaded {
		table := read.tables.Find(s.family, s.name)
		if table == nil {
			s.fail(r, "is not found again")
			continue
		}
		r.look(s, table, read)
		if i == 0 {
			r.mutate(s, read)
		}
		rest, whole := knownPart(table.Table)
		if whole {
			r.whole++
		} else {
			r.partly++
			if !refusedOnce {
				refusedOnce = true
				r.refuse(s, table.Table)
			}
		}
		known[s.name] = rest
		printed = append(printed, script{s.seed, s.family, s.name, printedIn(s.family, rest)})
		if r.verbose {
			r.t.Logf("seed %d:\n%s--- lifted as\n%s--- wholly in the model: %v", s.seed, s.text, printedIn(s.family, table.Table), whole)
		}
	}
	_, refused = r.load(printed)
	for s, why := range refused {
		s.fail(r, "our text is refused by nft: %s\n--- our text\n%s", why, s.text)
	}
	again, err := r.read()
	if err != nil {
		r.t.Fatalf("seeds %d to %d, printed and loaded, cannot be read: %v", seeds[0], seeds[len(seeds)-1], err)
	}
	for _, s := range printed {
		if _, out := refused[s]; !out {
			r.compare(s, known[s.name], read, again)
		}
	}
}

// refuse has nft load the text of a table that is known in part: it must refuse it,
// not load what is known alone.
func (r *roundTrip) refuse(s script, t *rules.Table) {
	if text := printedIn(s.family, t); r.nft.load(text) == nil {
		s.fail(r, "nft takes our text of it, in which something is unknown\n%s", text)
	}
}

// compare reports where the table that was loaded from our text is not the one
// that was printed.
func (r *roundTrip) compare(s script, want *rules.Table, before, after reading) {
	table := after.tables.Find(s.family, s.name)
	if table == nil {
		s.fail(r, "is not found again, loaded from our text\n%s", s.text)
		return
	}
	w, h := rules.State{Table: withoutWhatNFTLoses(want)}.Normal(), rules.State{Table: table.Table}.Normal()
	if d := w.Compare(h); len(d) > 0 || w.Hash() != h.Hash() || w.String() != h.String() {
		s.fail(r, "is another after a round trip: %v\n--- printed\n%s\n--- found\n%s", d, w, h)
	}
	r.compareBytes(s, before.tables.Find(s.family, s.name).Table, before, after)
}

// withoutWhatNFTLoses is the table less what nft 1.0.6 reads in our text and leaves
// out: the comment of a range that is the only one of its list.
func withoutWhatNFTLoses(t *rules.Table) *rules.Table {
	out := *t
	out.Chains = nil
	for _, c := range t.Chains {
		c := *c
		c.Rules = slices.Clone(c.Rules)
		for i, rule := range c.Rules {
			c.Rules[i].Nodes = slices.Clone(rule.Nodes)
			for j, n := range rule.Nodes {
				if m, ok := n.(rules.Match); ok && len(m.Elements) == 1 && len(m.Key) == 1 && !m.Elements[0].Key[0].Single() {
					m.Elements = slices.Clone(m.Elements)
					m.Elements[0].Comment = ""
					c.Rules[i].Nodes[j] = m
				}
			}
		}
		out.Chains = append(out.Chains, &c)
	}
	return &out
}

// reading is what a kernel holds: lifted, and the rules as it gives them.
type reading struct {
	tables *Ruleset
	raw    map[familyTable]map[string][]rawRule
}

type rawRule struct {
	exprs  [][]byte
	reason string
}

func (r *roundTrip) read() (out reading, err error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if out.tables, err = r.c.Ruleset(ctx); err != nil {
		return out, err
	}
	msgs, err := dump(ctx, r.c.nf, uint16(nfType(unix.NFT_MSG_GETRULE)), nfgen(unix.AF_UNSPEC, 0))
	if err != nil {
		return out, err
	}
	out.raw = map[familyTable]map[string][]rawRule{}
	for _, m := range msgs {
		a, err := payload(m)
		if err != nil {
			return out, err
		}
		of := familyTable{m.Data[0], a.Text(unix.NFTA_RULE_TABLE)}
		if out.raw[of] == nil {
			out.raw[of] = map[string][]rawRule{}
		}
		exprs, err := list(a.Take(unix.NFTA_RULE_EXPRESSIONS))
		if err != nil {
			return out, err
		}
		chain := a.Text(unix.NFTA_RULE_CHAIN)
		out.raw[of][chain] = append(out.raw[of][chain], rawRule{exprs, liftReason(a)})
	}
	return out, nil
}

func (s script) of() familyTable {
	for _, f := range []uint8{unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6, unix.NFPROTO_ARP, unix.NFPROTO_BRIDGE, unix.NFPROTO_NETDEV} {
		if familyName(f) == s.family {
			return familyTable{f, s.name}
		}
	}
	return familyTable{}
}

// look checks that every rule was lifted, and that what is opaque is said.
func (r *roundTrip) look(s script, t *LiveTable, read reading) {
	raw := read.raw[s.of()]
	for _, c := range t.Chains {
		if len(c.Rules) != len(raw[c.Name]) {
			s.fail(r, "chain %s has %d rules, and %d were lifted", c.Name, len(raw[c.Name]), len(c.Rules))
		}
		for i, rule := range c.Rules {
			r.rules++
			if len(rule.Nodes) == 0 && len(raw[c.Name][i].exprs) > 0 {
				s.fail(r, "chain %s rule %d has %d expressions, lifted as nothing", c.Name, i+1, len(raw[c.Name][i].exprs))
			}
			if rule.Reason != raw[c.Name][i].reason {
				s.fail(r, "chain %s rule %d has another comment: %q", c.Name, i+1, rule.Reason)
			}
			for _, n := range rule.Nodes {
				if o, opaque := n.(rules.Opaque); opaque && !strings.Contains(rule.String(), "<unknown: "+o.Name+">") {
					s.fail(r, "chain %s rule %d does not say what is unknown: %s", c.Name, i+1, rule)
				}
			}
			if isOpaque(rule) {
				r.opaqueRules++
			}
		}
	}
}

func isOpaque(rule rules.Rule) bool {
	return slices.ContainsFunc(rule.Nodes, func(n rules.Node) bool { _, opaque := n.(rules.Opaque); return opaque })
}

// knownPart is the table without what the model does not know of it, and whether
// that is all of it.
func knownPart(t *rules.Table) (rest *rules.Table, whole bool) {
	rest, whole = &rules.Table{Name: t.Name}, len(t.Others) == 0
	for _, s := range t.Sets {
		if s.Others == "" {
			rest.Sets = append(rest.Sets, s)
		} else {
			whole = false
		}
	}
	for _, c := range t.Chains {
		kept := *c
		kept.Rules = nil
		if c.Others != "" {
			whole, kept.Others = false, ""
		}
		for _, rule := range c.Rules {
			if !comesBack(rest, rule) {
				whole = false
				continue
			}
			kept.Rules = append(kept.Rules, rule)
		}
		rest.Chains = append(rest.Chains, &kept)
	}
	return rest, whole
}

// comesBack reports whether nft must make the same of the rule's text in the table.
func comesBack(t *rules.Table, rule rules.Rule) bool {
	return !isOpaque(rule) && !joined(rule) && declares(t, rule)
}

// joined reports whether nft 1.0.6 may read bytes of a header and a field beside them at once, as bytes.
func joined(rule rules.Rule) bool {
	reads, raw := 0, false
	for _, n := range rule.Nodes {
		m, ok := n.(rules.Match)
		if !ok || m.Negated || len(m.Key) != 1 || len(m.Elements) != 1 || !m.Elements[0].Key[0].Single() {
			continue
		}
		_, _, bytes := m.Key[0].Raw()
		raw = raw || bytes
		if bytes || m.Key[0].Proto() != 0 {
			reads++
		}
	}
	return raw && reads > 1
}

// declares reports whether the table has every set that the rule looks up or adds to.
func declares(t *rules.Table, rule rules.Rule) bool {
	return !slices.ContainsFunc(rule.Nodes, func(n rules.Node) bool {
		switch n := n.(type) {
		case rules.Match:
			return n.Set != "" && t.Set(n.Set) == nil
		case rules.VMap:
			return n.Map != "" && t.Set(n.Map) == nil
		case rules.Dynset:
			return t.Set(n.Set) == nil
		}
		return false
	})
}

// printedIn is our text of a table, which is of family inet, for another family.
func printedIn(family string, t *rules.Table) string {
	text := rules.State{Table: t}.String()
	return strings.Replace(text, "table inet ", "table "+family+" ", 3)
}

// load has nft load what it takes of the tables, and nothing else.
func (r *roundTrip) load(scripts []script) (loaded []script, refused map[script]string) {
	refused = map[script]string{}
	if err := r.nft.flush(); err != nil {
		r.t.Fatal(err)
	}
	return r.loadSome(scripts, refused), refused
}

// loadSome loads in one commit. Where that fails, the scripts that are named for
// it are left out; where none is, halves are loaded.
func (r *roundTrip) loadSome(scripts []script, refused map[script]string) []script {
	for len(scripts) > 0 {
		var b strings.Builder
		lines := []int{1} // at which each begins
		for _, s := range scripts {
			b.WriteString(s.text)
			lines = append(lines, lines[len(lines)-1]+strings.Count(s.text, "\n"))
		}
		err := r.nft.load(b.String())
		if err == nil {
			return scripts
		}
		wrong := blamed(err.Error(), lines)
		if len(wrong) == 0 {
			if len(scripts) == 1 {
				refused[scripts[0]] = err.Error()
				return nil
			}
			half := len(scripts) / 2
			return append(r.loadSome(slices.Clone(scripts[:half]), refused), r.loadSome(slices.Clone(scripts[half:]), refused)...)
		}
		var rest []script
		for i, s := range scripts {
			if why := wrong[i]; why != "" {
				refused[s] = why
			} else {
				rest = append(rest, s)
			}
		}
		scripts = rest
	}
	return nil
}

var errorPlace = regexp.MustCompile(`(?m)^/\S*:(\d+):\d+(?:-\d+)?: Error: (.*)$`)

// blamed are the scripts that nft's messages name, with the first message on each.
func blamed(text string, lines []int) map[int]string {
	out := map[int]string{}
	for _, m := range errorPlace.FindAllStringSubmatchIndex(text, -1) {
		line, _ := strconv.Atoi(text[m[2]:m[3]])
		i, exact := slices.BinarySearch(lines, line)
		if !exact {
			i--
		}
		if i >= 0 && i < len(lines)-1 && out[i] == "" {
			rest := text[m[4]:]
			if end := strings.Index(rest, "In file included"); end > 0 {
				rest = rest[:end]
			}
			out[i] = rest
		}
	}
	return out
}

func withoutPlace(why string) string {
	line, rest, _ := strings.Cut(why, "\n")
	offending, marks, _ := strings.Cut(rest, "\n")
	if i := strings.Index(marks, "^"); i >= 0 && i < len(offending) {
		offending = strings.TrimSpace(offending)
	}
	return line + " | " + offending
}

// commonRefusals are the reasons for which nft refused most.
func (r *roundTrip) commonRefusals(most int) []string {
	byError := map[string]int{}
	example := map[string]string{}
	for why, n := range r.refusals {
		line, offending, _ := strings.Cut(why, " | ")
		byError[line] += n
		example[line] = offending
	}
	var out []string
	for line, n := range byError {
		out = append(out, fmt.Sprintf("%6d %s: %s", n, line, example[line]))
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out[:min(most, len(out))]
}
