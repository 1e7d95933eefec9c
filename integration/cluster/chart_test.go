// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// helmEnv names helm, which `make cluster-test` builds.
const helmEnv = "WEIR_HELM"

const (
	agentNamespace = "weir-system"
	agentName      = "weir-node"
	agentSpace     = "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + agentNamespace + ", labels: {pod-security.kubernetes.io/enforce: privileged}}\n"
)

// istioCNIValues are values of Istio's chart istio-cni, as its users have them.
const istioCNIValues = `cniBinDir: /opt/cni/bin
cniConfDir: /etc/cni/net.d
cniNetnsDir: /run/netns
chained: true
excludeNamespaces: [kube-system, istio-system]
ambient: {enabled: true, dnsCapture: true, ipv6: true}
logging: {level: info}
rollingMaxUnavailable: 1
resources: {requests: {cpu: 10m, memory: 50Mi}}
podAnnotations: {example.com/team: mesh}
podLabels: {team: mesh}
daemonSetLabels: {team: mesh}
tolerations: [{effect: NoSchedule, operator: Exists}, {effect: NoExecute, operator: Exists}]
seccompProfile: {type: RuntimeDefault}
seLinuxOptions: {type: spc_t}
repair: {enabled: true, labelPods: false, deletePods: false}
`

// render renders the chart by helm, with values of several documents of which the later ones win.
func render(values ...string) (string, error) {
	all := map[string]any{}
	for _, text := range values {
		var more map[string]any
		if err := yaml.Unmarshal([]byte(text), &more); err != nil {
			return "", fmt.Errorf("%s: %w", text, err)
		}
		merge(all, more)
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(os.Getenv(helmEnv), "template", agentName, filepath.Join("..", "..", "deploy", "chart"),
		"--namespace", agentNamespace, "--kube-version", "v1.25.0", "--values", "-") // the oldest that the chart names
	var out, errs strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w: %s", err, &errs)
	}
	return out.String(), nil
}

func merge(into, from map[string]any) {
	for key, value := range from {
		inner, is := value.(map[string]any)
		outer, was := into[key].(map[string]any)
		if is && was {
			merge(outer, inner)
			continue
		}
		into[key] = value
	}
}

// chart is the chart of the image that the tests built, with further values.
func (c *cluster) chart(values ...string) string {
	c.Helper()
	text, err := render(append([]string{"image: {repository: localhost/weir/weir-node, pullPolicy: Never}"}, values...)...)
	if err != nil {
		c.Fatal(err)
	}
	return text
}

// deploy installs or upgrades the agent by the chart, and waits until it is Ready. It returns its pod.
func (c *cluster) deploy(values ...string) pod {
	c.Helper()
	if err := errors.Join(c.apply(agentSpace), c.apply(c.chart(values...))); err != nil {
		c.Fatal(err)
	}
	return c.awaitAgent()
}

// awaitAgent waits until the DaemonSet's latest pod is Ready, and no former one is there.
func (c *cluster) awaitAgent() (p pod) {
	c.Helper()
	await(c, "the agent is rolled out", 5*time.Minute, func() error {
		var set struct {
			Metadata struct{ Generation int }
			Status   struct {
				ObservedGeneration, DesiredNumberScheduled, UpdatedNumberScheduled, NumberAvailable int
			}
		}
		if err := c.get("/apis/apps/v1/namespaces/"+agentNamespace+"/daemonsets/"+agentName, &set); err != nil {
			return err
		}
		s := set.Status
		if s.ObservedGeneration < set.Metadata.Generation || s.DesiredNumberScheduled != 1 || s.UpdatedNumberScheduled != 1 || s.NumberAvailable != 1 {
			return fmt.Errorf("%+v\n%s", s, strings.Join(c.events(agentNamespace, ""), "\n"))
		}
		agents, err := c.agents()
		if err == nil && len(agents) != 1 {
			err = fmt.Errorf("%d agents are there", len(agents))
		}
		if err != nil {
			return err
		}
		p = agents[0]
		return nil
	})
	return p
}

// agents are the pods of the DaemonSet.
func (c *cluster) agents() ([]pod, error) {
	var list struct{ Items []pod }
	err := c.get("/api/v1/namespaces/"+agentNamespace+"/pods?labelSelector=app.kubernetes.io/name%3D"+agentName, &list)
	return list.Items, err
}

// removeAgent deletes the DaemonSet, and waits until its pod has gone.
func (c *cluster) removeAgent() {
	c.Helper()
	if err := c.delete("/apis/apps/v1/namespaces/" + agentNamespace + "/daemonsets/" + agentName); err != nil {
		c.Fatal(err)
	}
	await(c, "the agent has gone", time.Minute, func() error {
		agents, err := c.agents()
		if err == nil && len(agents) > 0 {
			err = fmt.Errorf("%d agents are there", len(agents))
		}
		return err
	})
}

// documents are the objects of a file of YAML, by kind and name.
func documents(text string) (map[string]any, error) {
	out := map[string]any{}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	for {
		var object map[string]any
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object) == 0 {
			continue
		}
		plain, err := json.Marshal(object) // as the API server reads it
		if err != nil {
			return nil, err
		}
		var again map[string]any
		if err := json.Unmarshal(plain, &again); err != nil {
			return nil, err
		}
		out[fmt.Sprint(object["kind"], " ", object["metadata"].(map[string]any)["name"])] = again
	}
}

// TestChart: the chart is rendered by helm, with Istio's values too, and a real API server takes it without a
// warning; its default values make what the plain manifest says.
func TestChart(t *testing.T) {
	if os.Getenv(helmEnv) == "" {
		t.Skip("make cluster-test runs it: it builds helm")
	}
	if _, err := render(); err == nil || !strings.Contains(err.Error(), "image.repository is required") {
		t.Errorf("without an image: %v", err)
	}
	c := newNode(t)
	c.startControlPlane()
	if err := c.apply(agentSpace); err != nil {
		t.Fatal(err)
	}
	const image = "image: {repository: registry.example/weir/weir-node}"
	for _, tt := range []struct{ why, values, has string }{
		{"as it is", "", "--conflist-mode=chained"},
		{"with values of istio-cni", istioCNIValues, `\"excludeNamespaces\":[\"kube-system\",\"istio-system\"]`},
		{"ambient", "ambient: {enabled: true}", "pods/status"},
		{"by processes", "procSource: true", "hostPID: true"},
		{"by the runtime", "nri: true", "--nri-socket=/run/nri/nri.sock"},
		{"by the runtime, with the machine's cgroups", "nri: true", "--cgroup-dir=/host/cgroup"},
		{"a list of its own", "chained: false", "--conflist-mode=own"},
		{"taken away again", "uninstall: true", "- uninstall"},
		{"with settings", "settings: {meshes: {linkerd: false}}", `\"linkerd\":false`},
	} {
		text, err := render(image, tt.values)
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		if !strings.Contains(text, tt.has) {
			t.Errorf("%s: it does not have %s", tt.why, tt.has)
		}
		c.warnings = nil
		if err := c.apply(text); err != nil || len(c.warnings) > 0 {
			t.Errorf("%s: %v, warnings %q", tt.why, err, c.warnings)
		}
	}
	text, err := render(image)
	if err != nil {
		t.Fatal(err)
	}
	rendered, err := documents(text)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := documents(deployFile(t, "weir-node.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	delete(plain, "Namespace "+agentNamespace) // which Helm makes by a flag
	pod := rendered["DaemonSet "+agentName].(map[string]any)["spec"].(map[string]any)["template"].(map[string]any)
	delete(pod["metadata"].(map[string]any)["annotations"].(map[string]any), "checksum/settings")
	for name := range plain {
		if !reflect.DeepEqual(rendered[name], plain[name]) {
			t.Errorf("%s is by the chart\n%v\nand in the manifest\n%v", name, rendered[name], plain[name])
		}
	}
	if len(rendered) != len(plain) {
		t.Errorf("the chart makes %d objects, the manifest has %d", len(rendered), len(plain))
	}
}
