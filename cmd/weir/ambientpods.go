package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

// podsCommand changes and lists the pods whose probes are exempt from capture:
// run-time state, which no apply touches.
func podsCommand() *cli.Command {
	verb := func(c *cli.Command, do func(*job, context.Context) error) *cli.Command {
		c.Flags = withCommon(append(c.Flags, tableFlag())...)
		c.Action = func(cc *cli.Context) error {
			if err := checkTable(cc.String("table")); err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error {
				j.table = cc.String("table")
				return do(j, ctx)
			})
		}
		return c
	}
	uid := &cli.StringFlag{Name: "pod", Usage: "the pod's `UID`"}
	return &cli.Command{
		Name:        "pods",
		Usage:       "the pods whose probes keep away from the proxy",
		Description: "Example: weir ambient host pods add --pod 1f0c... 10.244.1.7 fd00:10:244:1::7",
		Subcommands: []*cli.Command{
			verb(&cli.Command{Name: "add", Usage: "add a pod's addresses; from a pod that had one before it is taken", ArgsUsage: "IP...", Flags: []cli.Flag{uid}}, (*job).addPod),
			verb(&cli.Command{Name: "delete", Usage: "delete addresses that are the pod's still", ArgsUsage: "IP...", Flags: []cli.Flag{uid}}, (*job).deletePod),
			verb(&cli.Command{Name: "sync", Usage: "have exactly the addresses of a file, all in one step", Flags: []cli.Flag{
				&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "read lines UID IP... from `FILE`, - for standard input"}}}, (*job).syncPods),
			verb(&cli.Command{Name: "list", Usage: "print lines UID IP..., as sync reads them"}, (*job).listPods),
		},
	}
}

// pods are the UIDs of pods by their addresses.
type pods map[netip.Addr]string

// onePod is the pod that a command line names.
func onePod(cc *cli.Context) (pods, error) {
	uid, p := cc.String("pod"), pods{}
	var problems []error
	switch {
	case !cc.IsSet("pod"):
		problems = append(problems, errors.New("--pod: the pod's UID is missing"))
	case !isPodUID(uid):
		problems = append(problems, fmt.Errorf("--pod: %q %s", term.Shorten(uid), noPodUID))
	}
	if !cc.Args().Present() {
		problems = append(problems, errors.New("no address is given (want IP...)"))
	}
	for _, word := range cc.Args().Slice() {
		a, err := parsePodAddress(word)
		if err != nil {
			problems = append(problems, err)
		}
		p[a] = uid
	}
	if err := errors.Join(problems...); err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

const (
	// maxPodsInput is room for every pod of a node many times over: 100,000 of them
	// with two addresses take 8 MB.
	maxPodsInput = 32 << 20

	maxPodUID = 128 // bytes of an element's comment
	noPodUID  = "is no UID (want 1-128 bytes without blanks, quotes and #)"
)

func isPodUID(word string) bool {
	return word != "" && len(word) <= maxPodUID && utf8.ValidString(word) && !strings.ContainsFunc(word, func(r rune) bool {
		return r == '"' || r == '#' || unicode.IsSpace(r) || !unicode.IsPrint(r)
	})
}

func parsePodAddress(word string) (netip.Addr, error) {
	a, err := netip.ParseAddr(word)
	switch {
	case err != nil || a.Zone() != "":
		return a, fmt.Errorf("%q is no address (want 192.0.2.1 or 2001:db8::1)", term.Shorten(word))
	case a.Is4In6():
		return a, fmt.Errorf("%q is an IPv4-mapped address (write it as IPv4)", word)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		return a, fmt.Errorf("%q is no pod's address", word)
	}
	return a, nil
}

// parsePods reads lines of a UID and addresses, with # comments. The error joins
// every problem with its line.
func parsePods(name, text string) (pods, error) {
	p := pods{}
	var problems []error
	at := place{source: name}
	for line := range strings.Lines(text) {
		at.line++
		problem := func(err error) { problems = append(problems, &placedError{at, err}) }
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		uid := words[0]
		if !isPodUID(uid) {
			problem(fmt.Errorf("%q %s", term.Shorten(uid), noPodUID))
		}
		for _, word := range words[1:] {
			a, err := parsePodAddress(word)
			if err != nil {
				problem(err)
				continue
			}
			if other, twice := p[a]; twice && other != uid {
				problem(fmt.Errorf("%s is the address of pod %s too", a, other))
			}
			p[a] = uid
		}
	}
	return p, joinSome(problems)
}

func (j *job) addPod(ctx context.Context) error {
	want, err := onePod(j.cc)
	if err != nil {
		return err
	}
	return j.changePods(ctx, func(c *podChange) {
		for a, uid := range want {
			c.put(a, uid)
		}
	})
}

func (j *job) deletePod(ctx context.Context) error {
	gone, err := onePod(j.cc)
	if err != nil {
		return err
	}
	err = j.changePods(ctx, func(c *podChange) {
		for a, uid := range gone {
			if c.now[a] == uid {
				c.delete(a)
			}
		}
	})
	if errors.Is(err, errNoProbeSet) {
		return j.reportPods(nil) // what is absent need not be deleted
	}
	return err
}

func (j *job) syncPods(ctx context.Context) error {
	name := j.cc.String("file")
	if name == "" {
		return usageError{errors.New("--file is missing (want -f FILE, or -f - for standard input)")}
	}
	data, err := readUpTo(ctx, name, j.in, maxPodsInput)
	if err != nil {
		return usageError{fmt.Errorf("--file: %w", err)}
	}
	if len(data) > maxPodsInput {
		return usageError{fmt.Errorf("--file: %s is longer than %d MiB", escape.Text(name), maxPodsInput>>20)}
	}
	want, err := parsePods(name, string(data))
	if err != nil {
		return usageError{err}
	}
	return j.changePods(ctx, func(c *podChange) {
		for a := range c.now {
			if _, stays := want[a]; !stays {
				c.delete(a)
			}
		}
		for a, uid := range want {
			c.put(a, uid)
		}
	})
}

// podChange is what a command makes of the pods that there are now.
type podChange struct {
	now     pods
	changes map[rules.Family]*rules.SetChange
}

var errNoProbeSet = errors.New("there is no probe set (weir ambient host apply makes it)")

func newPodChange(t *rules.Table) (*podChange, error) {
	c := &podChange{now: pods{}, changes: map[rules.Family]*rules.SetChange{}}
	for _, f := range []rules.Family{rules.IPv4, rules.IPv6} {
		if t == nil {
			return nil, errNoProbeSet
		}
		s := t.Set(modes.ProbeSet(f))
		if s == nil || !s.Live {
			return nil, errNoProbeSet
		}
		c.changes[f] = &rules.SetChange{Set: s}
		for _, e := range s.Elements {
			if a, ok := netip.AddrFromSlice([]byte(e.Key[0].Lo)); ok {
				c.now[a] = e.Comment
			}
		}
	}
	return c, nil
}

// put gives an address to a pod, whoever has it now.
func (c *podChange) put(a netip.Addr, uid string) {
	change := c.changes[rules.AddressFamily(a)]
	now, there := c.now[a]
	switch {
	case there && now == uid:
		return
	case there:
		change.Delete = append(change.Delete, probeElement(a, now))
	}
	change.Add = append(change.Add, probeElement(a, uid))
}

func (c *podChange) delete(a netip.Addr) {
	change := c.changes[rules.AddressFamily(a)]
	change.Delete = append(change.Delete, probeElement(a, c.now[a]))
}

func probeElement(a netip.Addr, uid string) rules.Element {
	return rules.Element{Key: []rules.Range{rules.Span(netip.PrefixFrom(a, a.BitLen()))}, Comment: uid}
}

func (j *job) changePods(ctx context.Context, edit func(*podChange)) error {
	if err := j.connect(ctx); err != nil {
		return err
	}
	changes, err := j.conn.ChangeLive(ctx, j.table, func(t *rules.Table) ([]rules.SetChange, error) {
		c, err := newPodChange(t)
		if err != nil {
			return nil, err
		}
		edit(c)
		return c.changed(), nil
	})
	if err != nil {
		return fmt.Errorf("table inet %s: %w", j.table, err)
	}
	return j.reportPods(changes)
}

func (c *podChange) changed() []rules.SetChange {
	var out []rules.SetChange
	for _, f := range slices.Sorted(maps.Keys(c.changes)) {
		if change := c.changes[f]; len(change.Add)+len(change.Delete) > 0 {
			out = append(out, *change)
		}
	}
	return out
}

func (j *job) reportPods(changes []rules.SetChange) error {
	added, moved, deleted := 0, 0, 0
	for _, c := range changes {
		had := map[rules.Range]bool{}
		for _, e := range c.Delete {
			had[e.Key[0]] = true
		}
		for _, e := range c.Add {
			if had[e.Key[0]] {
				moved++
			} else {
				added++
			}
		}
		deleted += len(c.Delete)
	}
	deleted -= moved
	if j.cc.Bool("json") {
		return writeJSON(j.out, map[string]int{"added": added, "moved": moved, "deleted": deleted})
	}
	_, err := fmt.Fprintf(j.out, "probes of inet %s: %d added, %d moved, %d deleted\n", j.table, added, moved, deleted)
	return err
}

// podView is a pod as programs read it.
type podView struct {
	UID       string       `json:"uid"`
	Addresses []netip.Addr `json:"addresses"`
}

func (j *job) listPods(ctx context.Context) error {
	if err := j.connect(ctx); err != nil {
		return err
	}
	live, err := j.conn.Read(ctx, j.table)
	if err != nil {
		return err
	}
	c, err := newPodChange(live.State.Table)
	if err != nil {
		return fmt.Errorf("table inet %s: %w", j.table, err)
	}
	list := c.now.byUID()
	if j.cc.Bool("json") {
		return writeJSON(j.out, map[string]any{"pods": list})
	}
	for _, p := range list {
		line := cmp.Or(p.UID, "-")
		for _, a := range p.Addresses {
			line += " " + a.String()
		}
		if _, err := fmt.Fprintln(j.out, line); err != nil {
			return err
		}
	}
	return nil
}

func (p pods) byUID() []podView {
	addresses := map[string][]netip.Addr{}
	for a, uid := range p {
		addresses[uid] = append(addresses[uid], a)
	}
	list := []podView{}
	for _, uid := range slices.Sorted(maps.Keys(addresses)) {
		slices.SortFunc(addresses[uid], netip.Addr.Compare)
		list = append(list, podView{uid, addresses[uid]})
	}
	return list
}
