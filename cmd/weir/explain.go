package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
	"github.com/weir-mesh/weir/sim"
	"github.com/weir-mesh/weir/sim/packet"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Usage:     "say what becomes of a packet, and which rules decide it",
		ArgsUsage: "PROTOCOL DESTINATION",
		Description: "Example: weir explain --config pod.yaml --uid 1000 tcp 10.0.0.1:443\n\n" +
			"It needs no kernel and no privileges. What a configuration does not say of\n" +
			"the pod is assumed: it has eth0, with the addresses of --address, and its\n" +
			"listeners listen. With - for the packet, packets are read from standard input,\n" +
			`one JSON object a line: {"packet": "tcp 10.0.0.1:443", "uid": 1000}.`,
		Flags: append(packetFlags(), withCommon(configurationFlags()...)...),
		Action: func(cc *cli.Context) error {
			all := cc.Bool("all")
			asked, err := askedPackets(cc)
			switch {
			case all && cc.Args().Present():
				return usageError{errors.New("--all is about every packet: name none")}
			case all && noPacketFlags(cc) != nil:
				return noPacketFlags(cc)
			case all && cc.Bool("live"):
				return usageError{errors.New("--all is about a configuration (of what is live, ask for one packet)")}
			case err != nil && !all:
				return err
			}
			if cc.Bool("live") {
				return explainLive(cc, asked)
			}
			c, err := written(cc)
			if err != nil {
				return err
			}
			return inNamespace(cc, func(ctx context.Context, j *job) error { return j.explain(ctx, c, asked) })
		},
	}
}

const categoryPacket = "the packet"

func packetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "in", Category: categoryPacket, Usage: "it comes in by `INTERFACE`; without this it is sent here"},
		&cli.StringFlag{Name: "from", Category: categoryPacket, Usage: "it comes from `ADDRESS[:PORT]`"},
		&cli.StringFlag{Name: "uid", Category: categoryPacket, Usage: "user `UID` opened its socket", DefaultText: "0, if it is sent here"},
		&cli.StringFlag{Name: "gid", Category: categoryPacket, Usage: "group `GID` opened its socket", DefaultText: "0, if it is sent here"},
		&cli.StringFlag{Name: "mark", Category: categoryPacket, Usage: "it carries packet mark `MARK`"},
		&cli.StringFlag{Name: "state", Category: categoryPacket, Usage: "conntrack calls it `STATE`: new, established, related, invalid or untracked", DefaultText: "new"},
		&cli.StringFlag{Name: "ct-mark", Category: categoryPacket, Usage: "its connection carries connection mark `MARK`"},
		addressFlag(),
		&cli.BoolFlag{Name: "all", DisableDefaultText: true, Usage: "every class of packets that is treated alike, what escapes the proxy first"},
		&cli.BoolFlag{Name: "live", DisableDefaultText: true, Usage: "ask of what the namespace holds now, not of a configuration"},
		&cli.BoolFlag{Name: "markdown", DisableDefaultText: true, Usage: "print Markdown"},
	}
}

func addressFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "address", Category: categoryPacket, Usage: "the pod has `INTERFACE=PREFIX`; may be given again",
		DefaultText: strings.Join(assumedAddresses, ", ")}
}

// assumedAddresses are those of a pod of which nothing is said.
var assumedAddresses = []string{"eth0=10.244.1.5/24", "eth0=2001:db8:244:1::5/64"}

// ask is a packet as people and programs ask for it.
type ask struct {
	Packet string  `json:"packet"`
	In     string  `json:"in,omitempty"`
	From   string  `json:"from,omitempty"`
	UID    *uint32 `json:"uid,omitempty"`
	GID    *uint32 `json:"gid,omitempty"`
	Mark   string  `json:"mark,omitempty"`
	State  string  `json:"state,omitempty"`
	CTMark string  `json:"ctMark,omitempty"`
}

// maxAsked bounds what is read of standard input.
const (
	maxAsked     = 100_000 // packets
	maxAskedLine = 64 << 10
)

// askedPackets are the packets of the command line or of standard input.
func askedPackets(cc *cli.Context) ([]sim.Packet, error) {
	if cc.Args().Len() == 1 && cc.Args().First() == "-" {
		if err := noPacketFlags(cc); err != nil {
			return nil, err
		}
		return readPackets(cc.App.Reader)
	}
	a := ask{Packet: strings.Join(cc.Args().Slice(), " "), In: cc.String("in"), From: cc.String("from"),
		Mark: cc.String("mark"), State: cc.String("state"), CTMark: cc.String("ct-mark")}
	var errs []error
	for _, flag := range []struct {
		name string
		into **uint32
	}{{"uid", &a.UID}, {"gid", &a.GID}} {
		if !cc.IsSet(flag.name) {
			continue
		}
		id, err := strconv.ParseUint(cc.String(flag.name), 10, 32)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is no id (want a number)", flag.name, cc.String(flag.name)))
		}
		v := uint32(id)
		*flag.into = &v
	}
	p, err := a.parse()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, usageError{err}
	}
	return []sim.Packet{p}, nil
}

// noPacketFlags refuses flags that say of one packet what others do not have.
func noPacketFlags(cc *cli.Context) error {
	var errs []error
	for _, name := range []string{"in", "from", "uid", "gid", "mark", "state", "ct-mark"} {
		if cc.IsSet(name) {
			errs = append(errs, fmt.Errorf("--%s is about one packet that the command line names", name))
		}
	}
	if len(errs) > 0 {
		return usageError{errors.Join(errs...)}
	}
	return nil
}

// readPackets reads one JSON object a line.
func readPackets(r io.Reader) ([]sim.Packet, error) {
	var out []sim.Packet
	var errs []error
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAskedLine)
	n := 1
	for ; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if len(out) == maxAsked {
			return nil, usageError{fmt.Errorf("standard input: more than %d packets", maxAsked)}
		}
		a, err := readAsk(lines.Bytes())
		var p sim.Packet
		if err == nil {
			p, err = a.parse()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("standard input:%d: %w", n, err))
		}
		out = append(out, p)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		errs = append(errs, fmt.Errorf("standard input:%d: the line has more than %d bytes", n, maxAskedLine))
	case err != nil:
		errs = append(errs, fmt.Errorf("standard input:%d: %w", n, err))
	}
	if len(errs) > 0 {
		return nil, usageError{problems.Join(errs...)}
	}
	return out, nil
}

func readAsk(line []byte) (a ask, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err = d.Decode(&a)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		want := "number of 0-4294967295"
		if wrong.Type.Kind() == reflect.String {
			want = "text"
		}
		return a, fmt.Errorf("%s: %s cannot be meant (want a %s)", wrong.Field, wrong.Value, want)
	case errors.As(err, &wrong):
		return a, fmt.Errorf(`%s is no packet (want an object such as {"packet": "tcp 10.0.0.1:443"})`, wrong.Value)
	case err != nil:
		return a, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return a, errors.New("something follows the packet (want one object a line)")
	}
	return a, nil
}

func (a ask) parse() (sim.Packet, error) {
	var p sim.Packet
	var errs []error
	problem := func(err error) { errs = append(errs, err) }
	pattern, err := packet.Parse(a.Packet)
	if err == nil {
		p, err = pattern.One()
	}
	problem(err)
	p.In = a.In
	if len(a.In) > maxInterface {
		problem(fmt.Errorf("%q is no interface", a.In))
	}
	if p.In == "" {
		p.Socket = &sim.Socket{Proto: p.Proto}
		if a.UID != nil {
			p.Socket.UID = rules.UID(*a.UID)
		}
		if a.GID != nil {
			p.Socket.GID = rules.GID(*a.GID)
		}
	} else if a.UID != nil || a.GID != nil {
		problem(fmt.Errorf("what comes in by %s has no owner here", escape.Text(a.In)))
	}
	p.Src, err = parseFrom(a.From)
	problem(err)
	if a.In != "" && a.From == "" {
		problem(fmt.Errorf("what comes in by %s comes from somewhere (want from an address)", escape.Text(a.In)))
	}
	if err == nil && errs[0] == nil && p.Src.Addr().IsValid() && p.Src.Addr().Is4() != p.Dst.Addr().Is4() {
		problem(fmt.Errorf("%s and %s are of two families", p.Src.Addr(), p.Dst.Addr()))
	}
	p.Mark, err = parseMark(a.Mark)
	problem(err)
	p.CTMark, err = parseMark(a.CTMark)
	problem(err)
	p.State, err = parseCTState(a.State)
	problem(err)
	if a.CTMark != "" && p.State == 0 {
		p.State = rules.CTEstablished
	}
	return p, errors.Join(errs...)
}

const (
	maxInterface  = 15    // bytes, IFNAMSIZ of linux/if.h less the terminating zero
	ephemeralPort = 40000 // of who says none
)

func parseFrom(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPortFrom(netip.Addr{}, ephemeralPort), nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.AddrPortFrom(a, ephemeralPort), nil
	}
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() {
		return netip.AddrPort{}, fmt.Errorf("%q is no address to come from (want such as 203.0.113.7 or 203.0.113.7:40000)", text)
	}
	return a, nil
}

func parseMark(text string) (rules.Mark, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no mark (want such as 0x539)", text)
	}
	return rules.Mark(n), nil
}

func parseCTState(text string) (rules.CTState, error) {
	states := map[string]rules.CTState{"": 0, "new": 0, "established": rules.CTEstablished, "related": rules.CTRelated,
		"invalid": rules.CTInvalid, "untracked": rules.CTUntracked}
	s, known := states[text]
	if !known {
		return 0, fmt.Errorf("%q is no state (want new, established, related, invalid or untracked)", text)
	}
	return s, nil
}

// explain says what becomes of each packet.
func (j *job) explain(ctx context.Context, c *config.File, asked []sim.Packet) error {
	x, state, err := j.explainer(ctx, c)
	if err != nil {
		return err
	}
	if j.cc.Bool("all") {
		return j.explainAll(c, state, x.host)
	}
	return x.explain(j.cc, asked)
}

// explainer is for packets of a namespace of which only the configuration is known,
// with the state that this makes.
func (j *job) explainer(ctx context.Context, c *config.File) (*explainer, rules.State, error) {
	env, err := j.assumedEnvironment(ctx, c.Lookups())
	if err != nil {
		return nil, rules.State{}, err
	}
	state, err := j.wanted(c, env)
	if err != nil {
		return nil, state, err
	}
	host, err := assumedHost(j.cc)
	if err != nil {
		return nil, state, usageError{err}
	}
	return &explainer{evaluate: func(h sim.Host) func(sim.Packet) sim.Journey {
		e := sim.EvaluatorOf(state, h)
		return func(p sim.Packet) sim.Journey { return e.Evaluate(p, nil) }
	}, host: host, listeners: modes.PortNames(c.Config)}, state, nil
}

// assumedEnvironment is what was said of the environment, else one of both
// families, with the names and resolvers of the files in /etc.
func (j *job) assumedEnvironment(ctx context.Context, asked modes.Lookups) (modes.Environment, error) {
	if j.said != nil {
		return *j.said, nil
	}
	env, err := capture.FileEnvironment(ctx, j.target, asked)
	env.IPv6, env.LoopbackIPv6 = true, true
	return env, err
}

// assumedHost is a pod with the addresses of --address, or with the assumed ones,
// and a default route by its first interface.
func assumedHost(cc *cli.Context) (sim.Host, error) {
	words := cc.StringSlice("address")
	if len(words) == 0 {
		words = assumedAddresses
	}
	return hostOf(words)
}

// hostOf is a pod with addresses in the words of --address.
func hostOf(words []string) (sim.Host, error) {
	var links []sim.Link
	var errs []error
	for _, w := range words {
		name, text, _ := strings.Cut(w, "=")
		p, err := netip.ParsePrefix(text)
		if err != nil || name == "" || len(name) > maxInterface || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("--address: %q is no address of an interface (want such as eth0=10.244.1.5/24)", w))
			continue
		}
		i := slices.IndexFunc(links, func(l sim.Link) bool { return l.Name == name })
		if i < 0 {
			i, links = len(links), append(links, sim.Link{Name: name})
		}
		links[i].Addresses = append(links[i].Addresses, p)
	}
	if err := errors.Join(errs...); err != nil {
		return sim.Host{}, err
	}
	return withDefaultRoutes(sim.NewHost(links...), links[0].Name), nil
}

func withDefaultRoutes(h sim.Host, out string) sim.Host {
	for _, everywhere := range []string{"0.0.0.0/0", "::/0"} {
		h.Routes = append(h.Routes, sim.Route{Table: mainTable, Dst: netip.MustParsePrefix(everywhere), Type: rules.Unicast, Out: out})
	}
	h.Assumes = true
	return h
}

const mainTable = 254 // RT_TABLE_MAIN of linux/rtnetlink.h

// explainer says what becomes of packets.
type explainer struct {
	evaluate  func(sim.Host) func(sim.Packet) sim.Journey
	host      sim.Host
	listeners map[rules.Port]string
}

// explain prints what becomes of each packet; an unknown fate is a failure.
func (x *explainer) explain(cc *cli.Context, asked []sim.Packet) error {
	evaluate := x.evaluate(x.host)
	unknown := 0
	for _, p := range asked {
		journey := x.journey(p, evaluate)
		if journey.Fate.Kind == sim.Unknown {
			unknown++
		}
		if err := x.print(cc, journey); err != nil {
			return err
		}
	}
	if unknown > 0 {
		return toldError{fmt.Errorf("of %d packets it is unknown from here what becomes", unknown)}
	}
	return nil
}

// journey is the packet's way, by the explainer's own host unless it must be
// another's.
func (x *explainer) journey(p sim.Packet, evaluate func(sim.Packet) sim.Journey) sim.Journey {
	if h, other := x.hostFor(p); other {
		evaluate = x.evaluate(h)
	}
	if p.Socket != nil && p.Src.Addr().IsValid() {
		p.Socket.Transparent = true // it could not send from just any address otherwise
	}
	return evaluate(p)
}

// hostFor is the assumed host with the interface that a packet comes by, and
// with the packet's destination as one of its addresses.
func (x *explainer) hostFor(p sim.Packet) (sim.Host, bool) {
	if p.In == "" || !x.host.Assumes || x.host.Has(p.In, p.Dst.Addr()) {
		return x.host, false
	}
	return x.host.Plus(p.In, netip.PrefixFrom(p.Dst.Addr(), p.Dst.Addr().BitLen())), true
}
