// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const weirImage = "localhost/weir/weir:test"

// loadWeir packs the image as `make image` does, and has the runtime load it.
func (n containerdNode) loadWeir(version int) {
	n.Helper()
	pack, err := build("./internal/image/pack", "")
	if err != nil {
		n.Fatal(err)
	}
	archive := filepath.Join(n.dir, "weir.oci.tar")
	n.run(n.program("bin/pack", pack), "-name", weirImage, "-o", archive, filepath.Join(n.dir, "bin/weir"))
	n.load(version, archive)
}

// injectedInit is the container that an injector adds to a pod, as a kubelet asks the runtime for it.
type injectedInit struct {
	name string
	args []string
	uid  int64 // a user other than 0 has no capabilities
}

// containerEnd is how a container ended.
type containerEnd struct {
	code    int
	logs    []string // lines
	message string   // what it left in /dev/termination-log
}

// initContainer runs a container of the image in a pod to its end.
func (n containerdNode) initContainer(pod, sandbox string, c injectedInit) containerEnd {
	n.Helper()
	message := n.write("messages/"+c.name, "")
	context := map[string]any{"run_as_user": map[string]any{"value": c.uid}, "run_as_group": map[string]any{"value": c.uid}, "no_new_privs": true,
		"capabilities": map[string]any{"drop_capabilities": []string{"ALL"}}, "namespace_options": map[string]any{"pid": 1}}
	if c.uid == 0 {
		context["capabilities"] = map[string]any{"add_capabilities": []string{"NET_ADMIN", "NET_RAW"}, "drop_capabilities": []string{"ALL"}}
	}
	text, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"name": c.name}, "image": map[string]any{"image": weirImage}, "args": c.args, "log_path": c.name + ".log",
		"envs":   []map[string]any{{"key": "ISTIO_DUAL_STACK", "value": "true"}},
		"mounts": []map[string]any{{"container_path": "/dev/termination-log", "host_path": message}},
		"linux":  map[string]any{"security_context": context},
	})
	if err != nil {
		n.Fatal(err)
	}
	if err := os.Chmod(message, 0o666); err != nil { // as the kubelet does
		n.Fatal(err)
	}
	id := n.mustCrictl("create", pod, n.write("pods/"+c.name+".json", string(text)), sandbox)
	n.mustCrictl("start", id)
	var status struct {
		Status struct {
			State    string
			ExitCode int
		}
	}
	n.await(c.name+" to end", time.Minute, func() error {
		if err := json.Unmarshal([]byte(n.mustCrictl("inspect", id)), &status); err != nil {
			return err
		}
		if status.Status.State != "CONTAINER_EXITED" {
			return os.ErrDeadlineExceeded
		}
		return nil
	})
	left, err := os.ReadFile(message)
	if err != nil {
		n.Fatal(err)
	}
	return containerEnd{status.Status.ExitCode, strings.Split(n.mustCrictl("logs", id), "\n"), string(left)}
}

// injectorArguments are those that istio's injector writes, with what checkCaptured expects to be excluded.
func injectorArguments(mode string) []string {
	return []string{"istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", mode, "-i", "*", "-x", "", "-b", "*",
		"-d", "15090,15021,15020,8081", "-o", "3306", "--log_output_level=default:info"}
}

// TestContainerdInit: the image as the init container that istio's injector writes, its repeated run, its
// logs, what it leaves as a message, and its validation without privileges.
func TestContainerdInit(t *testing.T) {
	for i, of := range containerds {
		t.Run(of.name, func(t *testing.T) {
			n := newContainerd(t, i)
			n.loadWeir(i)
			sandbox := n.sandbox("cart", nil)
			pod := n.mustCrictl("runp", sandbox)
			netns, addresses := n.inspect(pod)
			n.serve("", 0, "world 9999 3306")
			validation := append(injectorArguments("REDIRECT"), "--run-validation", "--skip-rule-apply")

			n.check(n.initContainer(pod, sandbox, injectedInit{"early", validation, proxyID}), 126, "it is not captured", "level=ERROR")
			n.check(n.initContainer(pod, sandbox, injectedInit{"wrong", append(injectorArguments("REDIRECT"), "-p", "99999"), 0}), 2, `"99999"`, "level=ERROR")
			n.check(n.initContainer(pod, sandbox, injectedInit{"powerless", injectorArguments("REDIRECT"), proxyID}), 1, "CAP_NET_ADMIN", "level=ERROR")
			n.check(n.initContainer(pod, sandbox, injectedInit{"first", injectorArguments("REDIRECT"), 0}), 0, "", "msg=arguments", "msg=applied outcome=created")
			n.check(n.initContainer(pod, sandbox, injectedInit{"again", injectorArguments("REDIRECT"), 0}), 0, "", "msg=applied outcome=unchanged")
			n.check(n.initContainer(pod, sandbox, injectedInit{"validation", validation, proxyID}), 0, "", "")
			n.checkCaptured(netns, []string{"10.77.0.1", "fd77::1"}, addresses)
			n.mustCrictl("rmp", "-a", "-f")
		})
	}
}

// check compares how a container ended. Each line of its logs is a record, which collectors keep whole.
func (n containerdNode) check(e containerEnd, code int, message string, logs ...string) {
	n.Helper()
	if e.code != code || (e.message == "") != (message == "") || !strings.Contains(e.message, message) {
		n.Errorf("it ended with %d and the message %q, want %d and %q", e.code, e.message, code, message)
	}
	for _, line := range e.logs {
		if !strings.HasPrefix(line, "time=") || !strings.Contains(line, " level=") {
			n.Errorf("a line of the logs is no record: %q", line)
		}
	}
	for _, want := range logs {
		if !strings.Contains(strings.Join(e.logs, "\n"), want) {
			n.Errorf("the logs have no %q:\n%s", want, strings.Join(e.logs, "\n"))
		}
	}
}
