// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
)

// kubeconfig is the part of a kubeconfig that is used: see kubectl's documentation of the format.
type kubeconfig struct {
	Clusters []struct {
		Name    string `yaml:"name"`
		Cluster struct {
			Server     string `yaml:"server"`
			CAFile     string `yaml:"certificate-authority"`
			CAData     string `yaml:"certificate-authority-data"`
			ServerName string `yaml:"tls-server-name"`
			Insecure   bool   `yaml:"insecure-skip-tls-verify"`
		} `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string `yaml:"name"`
		User struct {
			Token     string `yaml:"token"`
			TokenFile string `yaml:"tokenFile"`
			CertFile  string `yaml:"client-certificate"`
			CertData  string `yaml:"client-certificate-data"`
			KeyFile   string `yaml:"client-key"`
			KeyData   string `yaml:"client-key-data"`
		} `yaml:"user"`
	} `yaml:"users"`
	Contexts []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Current string `yaml:"current-context"`
}

// server is an API server and how to be known to it.
type server struct {
	host  string // HOST:PORT
	path  string // before /api
	token string
	tls   *tls.Config // nil: the server speaks plain HTTP
}

const maxFile = 1 << 20

// load reads a kubeconfig, whose files are beside it where their paths are not absolute.
func load(file string) (s server, err error) {
	text, err := read(file)
	if err != nil {
		return s, err
	}
	var k kubeconfig
	if err := yaml.Unmarshal(text, &k); err != nil {
		line, _, _ := strings.Cut(err.Error(), "\n")
		return s, errors.New("it is not a kubeconfig: " + line)
	}
	return k.server(filepath.Dir(file))
}

func (k kubeconfig) server(folder string) (s server, err error) {
	clusterName, userName := "", ""
	for _, c := range k.Contexts {
		if c.Name == k.Current {
			clusterName, userName = c.Context.Cluster, c.Context.User
		}
	}
	found := false
	for _, c := range k.Clusters {
		if c.Name != clusterName {
			continue
		}
		found = true
		if err := s.reach(c.Cluster.Server); err != nil {
			return s, err
		}
		if s.tls == nil {
			break
		}
		s.tls.InsecureSkipVerify = c.Cluster.Insecure
		if c.Cluster.ServerName != "" {
			s.tls.ServerName = c.Cluster.ServerName
		}
		ca, err := content(folder, c.Cluster.CAFile, c.Cluster.CAData)
		if err != nil {
			return s, fmt.Errorf("certificate-authority: %w", err)
		}
		if ca != nil {
			s.tls.RootCAs = x509.NewCertPool()
			if !s.tls.RootCAs.AppendCertsFromPEM(ca) {
				return s, errors.New("certificate-authority: it holds no certificate")
			}
		}
	}
	if !found {
		return s, fmt.Errorf("current-context %q names no cluster that is there", k.Current)
	}
	for _, u := range k.Users {
		if u.Name != userName {
			continue
		}
		s.token = u.User.Token
		if u.User.TokenFile != "" { // which wins, and is read again each time: tokens are renewed
			token, err := content(folder, u.User.TokenFile, "")
			if err != nil {
				return s, fmt.Errorf("tokenFile: %w", err)
			}
			s.token = string(bytes.TrimSpace(token))
		}
		cert, certErr := content(folder, u.User.CertFile, u.User.CertData)
		key, keyErr := content(folder, u.User.KeyFile, u.User.KeyData)
		if err := errors.Join(certErr, keyErr); err != nil {
			return s, fmt.Errorf("client-certificate: %w", err)
		}
		if cert != nil && s.tls != nil {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return s, fmt.Errorf("client-certificate: %w", err)
			}
			s.tls.Certificates = []tls.Certificate{pair}
		}
	}
	if strings.ContainsAny(s.token, "\r\n") {
		return s, errors.New("token: it has more than one line")
	}
	return s, nil
}

// reach reads the address of the server.
func (s *server) reach(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("server %q is not a URL (want https://HOST:PORT)", address)
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		s.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	}
	if u.Port() != "" {
		port = u.Port()
	}
	s.host, s.path = net.JoinHostPort(u.Hostname(), port), strings.TrimSuffix(u.EscapedPath(), "/")
	return nil
}

// content is a file, or what a kubeconfig holds in its place; nil for neither.
func content(folder, file, data string) ([]byte, error) {
	switch {
	case data != "":
		return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data), ""))
	case file == "":
		return nil, nil
	case !filepath.IsAbs(file):
		file = filepath.Join(folder, file)
	}
	return read(file)
}

func read(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", file, maxFile)
	}
	return text, err
}
