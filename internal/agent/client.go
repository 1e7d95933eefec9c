// SPDX-License-Identifier: Apache-2.0

//go:build linux

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Ask sends a request and reads the answer. The error is that no agent answered in time, or that what
// answered is none. A context that ends sooner wins.
func Ask(ctx context.Context, socket string, request Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	conn, err := send(ctx, socket, request)
	if err != nil {
		return Answer{}, err
	}
	defer conn.Close()
	var answer Answer
	if err := receive(conn, &answer); err != nil {
		return Answer{}, fmt.Errorf("%s: %w", socket, timedOut(err))
	}
	switch answer.Decision {
	case Capture, Done, Leave, Refuse, Unknown:
		return answer, nil
	}
	return Answer{}, fmt.Errorf("%s: %q is not a decision", socket, answer.Decision)
}

// Rows asks the agent which pods it knows. An error that matches fs.ErrNotExist is that there is no agent.
func Rows(ctx context.Context, socket string) ([]Row, error) {
	answer, err := Ask(ctx, socket, Request{Command: List})
	return answer.Rows, err
}

// Tell sends a request that wants no answer.
func Tell(ctx context.Context, socket string, request Request) error {
	ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	conn, err := send(ctx, socket, request)
	if err != nil {
		return err
	}
	return conn.Close()
}

func send(ctx context.Context, socket string, request Request) (net.Conn, error) {
	request.Version = Version
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, timedOut(err)
	}
	if end, limited := ctx.Deadline(); limited {
		_ = conn.SetDeadline(end) // which fails only on a closed connection, as the write will
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", socket, timedOut(err))
	}
	return conn, nil
}

// timedOut says in plain words that nothing was heard in time.
func timedOut(err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("hung up without an answer")
	}
	return err
}

// receive reads a line of JSON.
func receive(r io.Reader, to any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxMessage)).ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, to)
}

// answerTime is how long a server works at a request, and waits for one.
const answerTime = 10 * time.Second
