// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/mesh"
)

const (
	limit      = 3 * time.Second // of both requests
	maxMessage = 4 << 20         // bytes of an answer; etcd holds objects of 1.5 MiB
)

type metadata struct {
	UID         string            `json:"uid"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

type container struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	} `json:"env"`
	SecurityContext struct {
		RunAsUser  *int64 `json:"runAsUser"`
		RunAsGroup *int64 `json:"runAsGroup"`
	} `json:"securityContext"`
}

type object struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		InitContainers   []container `json:"initContainers"`
		Containers       []container `json:"containers"`
		RuntimeClassName string      `json:"runtimeClassName"`
		HostNetwork      bool        `json:"hostNetwork"`
	} `json:"spec"`
}

// word is what names of namespaces and pods are: see RFC 1123, section 2.1.
var word = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)

// Pod asks for a pod. A namespace that may not be read is as one without labels and annotations.
func Pod(ctx context.Context, kubeconfig, namespace, name string) (mesh.Pod, error) {
	p := mesh.Pod{Namespace: namespace, Name: name}
	if !word.MatchString(namespace) || !word.MatchString(name) {
		return p, fmt.Errorf("%s is not the name of a pod", p)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	s, err := load(kubeconfig)
	if err != nil {
		return p, err
	}
	var pod, space object
	if err := s.get(ctx, "/api/v1/namespaces/"+namespace+"/pods/"+name, &pod); err != nil {
		return p, err
	}
	_ = s.get(ctx, "/api/v1/namespaces/"+namespace, &space) // it may be forbidden
	p.UID, p.Annotations = pod.Metadata.UID, pod.Metadata.Annotations
	p.Spec = &mesh.Spec{
		Labels: pod.Metadata.Labels, NamespaceLabels: space.Metadata.Labels, NamespaceAnnotations: space.Metadata.Annotations,
		RuntimeClass: pod.Spec.RuntimeClassName, HostNetwork: pod.Spec.HostNetwork,
	}
	for _, c := range pod.Spec.InitContainers {
		p.Spec.Containers = append(p.Spec.Containers, c.read(true))
	}
	for _, c := range pod.Spec.Containers {
		p.Spec.Containers = append(p.Spec.Containers, c.read(false))
	}
	return p, nil
}

func (c container) read(init bool) mesh.Container {
	out := mesh.Container{
		Name: c.Name, Init: init, Args: c.Args, Env: map[string]string{},
		RunAsUser: c.SecurityContext.RunAsUser, RunAsGroup: c.SecurityContext.RunAsGroup,
	}
	for _, v := range c.Env {
		out.Env[v.Name] = v.Value
	}
	return out
}

// get asks by HTTP/1.0, to which a server answers with the body as it is and closes: no library of HTTP is
// needed, which would make the program a third larger.
func (s server) get(ctx context.Context, path string, to any) error {
	conn, err := s.dial(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	request := "GET " + s.path + path + " HTTP/1.0\r\nHost: " + s.host + "\r\nAccept: application/json\r\nUser-Agent: weir-cni\r\n"
	if s.token != "" {
		request += "Authorization: Bearer " + s.token + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return ended(ctx, err)
	}
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxMessage)))
	line, err := r.ReadLine()
	if err != nil {
		return ended(ctx, err)
	}
	if _, status, _ := strings.Cut(line, " "); !strings.HasPrefix(status, "200") {
		return fmt.Errorf("%s answered %q", s.host, status)
	}
	if _, err := r.ReadMIMEHeader(); err != nil {
		return ended(ctx, err)
	}
	return ended(ctx, json.NewDecoder(r.R).Decode(to))
}

func (s server) dial(ctx context.Context) (net.Conn, error) {
	if s.tls != nil {
		d := tls.Dialer{Config: s.tls}
		return d.DialContext(ctx, "tcp", s.host)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", s.host)
}

// ended is an error, or why the context ended where that made it.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
