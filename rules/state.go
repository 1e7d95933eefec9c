// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"time"

	"github.com/weir-mesh/weir/internal/reserved"
)

// State is everything that a network namespace should hold for one owner. The
// zero State holds nothing.
type State struct {
	Table       *Table // nil: no table
	PolicyRules []PolicyRule
	Routes      []Route
	Addresses   []netip.Prefix // on the loopback interface
	Sysctls     []Sysctl       // needed; written only when asked
	Untracked   bool           // no connection may be tracked for it: what needs that is refused, and is not part of equality
	ProxyMark   Mark           // with Untracked: what the proxy's sockets carry, under ProxyMask; likewise
	ProxyMask   Mark
}

// Table is a table of family inet: it sees both families and every hook.
type Table struct {
	Name    string
	Sets    []*Set
	Chains  []*Chain
	Dormant bool     // no packet meets it; a wanted table never is
	Others  []string // what else the kernel holds there and the model does not know
}

// Unsupported names what a kernel's table has and a wanted one never does: that it is
// dormant, and its Others.
func (t *Table) Unsupported() []string {
	if !t.Dormant {
		return t.Others
	}
	return append([]string{"flags dormant: no chain of the table is called"}, t.Others...)
}

// Chain is a list of rules: a base chain, which the kernel calls, where Base is
// set, else a regular one, which rules jump to.
type Chain struct {
	Name   string
	Base   *Base
	Rules  []Rule
	Others string // what the kernel holds and the model does not know
}

// Base is where a base chain hooks into the stack, see "BASE CHAINS" in nft(8).
type Base struct {
	Type     ChainType
	Hook     Hook
	Priority int32
	Drop     bool     // the policy: what becomes of packets that no rule decides
	Devices  []string // for hooks that belong to devices
}

// ChainType is what a base chain may do, in nft's words.
type ChainType string

// Chain types.
const (
	FilterType ChainType = "filter" // every packet
	NATType    ChainType = "nat"    // the first packet of a connection
	RouteType  ChainType = "route"  // output alone: a changed mark reroutes
)

// Hook is a place in the stack, as NF_INET_* of linux/netfilter.h numbers it.
type Hook uint32

// Hooks.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	Ingress
	Egress // of family netdev alone
)

var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"}

func (h Hook) String() string {
	if int(h) < len(hookNames) {
		return hookNames[h]
	}
	return "hook"
}

// Priorities by their names in nft(8), for the families ip, ip6 and inet.
const (
	PriorityRaw    int32 = -300
	PriorityMangle int32 = -150
	PriorityDstNAT int32 = -100
	PriorityFilter int32 = 0
	PrioritySrcNAT int32 = 100

	conntrackPrio int32 = -200
)

// MaxComment is how many bytes the comment of a rule or an element has at most: nft
// takes no more.
const MaxComment = 128

// MaxIfName is how many bytes the name of an interface has at most: IFNAMSIZ less the
// terminating zero.
const MaxIfName = ifNameSize - 1

// Routing tables that every namespace has, RT_TABLE_* of linux/rtnetlink.h.
const (
	MainTable  = 254
	LocalTable = 255
)

// Limits of the kernel and of nft.
const (
	maxChainDepth  = 16  // NFT_JUMP_STACK_SIZE
	maxName        = 255 // NFT_NAME_MAXLEN less the terminating zero
	maxTableName   = maxName - len(reserved.NextSuffix)
	maxParts       = 5   // of a key: nft numbers its type in 32 bits, 6 for each part
	maxKeySize     = 64  // NFT_DATA_VALUE_MAXLEN
	maxExpressions = 128 // NFT_RULE_MAXEXPRS
	maxNodeCost    = 3   // expressions that a node takes beside two for each selector
	maxCgroupLevel = 255 // NFTA_SOCKET_LEVEL is a byte in the kernel
)

// Rule is a list of nodes with the reason why it is there. The reason travels
// to the kernel as the rule's comment: at most 128 bytes, no double quote and no
// control character.
type Rule struct {
	Reason string
	Nodes  []Node
}

// Set is a named set or, where Verdicts is true, a verdict map.
type Set struct {
	Name     string
	Key      []DataType // several make a concatenation
	Verdicts bool
	Interval bool   // elements may be ranges
	Dynamic  bool   // rules may add elements: a live set
	Counters bool   // elements count
	Quota    uint64 // bytes: a rule that finds or adds an element ends once so many packets' bytes were seen; 0 is no limit
	Expires  bool   // elements may time out: a live set,
	Timeout  time.Duration
	Sweep    time.Duration // how often the kernel drops elements that timed out; 0: every second
	Size     uint32        // at most so many elements, none of them a range of a plain key; 0 is no limit
	Live     bool          // elements come and go at run time: kept by every change, never compared
	Elements []Element
	Others   string // what the kernel holds and the model does not know
}

// Element is an entry of a set: one range for each part of the key.
type Element struct {
	Key     []Range
	Verdict Verdict // of a verdict map
	Comment string
	Timeout time.Duration
	Expires time.Duration // what is left of Timeout, as a dump found it
	Counter Counter       // what a dump found
}

// SetOf names a declared set of values of type T.
type SetOf[T Value] struct{ Name string }

// Add appends a rule.
func (c *Chain) Add(reason string, nodes ...Node) {
	c.Rules = append(c.Rules, Rule{Reason: reason, Nodes: nodes})
}

// Chain is the chain of that name, nil where there is none.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.Chains {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Set is the set or map of that name, nil where there is none.
func (t *Table) Set(name string) *Set {
	for _, s := range t.Sets {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// PolicyRule is a rule of the routing policy database that looks up Table for
// packets whose mark, under Mask, is Mark (ip-rule(8)).
type PolicyRule struct {
	Family   Family
	Priority uint32
	Mark     Mark
	Mask     Mark   // 0: every packet is looked up
	Table    uint32 // 0 where Goto is not
	In       string // the interface that packets come by, lo for those that are sent here; "" for all
	Goto     uint32 // the priority of the rule to go on at, greater than its own; 0: Table is looked up
}

// Route delivers what Table is looked up for to this host, by the loopback interface:
// `local default dev lo` (ip-route(8)). A route with a Device is for sockets that are bound to
// that interface: the kernel looks for routes by it alone, and delivers by lo all the same.
type Route struct {
	Family Family
	Table  uint32
	Dst    netip.Prefix
	Device IfName // "": lo
}

// Metric is the metric that the route is added with: 0 for the kernel's default of its family,
// which is at most 1024. A route with a Device comes after all that have none.
func (r Route) Metric() uint32 {
	if r.Device == "" {
		return 0
	}
	return 2048
}

// Sysctl is a setting that a ruleset needs to do its work.
type Sysctl struct {
	Name  string // as a path below /proc/sys
	Value string
	Why   string
}
