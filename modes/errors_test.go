// SPDX-License-Identifier: Apache-2.0

package modes

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestConfigErrorSaysWhereThenWhatThenWhy(t *testing.T) {
	e := &ConfigError{Key: "outbound.excludePorts", Word: "70000", Problem: "is not a port"}
	if got, want := e.Error(), `outbound.excludePorts: "70000" is not a port`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	whole := &ConfigError{Key: "proxy", Problem: "needs uids"}
	if got, want := whole.Error(), "proxy: needs uids"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	broken := &ConfigError{Key: "a\nb", Problem: "is no key"}
	if got, want := broken.Error(), `"a\nb": is no key`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var config *ConfigError
	if !errors.As(fmt.Errorf("apply: %w", errors.Join(e, whole)), &config) || config != e {
		t.Errorf("errors.As found %v", config)
	}
}

// TestProblemsAreListed: each problem of an error is a value by itself.
func TestProblemsAreListed(t *testing.T) {
	_, _, err := State(Config{Mode: ModeSidecar, Table: "1", Outbound: Outbound{Port: "x"}}, Environment{})
	var got []string
	for _, p := range Problems(err) {
		got = append(got, p.Key+" "+p.Word)
	}
	if want := []string{"table 1", "proxy ", "outbound.port x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Problems(nil); len(got) > 0 {
		t.Errorf("no error has problems %v", got)
	}
	if got := Problems(errors.New("other")); len(got) > 0 {
		t.Errorf("another error has problems %v", got)
	}
}

// TestCheckNames: users and groups are looked up, and what else the environment would
// tell is not missed.
func TestCheckNames(t *testing.T) {
	c := Config{Mode: ModeSidecar, Proxy: Proxy{UIDs: []string{"envoy"}, GIDs: []string{"mesh"}}, DNS: DNS{Capture: "servers"}}
	if err := Check(c); err != nil {
		t.Errorf("without an environment: %v", err)
	}
	cause := errors.New("open /etc/group: no such file or directory")
	err := CheckNames(c, Environment{Users: map[string]uint32{"envoy": 1337}, Unread: map[string]error{"group": cause}})
	if got := Problems(err); len(got) != 1 || got[0].Word != "mesh" || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
