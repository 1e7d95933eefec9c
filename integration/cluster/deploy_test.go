// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

func deployFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPermissions: the manifest asks for no more than the agent needs, neither of the API server nor of the node.
func TestPermissions(t *testing.T) {
	decoder := yaml.NewDecoder(strings.NewReader(deployFile(t, "weir-node.yaml")))
	var allowed, added []string
	for {
		var o struct {
			Kind  string `yaml:"kind"`
			Rules []struct {
				APIGroups []string `yaml:"apiGroups"`
				Resources []string `yaml:"resources"`
				Verbs     []string `yaml:"verbs"`
			} `yaml:"rules"`
			Spec struct {
				Template struct {
					Spec struct {
						HostPID    bool `yaml:"hostPID"`
						HostIPC    bool `yaml:"hostIPC"`
						Containers []struct {
							SecurityContext struct {
								Privileged             bool `yaml:"privileged"`
								ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
								Capabilities           struct {
									Drop []string `yaml:"drop"`
									Add  []string `yaml:"add"`
								} `yaml:"capabilities"`
							} `yaml:"securityContext"`
						} `yaml:"containers"`
					} `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range o.Rules {
			allowed = append(allowed, fmt.Sprint(r.APIGroups, r.Resources, r.Verbs))
		}
		if o.Kind != "DaemonSet" {
			continue
		}
		pod := o.Spec.Template.Spec
		s := pod.Containers[0].SecurityContext
		if pod.HostPID || pod.HostIPC || s.Privileged || !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%+v", pod)
		}
		added = s.Capabilities.Add
	}
	if want := []string{"[] [pods namespaces] [get list watch]", "[] [events] [create]"}; !slices.Equal(allowed, want) {
		t.Errorf("of the API server: %q, want %q", allowed, want)
	}
	if want := []string{"NET_ADMIN", "SYS_ADMIN", "NET_BROADCAST"}; !slices.Equal(added, want) {
		t.Errorf("of the node: %q, want %q", added, want)
	}
}

// TestDashboard: it is a dashboard, and what an alert is about a panel shows.
func TestDashboard(t *testing.T) {
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(deployFile(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	metric := regexp.MustCompile(`\b(weir|process)_[a-z_]+`)
	for i, p := range d.Panels {
		if p.ID != i+1 || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d is %q, with %d queries", p.ID, p.Title, len(p.Targets))
		}
		for _, q := range p.Targets {
			for _, name := range metric.FindAllString(q.Expr, -1) {
				shown[strings.TrimSuffix(name, "_bucket")] = true
			}
		}
	}
	for _, name := range metric.FindAllString(deployFile(t, "alerts.yaml"), -1) {
		if !shown[name] {
			t.Errorf("an alert is about %s, which no panel shows", name)
		}
	}
}
