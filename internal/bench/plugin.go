// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/weir-mesh/weir/internal/scratch"
)

// addRounds are how many ADDs are measured.
const addRounds = 100

// maxAdd is the design's bar: milliseconds of user and system time.
const maxAdd = 10

const addStdin = `{"cniVersion":"1.1.0","name":"bench","type":"weir-cni","agentSocket":"","enrolled":"","runtimeConfig":{"dns":{"Servers":["10.96.0.10"]},` +
	`"io.kubernetes.cri.pod-annotations":{"sidecar.istio.io/status":"{\"initContainers\":[\"istio-validation\"],\"containers\":[\"istio-proxy\"]}",` +
	`"traffic.sidecar.istio.io/excludeInboundPorts":"8080","kubernetes.io/config.seen":"2026-11-28T00:00:00Z"}},` +
	`"prevResult":{"cniVersion":"1.1.0","ips":[{"address":"198.18.0.2/24"},{"address":"2001:db8:18::2/64"}]}}`

// plugin measures ADDs of the CNI plugin, as a runtime calls it, each for a pod of its own: start, decide,
// apply, verify and exit.
func (b *bench) plugin(ctx context.Context) error {
	progress("ADD")
	var cpu []float64
	for range addRounds + 1 {
		one, err := b.add(ctx)
		if err != nil {
			return fmt.Errorf("ADD: %w", err)
		}
		cpu = append(cpu, one)
	}
	b.report.compare(comparison{What: "weir cni: an ADD that captures", Unit: "ms of CPU", Value: summarize(cpu[1:]), Bar: maxAdd}) // the first warms up
	return nil
}

// add is one ADD's user and system time in milliseconds.
func (b *bench) add(ctx context.Context) (_ float64, err error) {
	host, err := scratch.NewNamespace()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	pod, err := scratch.NewNamespace()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pod.Close()) }()
	c := exec.CommandContext(ctx, b.weir, "cni")
	c.Env = []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=" + pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart;K8S_POD_UID=7c0e"}
	var out bytes.Buffer
	c.Stdin, c.Stdout = strings.NewReader(addStdin), &out
	if err := host.Do(c.Run); err != nil {
		return 0, fmt.Errorf("%w: %s", err, &out)
	}
	return milliseconds(c.ProcessState.UserTime() + c.ProcessState.SystemTime()), nil
}
