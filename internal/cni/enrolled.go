// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/weir-mesh/weir/internal/mesh"
)

// Enrolled is what the agent leaves on disk for when it does not answer: runtimes pass no labels, so that
// nothing else tells which pods the node's proxy is to see.
type Enrolled struct {
	Version    int      `json:"version"`
	Namespaces []string `json:"namespaces"` // all of whose pods are in the ambient mesh
	Pods       []string `json:"pods"`       // NAMESPACE/NAME
	Except     []string `json:"except"`     // NAMESPACE/NAME, of those namespaces
}

const (
	enrolledVersion = 1
	maxEnrolled     = 4 << 20 // bytes of the file
)

// NewEnrolled is a file's content, of this version.
func NewEnrolled(namespaces, pods, except []string) Enrolled {
	return Enrolled{Version: enrolledVersion, Namespaces: namespaces, Pods: pods, Except: except}
}

// ReadEnrolled reads the file; where there is none, nothing is enrolled.
func ReadEnrolled(path string) (e Enrolled, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnrolled+1))
	switch {
	case err != nil:
		return e, err
	case len(text) > maxEnrolled:
		return e, fmt.Errorf("%s has more than %d bytes", path, maxEnrolled)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return Enrolled{}, fmt.Errorf("%s: %w", path, err)
	}
	if e.Version != enrolledVersion {
		return Enrolled{}, fmt.Errorf("%s is of version %d (want %d)", path, e.Version, enrolledVersion)
	}
	return e, nil
}

// Why is why a pod is enrolled, "" where it is not.
func (e Enrolled) Why(p mesh.Pod) string {
	name := p.Namespace + "/" + p.Name
	switch {
	case slices.Contains(e.Pods, name):
		return "it is enrolled in the ambient mesh"
	case slices.Contains(e.Namespaces, p.Namespace) && !slices.Contains(e.Except, name):
		return fmt.Sprintf("namespace %s is enrolled in the ambient mesh", p.Namespace)
	}
	return ""
}
