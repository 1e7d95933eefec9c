// SPDX-License-Identifier: Apache-2.0

//go:build linux

package inventory

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestCache reads what libcni writes, and leaves out what it cannot read.
func TestCache(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"net-a-eth0": `{"kind":"cniCacheV1","containerId":"a","ifName":"eth0","netns":"/var/run/netns/a",
			"cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","cart"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_UID","u1"]],
			"capabilityArgs":{"io.kubernetes.cri.pod-annotations":{"k":"v; w\nx"},"dns":{"Servers":["10.96.0.10","fe80::1%eth0","word"]}},
			"result":{"ips":[{"address":"10.88.0.2/16"},{"address":"::ffff:10.88.0.3"},{"address":"none"}]}}`,
		"net-a-eth1":        `{"containerId":"a","ifName":"eth1","netns":"/var/run/netns/a","result":{"ips":[{"address":"fd88::2/64"}]}}`,
		"net-b-eth0":        `{"containerId":"b","netns":"/run/netns/b"}`,
		"cni-loopback-e-lo": `{"containerId":"e","ifName":"lo","netns":"/run/netns/e","cniArgs":[["K8S_POD_NAME","begins"],["K8S_POD_NAMESPACE","shop"]]}`,
		"net-half-eth0":     `{"containerId":"c","netns":"/run/ne`,
		"net-empty-eth0":    ``,
		"net-gone-eth0":     `{"containerId":"d","netns":""}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := Cache(dir).Pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Pod{
		{Netns: "/run/netns/a", Namespace: "shop", Name: "cart", UID: "u1", Container: "a", Annotations: map[string]string{"k": "v; w\nx"},
			Addresses: addresses("10.88.0.2", "10.88.0.3", "fd88::2"), Resolvers: addresses("10.96.0.10", "fe80::1")},
		{Netns: "/run/netns/b", Container: "b"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got, err := Cache(filepath.Join(dir, "none")).Pods(t.Context()); got != nil || err != nil {
		t.Errorf("where there is no folder: %v, %v", got, err)
	}
	if _, err := Cache(filepath.Join(dir, "net-b-eth0")).Pods(t.Context()); err == nil {
		t.Error("a file was listed as a folder")
	}
}

func addresses(words ...string) (out []netip.Addr) {
	for _, w := range words {
		out = append(out, netip.MustParseAddr(w))
	}
	return out
}

// source tells what it is made of.
type source struct {
	name string
	pods []Pod
	err  error
}

func (s source) Name() string                        { return s.name }
func (s source) Pods(context.Context) ([]Pod, error) { return s.pods, s.err }

// TestAll: sources are joined by the namespace, that which knows the pod counts, and one that fails costs nothing of
// what the others told.
func TestAll(t *testing.T) {
	broken := errors.New("no such thing")
	got, err := All(t.Context(), []Source{
		source{"names", []Pod{{Netns: "/run/netns/a", Inode: 7}, {Netns: "/run/netns/b", Inode: 8}}, nil},
		source{"notes", []Pod{{Netns: "/proc/1/ns/net", Inode: 7, Namespace: "shop", Name: "cart", Annotations: map[string]string{"a": "1"}}, {Netns: "/run/netns/that-has-gone"}}, nil},
		source{"broken", []Pod{{Netns: "/proc/2/ns/net", Inode: 8, UID: "u2"}}, broken},
	})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "broken: ") {
		t.Errorf("the error is %v", err)
	}
	want := []Pod{
		{Netns: "/run/netns/a", Inode: 7, Namespace: "shop", Name: "cart", Annotations: map[string]string{"a": "1"}},
		{Netns: "/run/netns/b", Inode: 8, UID: "u2"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if words := []string{got[0].String(), got[1].String()}; !slices.Equal(words, []string{"shop/cart", "/run/netns/b"}) {
		t.Errorf("they are named %q", words)
	}
}
