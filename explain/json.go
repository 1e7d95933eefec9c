// SPDX-License-Identifier: Apache-2.0

//go:build linux

package explain

import (
	"encoding/json"

	"github.com/weir-mesh/weir/sim"
)

// AnswerJSON is an answer as programs read it.
type AnswerJSON struct {
	Packet string     `json:"packet"` // protocol and destination: "tcp 10.0.0.1:443"
	From   string     `json:"from,omitempty"`
	In     string     `json:"in,omitempty"`
	Owner  string     `json:"owner,omitempty"` // of a packet whose owner was not told: the users and groups that the answer is for
	UID    *uint32    `json:"uid,omitempty"`   // of the socket; nil for a packet that arrives
	GID    *uint32    `json:"gid,omitempty"`
	Mark   string     `json:"mark,omitempty"`
	Path   []StepJSON `json:"path"`
	Fate   FateJSON   `json:"fate"`
}

// StepJSON is a step of a packet's path: a rule, a policy, or what the host itself does.
type StepJSON struct {
	Hook     string `json:"hook"`
	Table    string `json:"table,omitempty"`
	Chain    string `json:"chain,omitempty"` // "" where no chain decides, but the host
	Type     string `json:"type,omitempty"`
	Priority int32  `json:"priority"`
	Rule     int    `json:"rule,omitempty"` // from 1; 0 for a policy
	Reason   string `json:"reason,omitempty"`
	Does     string `json:"does"`
}

// FateJSON is what becomes of a packet.
type FateJSON struct {
	Kind     string `json:"kind"` // as sim.FateKind has it: redirected, proxied, untouched, dropped, ...
	Says     string `json:"says"` // in a sentence
	To       string `json:"to"`
	Here     bool   `json:"here"` // it is delivered on this host
	Out      string `json:"out,omitempty"`
	Port     uint16 `json:"port,omitempty"`
	Listener string `json:"listener,omitempty"`
	Decided  string `json:"decided,omitempty"`  // by which table, chain and rule
	Taken    bool   `json:"taken,omitempty"`    // by another program's table
	Original string `json:"original,omitempty"` // the destination that it had, of a redirected packet
	Mark     string `json:"mark,omitempty"`
	CTMark   string `json:"ctMark,omitempty"`
	Zone     uint16 `json:"zone,omitempty"`
}

// MarshalJSON writes the answer as an [AnswerJSON].
func (a Answer) MarshalJSON() ([]byte, error) { return json.Marshal(a.view()) }

func (a Answer) view() AnswerJSON {
	p, f := a.Packet, a.Fate
	v := AnswerJSON{Owner: a.Owner, Packet: ProtoName(p.Proto) + " " + Endpoint(p.Proto, p.Dst), In: p.In, Mark: hexMark(p.Mark), Path: []StepJSON{}}
	if p.Src.Addr().IsValid() {
		v.From = Endpoint(p.Proto, p.Src)
	}
	if p.Socket != nil {
		uid, gid := uint32(p.Socket.UID), uint32(p.Socket.GID)
		v.UID, v.GID = &uid, &gid
	}
	for _, s := range a.Steps {
		v.Path = append(v.Path, StepJSON{Hook: s.Hook.String(), Table: s.Table, Chain: s.Chain, Type: string(s.Type),
			Priority: s.Priority, Rule: s.Rule, Reason: s.Reason, Does: s.Does})
	}
	v.Fate = FateJSON{Kind: f.Kind.String(), Says: a.Says, To: Endpoint(p.Proto, f.Dst), Here: f.Here, Out: f.Out,
		Port: uint16(f.Port), Listener: a.Listener, Decided: a.Decided, Taken: a.Taken, Mark: hexMark(f.Mark), CTMark: hexMark(f.CTMark), Zone: uint16(f.Zone)}
	if f.Kind == sim.Redirected {
		v.Fate.Original = Endpoint(p.Proto, f.Asked)
	}
	return v
}
