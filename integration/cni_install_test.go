// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cniNode is the folders of a node.
type cniNode struct {
	*cli
	bin, conf string
}

func newCNINode(t testing.TB) cniNode {
	t.Helper()
	n := cniNode{cli: newCLI(t)}
	dir := sharedDir(t)
	n.bin, n.conf = filepath.Join(dir, "bin"), filepath.Join(dir, "net.d")
	for _, d := range []string{n.bin, n.conf} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n cniNode) install(args ...string) outcome {
	n.Helper()
	return n.run(append([]string{"cni", "install", "--bin-dir", n.bin, "--conf-dir", n.conf}, args...)...)
}

func (n cniNode) uninstall(args ...string) outcome {
	n.Helper()
	return n.run(append([]string{"cni", "uninstall", "--wait", "0s", "--bin-dir", n.bin, "--conf-dir", n.conf}, args...)...)
}

func (n cniNode) write(name, text string) {
	n.Helper()
	if err := os.WriteFile(filepath.Join(n.conf, name), []byte(text), 0o640); err != nil {
		n.Fatal(err)
	}
}

func (n cniNode) read(name string) string {
	n.Helper()
	text, err := os.ReadFile(filepath.Join(n.conf, name))
	if err != nil {
		n.Fatal(err)
	}
	return string(text)
}

// files are the names in the folder of lists.
func (n cniNode) files() string {
	n.Helper()
	list, err := os.ReadDir(n.conf)
	if err != nil {
		n.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

const (
	ciliumList = "\n{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"cilium\",\n  \"plugins\": [\n    {\n       \"type\": \"cilium-cni\",\n       \"enable-debug\": %d,\n       \"log-file\": \"/var/run/cilium/cilium-cni.log\"\n    }\n  ]\n}\n"
	ciliumWith = "\n{\n  \"cniVersion\": \"0.3.1\",\n  \"name\": \"cilium\",\n  \"plugins\": [\n    {\n       \"type\": \"cilium-cni\",\n       \"enable-debug\": %d,\n       \"log-file\": \"/var/run/cilium/cilium-cni.log\"\n    },\n" +
		"    {\n      \"type\": \"weir-cni\",\n      \"capabilities\": {\n        \"dns\": true,\n        \"io.kubernetes.cri.pod-annotations\": true\n      }\n    }\n  ]\n}\n"
)

// TestInstall and out again: the list, the program, and nothing else.
func TestInstall(t *testing.T) {
	n := newCNINode(t)
	before := fmt.Sprintf(ciliumList, 1)
	n.write("05-cilium.conflist", before)
	n.write("README", "not a list")
	label := []byte("system_u:object_r:container_file_t:s0\x00")
	labelled := unix.Setxattr(filepath.Join(n.conf, "05-cilium.conflist"), "security.selinux", label, 0) == nil

	n.install().succeeded(t)
	want := fmt.Sprintf(ciliumWith, 1)
	if got := n.read("05-cilium.conflist"); got != want {
		t.Errorf("list\n%s\nwant\n%s", got, want)
	}
	info, err := os.Stat(filepath.Join(n.conf, "05-cilium.conflist"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if labelled {
		got := make([]byte, 100)
		size, err := unix.Getxattr(filepath.Join(n.conf, "05-cilium.conflist"), "security.selinux", got)
		if err != nil || !bytes.Equal(got[:max(size, 0)], label) {
			t.Errorf("SELinux label %q, %v", got[:max(size, 0)], err)
		}
	} else {
		t.Log("this file system has no labels")
	}
	if o := n.install(); strings.Count(o.succeeded(t), "unchanged") != 2 {
		t.Error(o)
	}
	plugin := n.cli.with(func(o *cli) { o.program, o.env = filepath.Join(n.bin, "weir-cni"), []string{"CNI_COMMAND=VERSION"} })
	plugin.run().succeeded(t)

	settings := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(settings, []byte(`{"agentSocket": "", "meshes": {"kuma": false}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.install("--settings", settings).succeeded(t)
	if got := n.read("05-cilium.conflist"); !strings.Contains(got, `"kuma": false`) || strings.Count(got, "weir-cni") != 1 {
		t.Error(got)
	}
	n.install().succeeded(t) // settings stay
	if got := n.read("05-cilium.conflist"); !strings.Contains(got, `"kuma": false`) {
		t.Error(got)
	}
	if err := os.WriteFile(settings, []byte(`{"agentSockt": ""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := n.install("--settings", settings); o.code != 1 || !strings.Contains(o.errs, "did you mean agentSocket?") {
		t.Error(o)
	}

	out := n.uninstall().succeeded(t)
	if strings.Index(out, "out of it") > strings.Index(out, "weir-cni: removed") {
		t.Errorf("the program went first:\n%s", out)
	}
	if got := n.read("05-cilium.conflist"); got != before {
		t.Errorf("list\n%s\nwant\n%s", got, before)
	}
	if got := n.files(); got != "05-cilium.conflist README" {
		t.Errorf("files %s", got)
	}
	if _, err := os.Stat(filepath.Join(n.bin, "weir-cni")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	n.uninstall().succeeded(t)
}

// TestInstallConverts a configuration of one plugin into a list.
func TestInstallConverts(t *testing.T) {
	n := newCNINode(t)
	n.write("10-bridge.conf", `{"cniVersion":"0.4.0","name":"b","type":"bridge","ipam":{"type":"host-local"}}`)
	n.install().succeeded(t)
	if got := n.files(); got != "10-bridge.conflist" {
		t.Errorf("files %s", got)
	}
	got := n.read("10-bridge.conflist")
	for _, want := range []string{`"cniVersion": "0.4.0"`, `"name": "b"`, `{"cniVersion":"0.4.0","name":"b","type":"bridge","ipam":{"type":"host-local"}},`, `"type": "weir-cni"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}

// TestInstallOwn leaves the primary's list as it is.
func TestInstallOwn(t *testing.T) {
	n := newCNINode(t)
	n.write("05-cilium.conflist", fmt.Sprintf(ciliumList, 1))
	n.install("--conflist-mode", "own").succeeded(t)
	for i := 1; i < 4; i++ {
		n.write("05-cilium.conflist", fmt.Sprintf(ciliumList, i))
		n.install("--conflist-mode", "own").succeeded(t)
		if got := n.files(); got != "00-weir.conflist 05-cilium.conflist" {
			t.Errorf("files %s", got)
		}
		if got, want := n.read("00-weir.conflist"), fmt.Sprintf(ciliumWith, i); got != want {
			t.Errorf("own list\n%s\nwant\n%s", got, want)
		}
		if got, want := n.read("05-cilium.conflist"), fmt.Sprintf(ciliumList, i); got != want {
			t.Errorf("the primary's list\n%s\nwant\n%s", got, want)
		}
	}
	n.uninstall().succeeded(t)
	if got := n.files(); got != "05-cilium.conflist" {
		t.Errorf("files %s", got)
	}
}

// TestInstallRefuses says what is in the way, and changes nothing.
func TestInstallRefuses(t *testing.T) {
	for _, tt := range []struct {
		why   string
		setup func(n cniNode)
		args  []string
		want  string
	}{
		{"no network", func(n cniNode) {}, nil, "install the primary CNI plugin first"},
		{"only what is none", func(n cniNode) { n.write("10-x.conflist", "{}") }, nil, "is passed over"},
		{"a version of long ago", func(n cniNode) {
			n.write("10-x.conflist", `{"cniVersion":"0.2.0","name":"x","plugins":[{"type":"bridge"}]}`)
		}, nil, "let the primary plugin write another version"},
		{"both", func(n cniNode) {
			n.write("10-x.conf", `{"cniVersion":"0.4.0","name":"x","type":"bridge"}`)
			n.write("10-x.conflist", `{"cniVersion":"0.4.0","name":"x","plugins":[{"type":"bridge"}]}`)
		}, nil, "remove one of them"},
		{"an unknown mode", func(n cniNode) {}, []string{"--conflist-mode", "both"}, "want chained or own"},
	} {
		n := newCNINode(t)
		tt.setup(n)
		before := n.files()
		if o := n.install(tt.args...); o.code != 1 || !strings.Contains(o.errs+o.out, tt.want) {
			t.Errorf("%s: %s", tt.why, o)
		}
		if got := n.files(); got != before {
			t.Errorf("%s: files %s, want %s", tt.why, got, before)
		}
	}
}

// TestInstallReadOnly: the next folder is taken; where there is none, the message says what to look for.
func TestInstallReadOnly(t *testing.T) {
	n := newCNINode(t)
	n.write("10-x.conflist", `{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}`)
	fixed := filepath.Join(sharedDir(t), "fixed")
	if err := os.Mkdir(fixed, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uintptr{unix.MS_BIND, unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY} {
		if err := unix.Mount(fixed, fixed, "", flags, ""); err != nil {
			t.Skipf("no read-only folder can be made: %v", err)
		}
	}
	t.Cleanup(func() { _ = unix.Unmount(fixed, unix.MNT_DETACH) })
	n.run("cni", "install", "--bin-dir", fixed+","+n.bin, "--conf-dir", n.conf).succeeded(t)
	if _, err := os.Stat(filepath.Join(n.bin, "weir-cni")); err != nil {
		t.Error(err)
	}
	if o := n.run("cni", "install", "--bin-dir", fixed, "--conf-dir", n.conf); o.code != 1 || !strings.Contains(o.errs, fixed) || !strings.Contains(o.errs, "plugin_dirs of CRI-O") {
		t.Error(o)
	}
	if o := n.run("cni", "uninstall", "--wait", "0s", "--bin-dir", n.bin, "--conf-dir", fixed); o.code != 0 {
		t.Error(o)
	}
}

// TestInstallOverARewrittenList: the primary writes its list anew a hundred times, in Cilium's manner (a new
// file, renamed) and in Calico's (in place, in two writes), before and during an install. The list ends as
// the primary wrote it last, with the plugin once.
func TestInstallOverARewrittenList(t *testing.T) {
	for manner, write := range map[string]func(path, text string) error{
		"Cilium's": func(path, text string) error {
			if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".tmp", path)
		},
		"Calico's": func(path, text string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC|os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			_, first := f.WriteString(text[:len(text)/2])
			time.Sleep(time.Millisecond) // so that an install may meet half a file
			_, second := f.WriteString(text[len(text)/2:])
			return errors.Join(first, second, f.Close())
		},
	} {
		n := newCNINode(t)
		path := filepath.Join(n.conf, "05-cilium.conflist")
		n.write("05-cilium.conflist", fmt.Sprintf(ciliumList, 0))
		for i := 1; i <= 100; i++ {
			during := i%2 == 0
			written := make(chan error, 1)
			rewrite := func() { written <- write(path, fmt.Sprintf(ciliumList, i)) }
			if during {
				go rewrite()
			} else {
				rewrite()
			}
			n.install().succeeded(t)
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if during {
				n.install().succeeded(t) // the agent's, once the primary has written
			}
			if got, want := n.read("05-cilium.conflist"), fmt.Sprintf(ciliumWith, i); got != want {
				t.Fatalf("in %s manner, the %dth time\n%s\nwant\n%s", manner, i, got, want)
			}
		}
		if got := n.files(); got != "05-cilium.conflist" {
			t.Errorf("files %s", got)
		}
	}
}
