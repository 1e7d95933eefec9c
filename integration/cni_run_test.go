// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"maps"
	"net"
	"strings"
	"testing"
)

// pluginCall is what a container runtime tells a plugin.
type pluginCall struct {
	netns   string // "" of a DEL after the namespace has gone
	ifName  string // "" is eth0
	version string // of the list; "" is 1.1.0
	args    string // CNI_ARGS; "" is pod shop/cart

	annotations map[string]string // nil: the runtime passes none
	dns         []string
	entry       map[string]any // more keys of the plugin's own entry
	previous    string         // prevResult; "" is one with the lab's addresses, "none" is none
}

const (
	podArgs = "K8S_POD_UID=7c0e;IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_NAME=cart;K8S_POD_NAMESPACE=shop"

	// labResult is a result with what its plugin may have written beside, as it stands.
	labResult = `{"dns":{},"ips":[{"address":"198.18.0.2/24","interface":0},{"interface":0,  "address":"2001:db8:18::2/64"}],` +
		`"interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"x":"a plugin's own <key>","cniVersion":"VERSION"}`
)

func (p pluginCall) stdin(t testing.TB) string {
	t.Helper()
	version := p.version
	if version == "" {
		version = "1.1.0"
	}
	runtimeConfig := map[string]any{}
	if p.annotations != nil {
		runtimeConfig["io.kubernetes.cri.pod-annotations"] = p.annotations
	}
	if p.dns != nil {
		runtimeConfig["dns"] = map[string]any{"Servers": p.dns, "Searches": nil, "Options": nil}
	}
	entry := map[string]any{
		"cniVersion": version, "name": "lab", "type": "weir-cni", "agentSocket": "", "enrolled": "", "written": "",
		"capabilities": map[string]bool{"io.kubernetes.cri.pod-annotations": true, "dns": true}, "runtimeConfig": runtimeConfig,
	}
	maps.Copy(entry, p.entry)
	text, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	if p.previous == "none" {
		return string(text)
	}
	return strings.TrimSuffix(string(text), "}") + `,"prevResult":` + p.result(version) + "}"
}

func (p pluginCall) result(version string) string {
	if p.previous != "" {
		return p.previous
	}
	return strings.ReplaceAll(labResult, "VERSION", version)
}

// plugin calls the plugin as a runtime does, from the test's own namespace.
func (c *cli) plugin(command string, call pluginCall) outcome {
	c.Helper()
	args := call.args
	if args == "" {
		args = podArgs
	}
	ifName := call.ifName
	if ifName == "" {
		ifName = "eth0"
	}
	of := c.with(func(o *cli) {
		o.env = append([]string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=c1", "CNI_NETNS=" + call.netns, "CNI_IFNAME=" + ifName,
			"CNI_ARGS=" + args, "CNI_PATH=/opt/cni/bin"}, c.env...)
	})
	return of.feed(call.stdin(c), "cni")
}

// pluginError is an error as the specification has it.
type pluginError struct {
	Code    int    `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details"`
}

// failed is the error of a call that must fail.
func (o outcome) failed(t testing.TB) pluginError {
	t.Helper()
	var e pluginError
	if err := json.Unmarshal([]byte(o.out), &e); err != nil || o.code != 1 || e.Code == 0 {
		t.Fatalf("want an error of CNI's: %v\n%s", err, o)
	}
	if strings.ContainsAny(e.Msg+e.Details, "\n\t\x1b") {
		t.Errorf("the message is not one line: %q", e.Msg+e.Details)
	}
	return e
}

// succeeded is the output of a call that must not fail.
func (o outcome) succeeded(t testing.TB) string {
	t.Helper()
	if o.code != 0 {
		t.Fatal(o)
	}
	return o.out
}

// listenable listens and stops: it is an error where the address is none of the namespace's.
func listenable(at string) (net.Addr, error) {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	return ln.Addr(), nil
}
