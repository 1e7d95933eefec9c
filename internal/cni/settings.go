// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/internal/agent"
	"github.com/weir-mesh/weir/internal/ledger"
	"github.com/weir-mesh/weir/internal/mesh"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Type is the plugin's name in a list, and that of its file.
const Type = "weir-cni"

// annotationsCapability is the capability by which runtimes pass a pod's annotations.
const annotationsCapability = "io.kubernetes.cri.pod-annotations"

// Capabilities are what the plugin's entry asks of a runtime.
func Capabilities() map[string]bool { return map[string]bool{annotationsCapability: true, "dns": true} }

const (
	defaultEnrolled = "/var/lib/weir/enrolled.json"
	defaultReleased = "/var/lib/weir/released.json"
	defaultWritten  = "/var/lib/weir/written"
	defaultResults  = "/var/lib/cni/results"
	defaultTimeout  = 30 * time.Second
	maxTimeout      = 100 * time.Second // the kubelet gives up after two minutes
)

// settings are the plugin's entry in the list: what the node's operator decided.
type settings struct {
	rules      mesh.Rules
	config     *modes.Config // for containers that are not pods; nil: they are left alone
	socket     string        // the agent's; "": there is none
	enrolled   string        // the file that the agent left
	released   string        // a file that is there while the node is to be without captures
	written    ledger.Ledger // in which the agent looks up what the plugin wrote
	kubeconfig string        // "": the API server is not asked
	results    string        // the folder in which libcni keeps what it attached
	timeout    time.Duration // of one call

	agentNamespace, agentName string // the agent's own pods: their namespace, and how their names begin

	sandboxes []string // runtime classes whose pods have a network stack of their own
}

func defaultSettings() settings {
	return settings{
		rules:     mesh.Rules{ExcludeNamespaces: []string{"kube-system"}, Defaults: map[string]modes.Config{}},
		socket:    agent.DefaultSocket,
		enrolled:  defaultEnrolled,
		released:  defaultReleased,
		written:   defaultWritten,
		results:   defaultResults,
		timeout:   defaultTimeout,
		agentName: "weir-node-", agentNamespace: "weir-system",
		sandboxes: []string{"gvisor", "runsc", "kata*"},
	}
}

// field reads the value of a key.
type field func(*settings, json.RawMessage) error

var fields = map[string]field{
	"agentSocket":       path(func(s *settings) *string { return &s.socket }),
	"enrolled":          path(func(s *settings) *string { return &s.enrolled }),
	"released":          path(func(s *settings) *string { return &s.released }),
	"written":           path(func(s *settings) *string { return (*string)(&s.written) }),
	"kubeconfig":        path(func(s *settings) *string { return &s.kubeconfig }),
	"results":           path(func(s *settings) *string { return &s.results }),
	"excludeNamespaces": names(func(s *settings) *[]string { return &s.rules.ExcludeNamespaces }),
	"sandboxes":         names(func(s *settings) *[]string { return &s.sandboxes }),
	"agentPods":         agentPods,
	"timeout":           timeout,
	"meshes":            meshDefaults,
	"config":            containers,
}

// cniKeys are the keys of an entry that the specification and runtimes have for themselves.
var cniKeys = []string{"cniVersion", "cniVersions", "name", "type", "capabilities", "runtimeConfig", "prevResult", "args", "disableCheck",
	"disableGC", "ipMasq", "ipam", "dns", "loadOnlyInlinedPlugins"}

// readSettings reads the plugin's entry. What could be read is there along with an error that joins every
// problem.
func readSettings(entry map[string]json.RawMessage) (settings, error) {
	s := defaultSettings()
	var all []error
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		read, known := fields[key]
		switch {
		case known:
			for _, e := range problems.List(read(&s, entry[key])) {
				all = append(all, fmt.Errorf("%s: %w", key, e))
			}
		case !slices.Contains(cniKeys, key) && !strings.HasPrefix(key, "cni.dev/"):
			hint := ""
			if nearest := term.Nearest(key, slices.Collect(maps.Keys(fields))); nearest != "" {
				hint = fmt.Sprintf(" (did you mean %s?)", nearest)
			}
			all = append(all, fmt.Errorf("%s: unknown key%s", term.Shorten(key), hint))
		}
	}
	return s, problems.Join(all...)
}

// CheckSettings joins every problem with keys of the plugin's entry.
func CheckSettings(entry map[string]json.RawMessage) error {
	_, err := readSettings(entry)
	return err
}

// path reads an absolute path, or "" for none.
func path(of func(*settings) *string) field {
	return func(s *settings, raw json.RawMessage) error {
		var word string
		if err := json.Unmarshal(raw, &word); err != nil || word != "" && !filepath.IsAbs(word) {
			return fmt.Errorf("%s is not an absolute path (\"\" for none)", term.Shorten(string(raw)))
		}
		*of(s) = word
		return nil
	}
}

func names(of func(*settings) *[]string) field {
	return func(s *settings, raw json.RawMessage) error {
		var words []string
		if err := json.Unmarshal(raw, &words); err != nil {
			return fmt.Errorf("%s is not a list of names", term.Shorten(string(raw)))
		}
		for _, w := range words {
			if _, err := filepath.Match(w, ""); err != nil {
				return fmt.Errorf("%q is not a name", term.Shorten(w))
			}
		}
		*of(s) = words
		return nil
	}
}

// agentPods reads a namespace and how the names of the agent's pods begin: weir-system/weir-node-.
func agentPods(s *settings, raw json.RawMessage) error {
	var word string
	err := json.Unmarshal(raw, &word)
	namespace, name, both := strings.Cut(word, "/")
	if err != nil || !both || namespace == "" || name == "" {
		return fmt.Errorf("%s is not NAMESPACE/PREFIX (such as %s/%s)", term.Shorten(string(raw)), s.agentNamespace, s.agentName)
	}
	s.agentNamespace, s.agentName = namespace, name
	return nil
}

func timeout(s *settings, raw json.RawMessage) error {
	var word string
	err := json.Unmarshal(raw, &word)
	limit, wrong := time.ParseDuration(word)
	if err != nil || wrong != nil || limit <= 0 || limit > maxTimeout {
		return fmt.Errorf("%s is not a time of at most %s (want such as \"30s\")", term.Shorten(string(raw)), maxTimeout)
	}
	s.timeout = limit
	return nil
}

// meshDefaults reads, by the names of meshes, false for one whose pods are left alone, or the keys of a
// configuration that are to hold for its pods in place of the defaults.
func meshDefaults(s *settings, raw json.RawMessage) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return fmt.Errorf("%s is not a map of %s", term.Shorten(string(raw)), strings.Join(mesh.Names(), ", "))
	}
	var all []error
	for _, name := range slices.Sorted(maps.Keys(given)) {
		var on bool
		switch {
		case !slices.Contains(mesh.Names(), name):
			all = append(all, fmt.Errorf("%s: unknown mesh (want one of %s)", term.Shorten(name), strings.Join(mesh.Names(), ", ")))
		case json.Unmarshal(given[name], &on) == nil && string(given[name]) != "null":
			if !on {
				s.rules.Off = append(s.rules.Off, name)
			}
		default:
			file := config.Read(name, given[name])
			s.rules.Defaults[name] = file.Config
			file.Config = mesh.Overlay(mesh.Default(name), file.Config)
			all = append(all, file.Check())
		}
	}
	return problems.Join(all...)
}

// containers reads the configuration for containers that are not pods.
func containers(s *settings, raw json.RawMessage) error {
	c, err := mesh.PodConfig("", raw)
	s.config = &c
	return err
}

// decodeEntry reads the keys of the plugin's entry, as the runtime passes it on standard input.
func decodeEntry(stdin []byte) (map[string]json.RawMessage, error) {
	var entry map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &entry); err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, errors.New("it is not a map")
	}
	return entry, nil
}
