// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// roles are what containers of the tests do.
var roles = map[string]func(args []string) error{
	"serve": serveWord, // WORD PORT...: say the word to whoever connects
	"land":  land,      // ADDRESS [ADDRESS...]: who answers there, as the container's last words
	"ask":   ask,       // ADDRESS: the same of one, printed alone
	"sleep": func([]string) error { select {} },
}

func play(role string, args []string) int {
	do, known := roles[role]
	if !known {
		fmt.Fprintf(os.Stderr, "role %q is not known\n", role)
		return 2
	}
	if err := do(args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serveWord listens on ports, of both families where there are two. HTTP probes get an answer too.
func serveWord(args []string) error {
	var all sync.WaitGroup
	for _, port := range args[1:] {
		ln, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		all.Go(func() { answerAll(ln, args[0], port) })
	}
	fmt.Println("ready")
	all.Wait()
	return nil
}

// answerAll says a word and a port to whoever connects.
func answerAll(ln net.Listener, word, port string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			from, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\n\r\n%s:%s from %s\n", word, port, from)
			// A probe's request is read, or the end of the connection would be a reset.
			_ = conn.(*net.TCPConn).CloseWrite()
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

func ask(args []string) error {
	fmt.Println(answerOf(args[0]))
	return nil
}

// land writes who answers, in the container's termination message too.
func land(args []string) error {
	var words []string
	for _, to := range args {
		words = append(words, answerOf(to))
	}
	text := strings.Join(words, "\n")
	fmt.Println(text)
	if err := os.WriteFile("/dev/termination-log", []byte(text), 0o644); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// answerOf is the word that is said at an address, "none" where nothing answers.
func answerOf(to string) string {
	conn, err := net.DialTimeout("tcp", to, 2*time.Second)
	if err != nil {
		return "none"
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	text, err := io.ReadAll(conn)
	_, word, found := strings.Cut(string(text), "\r\n\r\n")
	if err != nil || !found {
		return "none"
	}
	return strings.TrimSpace(word)
}
