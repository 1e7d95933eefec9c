// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKubeconfig: what is wrong with one is said.
func TestKubeconfig(t *testing.T) {
	const context = "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
	for text, want := range map[string]string{
		"clusters: [": "it is not a kubeconfig",
		"":            `current-context "" names no cluster`,
		context + "clusters: [{name: c, cluster: {server: x}}]\n":                                                           `server "x" is not a URL`,
		context + "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: nowhere}}]\n":                 "certificate-authority: open",
		context + "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: 'eA=='}}]\n":             "it holds no certificate",
		context + "clusters: [{name: c, cluster: {server: 'https://h'}}]\nusers: [{name: u, user: {tokenFile: nowhere}}]\n": "tokenFile: open",
	} {
		file := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestServer(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kubeconfig")
	text := "clusters: [{name: c, cluster: {server: 'https://[::1]/k8s/'}}]\nusers: [{name: u, user: {tokenFile: token}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(file)
	if err != nil || s.host != "[::1]:443" || s.path != "/k8s" || s.token != "secret" || s.tls == nil || s.tls.ServerName != "::1" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestNames: a name that is none of a pod's is not asked for.
func TestNames(t *testing.T) {
	for _, name := range []string{"", "../x", "a/b", "a\r\nHost: x", strings.Repeat("a", 254), "A"} {
		if _, err := Pod(t.Context(), "/nowhere", "shop", name); err == nil || !strings.Contains(err.Error(), "is not the name of a pod") {
			t.Errorf("%.30q: %v", name, err)
		}
	}
}
