// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const (
	tested = "v0.0.1"
	nobody = 65534
)

// A builder is who makes a release, and where.
type builder struct {
	dir   string
	uid   uint32
	umask string
	env   []string // instead of the test's
}

// builders are two that differ in all that must not enter a release. The second has no cache of modules or builds.
func builders(t *testing.T) []builder {
	t.Helper()
	root, err := os.MkdirTemp("", "weir-release-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, root) })
	proxy, err := output(t.Context(), "go", "env", "GOPROXY", "GOSUMDB")
	if err != nil {
		t.Fatal(err)
	}
	proxies := strings.Fields(proxy)
	first, second := filepath.Join(root, "a"), filepath.Join(root, "another", "deeper", "folder")
	for dir, uid := range map[string]int{first: 0, second: nobody} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, uid, uid), os.Chmod(root, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return []builder{
		{first, 0, "022", os.Environ()},
		{second, nobody, "077", []string{"PATH=" + os.Getenv("PATH"), "HOME=" + second, "TMPDIR=" + second, "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8",
			"GOPROXY=" + proxies[0], "GOSUMDB=" + proxies[1], "GOFLAGS=-modcacherw", "GOAMD64=v3", "GOARM64=v8.1"}},
	}
}

// removeAll removes a folder, with caches of modules that may not be written.
func removeAll(t *testing.T, root string) {
	_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o755)
		}
		return nil
	})
	if err := os.RemoveAll(root); err != nil {
		t.Error(err)
	}
}

// release makes a release of the commit in a bundle, and returns its folder.
func (b builder) release(t *testing.T, bundle string) string {
	t.Helper()
	script := "umask " + b.umask + " && cd " + b.dir + " && git clone -q " + bundle + " src && make -s -C src release RELEASE=" + tested
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = b.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: b.uid, Gid: b.uid}}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release by user %d: %v\n%s", b.uid, err, text)
	}
	return filepath.Join(b.dir, "src", "dist")
}

// TestRelease: two builds are one, and what they hold is what is installed and listed.
func TestRelease(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("it builds as another user, and installs in a chroot: run it as root")
	}
	bundle := filepath.Join(t.TempDir(), "source.bundle")
	if err := run(t.Context(), nil, "git", "bundle", "create", "-q", bundle, "HEAD"); err != nil {
		t.Fatal(err)
	}
	for dir := bundle; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the other user reads it
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var dists []string
	for _, b := range builders(t) {
		dists = append(dists, b.release(t, bundle))
	}
	t.Run("one hash", func(t *testing.T) { sameFiles(t, dists[0], dists[1]) })
	files := unpack(t, filepath.Join(dists[0], "weir_0.0.1_linux_amd64.tar.gz"))
	t.Run("archive", func(t *testing.T) { checkArchive(t, files) })
	t.Run("inventory", func(t *testing.T) { checkInventories(t, dists[0], files) })
	t.Run("images", func(t *testing.T) { checkImages(t, dists[0]) })
	t.Run("rpm", func(t *testing.T) { checkRPM(t, dists[0], files) })
	t.Run("deb", func(t *testing.T) { checkDebian(t, filepath.Join(dists[0], "weir_0.0.1_amd64.deb")) })
}

func sameFiles(t *testing.T, a, b string) {
	names := func(dir string) (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	if !slices.Equal(names(a), names(b)) || len(names(a)) < 19 {
		t.Fatalf("the files are %q and %q", names(a), names(b))
	}
	for _, name := range names(a) {
		if x, y := read(t, filepath.Join(a, name)), read(t, filepath.Join(b, name)); !bytes.Equal(x, y) {
			t.Errorf("%s differs: %d and %d bytes", name, len(x), len(y))
		}
	}
	t.Logf("%d files are the same; SHA256SUMS:\n%s", len(names(a)), read(t, filepath.Join(a, "SHA256SUMS")))
	if err := exec.Command("sh", "-c", "cd "+a+" && sha256sum -c --quiet SHA256SUMS").Run(); err != nil {
		t.Errorf("the checksums: %v", err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// unpack is the files of an archive, by their names below its folder.
func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	packed, err := gzip.NewReader(bytes.NewReader(read(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(packed); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		_, below, _ := strings.Cut(h.Name, "/")
		if files[below], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func checkArchive(t *testing.T, files map[string][]byte) {
	for _, want := range []string{
		"bin/weir", "bin/weir-cni", "bin/weir-node", "bin/weir-egress", "share/doc/weir/LICENSE", "share/doc/weir/licences/go/LICENSE",
		"share/man/man8/weir.8", "share/man/man8/weir-apply.8", "share/man/man8/weir-ambient-pod-apply.8", "share/bash-completion/completions/weir",
		"share/zsh/vendor-completions/_weir", "share/fish/vendor_completions.d/weir.fish",
	} {
		if len(files[want]) == 0 {
			t.Errorf("the archive has no %s", want)
		}
	}
}

// checkInventories: each lists the modules that its program says it was made of, and no other.
func checkInventories(t *testing.T, dist string, files map[string][]byte) {
	names := slices.Collect(maps.Keys(files))
	for _, program := range programs {
		info, err := buildinfo.Read(bytes.NewReader(files["bin/"+program]))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"std@" + info.GoVersion}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			want = append(want, m.Path+"@"+m.Version)
			if !slices.ContainsFunc(names, func(name string) bool {
				return strings.HasPrefix(name, "share/doc/weir/licences/"+m.Path+"@"+m.Version+"/")
			}) {
				t.Errorf("%s: %s has no licence in the archive", program, m.Path)
			}
		}
		var inventory struct {
			Components []struct {
				Name, Version string
				Hashes        []any
			}
		}
		if err := json.Unmarshal(read(t, filepath.Join(dist, program+"_0.0.1_linux_amd64.cdx.json")), &inventory); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range inventory.Components {
			got = append(got, c.Name+"@"+c.Version)
			if c.Name != "std" && len(c.Hashes) == 0 {
				t.Errorf("%s: %s has no hash", program, c.Name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the list has\n%q\nand the program\n%q", program, got, want)
		}
		t.Logf("%s: %d modules", program, len(want)-1)
	}
}

func checkImages(t *testing.T, dist string) {
	for _, name := range []string{"weir_0.0.1_linux_amd64", "weir_0.0.1_linux_arm64", "weir-node_0.0.1_linux_amd64", "weir-node_0.0.1_linux_arm64"} {
		text := read(t, filepath.Join(dist, name+".oci.tar"))
		program, _, _ := strings.Cut(name, "_")
		if want := `"org.opencontainers.image.ref.name":"localhost/weir/` + program + ":" + tested + `"`; !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s has no %s", name, want)
		}
	}
}

// checkRPM: the package has the files of the archive.
func checkRPM(t *testing.T, dist string, files map[string][]byte) {
	listed, err := output(t.Context(), "rpm", "-qlp", filepath.Join(dist, "weir-0.0.1-1.x86_64.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(listed)
	for name := range files {
		if !slices.Contains(got, "/usr/"+name) {
			t.Errorf("the package has no /usr/%s", name)
		}
	}
}

// checkDebian installs the package in a system of its own, as one would, and takes it out again.
func checkDebian(t *testing.T, deb string) {
	root := filepath.Join(t.TempDir(), "root")
	in := func(args ...string) string {
		t.Helper()
		text, err := exec.CommandContext(t.Context(), "chroot", append([]string{root}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, text)
		}
		return string(text)
	}
	if text, err := exec.CommandContext(t.Context(), "debootstrap", "--variant=minbase", "--include=man-db", "stable", root).CombinedOutput(); err != nil {
		t.Fatalf("debootstrap: %v\n%.2000s", err, text)
	}
	if err := os.WriteFile(filepath.Join(root, "weir.deb"), read(t, deb), 0o644); err != nil {
		t.Fatal(err)
	}
	in("dpkg", "-i", "/weir.deb")
	if got := in("weir", "version", "--json"); !strings.Contains(got, tested) {
		t.Errorf("the version is %s", got)
	}
	page := in("man", "weir-apply")
	for _, want := range []string{"weir-apply - make the namespace capture", "--outbound-exclude-cidrs"} {
		if !strings.Contains(page, want) {
			t.Errorf("man weir-apply has no %q:\n%.1000s", want, page)
		}
	}
	t.Logf("man weir-apply:\n%.600s", page)
	in("dpkg", "-r", "weir")
	if left, _ := filepath.Glob(filepath.Join(root, "usr/bin/weir*")); len(left) > 0 {
		t.Errorf("left by its removal: %v", left)
	}
}
