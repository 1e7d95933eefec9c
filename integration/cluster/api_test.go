// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
)

// api is a client of the API server, as its administrator.
type api struct {
	client http.Client
	token  string

	mu       sync.Mutex
	warnings []string // of the API server, about what was applied
}

func newAPI(m *machine) *api {
	return &api{token: adminToken, client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext:     m.dial,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it signed its certificate itself
	}}}
}

// status is an answer that is none of success.
type status struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (s *status) Error() string { return fmt.Sprintf("%d: %s", s.Code, s.Message) }

func isStatus(err error, code int) bool {
	var s *status
	return errors.As(err, &s) && s.Code == code
}

// do sends a request; body and answer may be nil.
func (a *api) do(method, path, kind string, body []byte, answer any) error {
	if !strings.HasPrefix(path, "https:") {
		path = "https://" + nodeAddress + ":6443" + path
	}
	r, err := http.NewRequestWithContext(context.Background(), method, path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if method == "PATCH" {
		a.mu.Lock()
		a.warnings = append(a.warnings, resp.Header.Values("Warning")...)
		a.mu.Unlock()
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		s := status{Code: resp.StatusCode, Message: string(text)}
		_ = json.Unmarshal(text, &s) // where it is not JSON, its words are the message
		return fmt.Errorf("%s %s: %w", method, path, &s)
	}
	if answer == nil {
		return nil
	}
	if to, plain := answer.(*string); plain {
		*to = string(text)
		return nil
	}
	return json.Unmarshal(text, answer)
}

func (a *api) get(path string, answer any) error { return a.do("GET", path, "", nil, answer) }
func (a *api) delete(path string) error          { return a.do("DELETE", path, "", nil, nil) }

// kinds are the places of objects.
var kinds = map[string]struct {
	plural     string
	namespaced bool
}{
	"Namespace": {"namespaces", false}, "Pod": {"pods", true}, "Secret": {"secrets", true}, "Event": {"events", true},
	"ConfigMap": {"configmaps", true}, "ServiceAccount": {"serviceaccounts", true}, "Service": {"services", true},
	"DaemonSet": {"daemonsets", true}, "Deployment": {"deployments", true},
	"ClusterRole": {"clusterroles", false}, "ClusterRoleBinding": {"clusterrolebindings", false}, "Role": {"roles", true}, "RoleBinding": {"rolebindings", true},
	"PriorityClass": {"priorityclasses", false},
}

// path is an object's place, as its own text has it.
func objectPath(object map[string]any) (string, error) {
	kind, _ := object["kind"].(string)
	version, _ := object["apiVersion"].(string)
	meta, _ := object["metadata"].(map[string]any)
	at, known := kinds[kind]
	if !known || meta == nil {
		return "", fmt.Errorf("kind %q is not known", kind)
	}
	path := "/api/" + version
	if strings.Contains(version, "/") {
		path = "/apis/" + version
	}
	if at.namespaced {
		space, _ := meta["namespace"].(string)
		if space == "" {
			space = "default"
		}
		path += "/namespaces/" + space
	}
	return fmt.Sprintf("%s/%s/%v", path, at.plural, meta["name"]), nil
}

// apply has objects be as a file of YAML says.
func (a *api) apply(text string) error {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(object) == 0 {
			continue
		}
		path, err := objectPath(object)
		if err != nil {
			return err
		}
		body, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if err := a.do("PATCH", path+"?fieldManager=test&force=true&fieldValidation=Strict", "application/apply-patch+yaml", body, nil); err != nil {
			return err
		}
	}
}

// pod is what the tests look at of one.
type pod struct {
	Metadata struct {
		Name, Namespace, UID string
		Annotations          map[string]string
		CreationTimestamp    time.Time
		DeletionTimestamp    *time.Time
	}
	Spec struct {
		NodeName string
	}
	Status struct {
		Phase  string
		PodIP  string
		PodIPs []struct{ IP string }

		Conditions []struct {
			Type, Status string
		}
		InitContainerStatuses, ContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name         string
	Ready        bool
	RestartCount int
	ContainerID  string
	State        struct {
		Running    *struct{ StartedAt time.Time }
		Terminated *struct {
			ExitCode              int
			Message               string
			StartedAt, FinishedAt time.Time
		}
		Waiting *struct{ Reason, Message string }
	}
}

func (p pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// said are the last words of a container that ended.
func (p pod) said(container string) (string, bool) {
	for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if c.Name == container && c.State.Terminated != nil {
			return c.State.Terminated.Message, true
		}
	}
	return "", false
}

func (a *api) pod(namespace, name string) (p pod, err error) {
	err = a.get("/api/v1/namespaces/"+namespace+"/pods/"+name, &p)
	return p, err
}

// events are what happened to an object, newest last.
func (a *api) events(namespace, name string) (lines []string) {
	var list struct {
		Items []struct {
			Reason, Message string
			InvolvedObject  struct{ Name string }
		}
	}
	if err := a.get("/api/v1/namespaces/"+namespace+"/events", &list); err != nil {
		return []string{err.Error()}
	}
	for _, e := range list.Items {
		if name == "" || e.InvolvedObject.Name == name {
			lines = append(lines, e.InvolvedObject.Name+": "+e.Reason+": "+e.Message)
		}
	}
	return lines
}
