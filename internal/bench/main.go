// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command bench measures weir beside what it stands in for, in network
// namespaces that go when it ends: whole processes against nft(8) and against
// the iptables commands of the reference engine, new connections under each
// one's rules, pods that come and go, and one change through the library. It
// takes the path of a weir binary, prints medians and ratios, and asserts
// nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// limit is how long everything may take; a whole run takes a few minutes.
const limit = 30 * time.Minute

func main() {
	if os.Args[0] == launcherName {
		os.Exit(launch())
	}
	if os.Args[0] == roleName {
		if err := playRole(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", strings.Join(os.Args[1:], " "), err)
			os.Exit(1)
		}
		return
	}
	asJSON := flag.Bool("json", false, "print JSON")
	only := flag.String("only", "", "measure only what `PATTERN` matches: start, processes, plugin, lists, session, pods, connections, interception")
	bare := flag.String("bare", "", "the path of a Go program that does nothing, to compare the start with")
	page := flag.String("write", "", "write the manual's page to `FILE`, of a whole run")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: bench [-json] [-only PATTERN | -write FILE] [-bare PATH] PATH-OF-WEIR")
		os.Exit(2)
	}
	flag.Parse()
	if flag.NArg() != 1 || *only != "" && *page != "" {
		flag.Usage()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	wanted, err := regexp.Compile(*only)
	if err == nil {
		err = run(ctx, flag.Arg(0), *bare, *page, wanted, *asJSON)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, weir, bare, page string, wanted *regexp.Regexp, asJSON bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it runs weir, nft and iptables in network namespaces of its own")
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := findPrograms(); err != nil {
		return err
	}
	b := &bench{}
	if b.folder, err = os.MkdirTemp("", "weir-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	if b.weir, err = b.installed(weir); err != nil {
		return err
	}
	if bare != "" {
		if b.bare, err = b.installed(bare); err != nil {
			return err
		}
	}
	if err := b.measure(ctx, wanted); err != nil {
		return err
	}
	if page != "" {
		if err := os.WriteFile(page, []byte(b.report.page()), 0o644); err != nil {
			return err
		}
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(b.report)
	}
	return b.report.print(os.Stdout)
}

// findPrograms looks for what weir is compared with.
func findPrograms() error {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	var missing []string
	for _, name := range []string{"nft", "iptables-nft-restore", "ip6tables-nft-restore"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not found: %s (packages nftables and iptables)", strings.Join(missing, ", "))
	}
	return nil
}

// bench is a run: the program to measure, a folder for the files that it and
// the others read, and what was found so far.
type bench struct {
	weir   string
	bare   string // "": the start is not measured
	folder string
	report report
}

func (b *bench) measure(ctx context.Context, wanted *regexp.Regexp) error {
	b.report.Machine = machine(ctx)
	if err := b.binary(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start", b.start},
		{"processes", b.everySize},
		{"plugin", b.plugin},
		{"lists", b.scale},
		{"session", b.session},
		{"pods", b.churn},
		{"connections", b.connections},
		{"interception", b.interception},
	} {
		if !wanted.MatchString(part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// everySize measures whole processes with lists of several lengths.
func (b *bench) everySize(ctx context.Context) error {
	for _, size := range []struct{ cidrs, rounds int }{{0, 20}, {100, 12}, {1000, 10}, {manyCIDRs, 8}} {
		if err := b.processes(ctx, size.cidrs, size.rounds); err != nil {
			return err
		}
	}
	return nil
}

// write makes a file for programs to read.
func (b *bench) write(name, text string) (path string, err error) {
	path = filepath.Join(b.folder, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
