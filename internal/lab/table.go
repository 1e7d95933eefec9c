// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/weir-mesh/weir/internal/scratch"
)

// A Table is what one configuration of a reference engine did with every probe.
type Table struct {
	Config string            // the configuration's name
	Mode   string            // the reference program, one of [modes]
	Env    map[string]string // what it was given
	Args   []string
	Proxy  scratch.Identity // of the proxy's own listeners
	Fates  map[string]scratch.Fate
}

// modes are the reference programs: istio-init, Istio's ambient mode in a pod, Linkerd's proxy-init, Kuma's
// install transparent-proxy, and Consul's connect redirect-traffic.
func modes() []string { return []string{"sidecar", "ambient", "linkerd", "kuma", "consul"} }

// LoadHead reads what stands in a table's file before the fates: which configuration it is of. Its
// Fates are nil. It takes a hundredth of the time that the fates take.
func LoadHead(path string) (*Table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load the head of a table: %w", err)
	}
	defer file.Close()
	t := &Table{}
	parts := map[string]any{"config": &t.Config, "mode": &t.Mode, "env": &t.Env, "args": &t.Args, "proxy": &t.Proxy}
	in := json.NewDecoder(file)
	_, err = in.Token() // the object begins
	for err == nil {
		var key json.Token
		if key, err = in.Token(); key == "fates" {
			return t, nil
		}
		name, isName := key.(string)
		if err == nil && !isName {
			err = errors.New("no fates")
		}
		if err != nil {
			break
		}
		part, known := parts[name]
		if !known {
			part = &json.RawMessage{}
		}
		err = in.Decode(part)
	}
	return nil, fmt.Errorf("load the head of table %s: %w", path, err)
}

// LoadTable reads the table in a file.
func LoadTable(path string) (*Table, error) {
	var raw struct {
		Config string            `json:"config"`
		Mode   string            `json:"mode"`
		Env    map[string]string `json:"env"`
		Args   []string          `json:"args"`
		Proxy  scratch.Identity  `json:"proxy"`
		Fates  map[string]string `json:"fates"`
	}
	if err := loadJSON(path, &raw); err != nil {
		return nil, fmt.Errorf("load table: %w", err)
	}
	t := &Table{raw.Config, raw.Mode, raw.Env, raw.Args, raw.Proxy, make(map[string]scratch.Fate, len(raw.Fates))}
	var errs []error
	if !slices.Contains(modes(), t.Mode) {
		errs = append(errs, fmt.Errorf("mode %q (want one of %s)", t.Mode, strings.Join(modes(), ", ")))
	}
	if len(raw.Fates) == 0 {
		errs = append(errs, errors.New("no fates"))
	}
	for _, id := range slices.Sorted(maps.Keys(raw.Fates)) {
		fate, err := parseFate(raw.Fates[id])
		if err != nil {
			errs = append(errs, fmt.Errorf("probe %s: %w", id, err))
		}
		t.Fates[id] = fate
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("load table %s: %w", path, err)
	}
	return t, nil
}

// LoadProbes reads the list of probes in a file.
func LoadProbes(path string) ([]scratch.Probe, error) {
	var probes []scratch.Probe
	if err := loadJSON(path, &probes); err != nil {
		return nil, fmt.Errorf("load probes: %w", err)
	}
	if err := checkProbes(probes); err != nil {
		return nil, fmt.Errorf("load probes %s: %w", path, err)
	}
	return probes, nil
}

func loadJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// checkProbes reports every probe that a run could not tell from another or could not send.
func checkProbes(probes []scratch.Probe) error {
	var errs []error
	ids, ports := make(map[string]bool), make(map[sender]bool)
	for _, p := range probes {
		from := sender{p.Proto, p.SPort}
		switch {
		case p.Namespace != podName && p.Namespace != peerName:
			errs = append(errs, fmt.Errorf("probe %s: namespace %q (want %s or %s)", p.ID, p.Namespace, podName, peerName))
		case p.Proto != "tcp" && p.Proto != "udp":
			errs = append(errs, fmt.Errorf("probe %s: protocol %q (want tcp or udp)", p.ID, p.Proto))
		case !p.Dst.IsValid() || p.DPort == 0 || p.SPort == 0:
			errs = append(errs, fmt.Errorf("probe %s: from port %d to %v port %d: want all three", p.ID, p.SPort, p.Dst, p.DPort))
		case ids[p.ID]:
			errs = append(errs, fmt.Errorf("probe %s: listed twice", p.ID))
		case ports[from]:
			errs = append(errs, fmt.Errorf("probe %s: another one also sends from %s port %d", p.ID, p.Proto, p.SPort))
		}
		ids[p.ID], ports[from] = true, true
	}
	return errors.Join(errs...)
}
