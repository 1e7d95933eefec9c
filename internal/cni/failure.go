// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cni

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/internal/problems"
)

// Codes of errors, beside those of the specification: from 100 on they are a plugin's own.
const (
	codeNotCaptured  = 100 // the pod needs capture and cannot have it
	codeAnnotation   = 101 // what the pod or the node's configuration says of it means nothing
	codeDiffers      = 102 // CHECK: the rules are not as they should be
	codeTryAgain     = types.ErrTryAgainLater
	codeNotAvailable = types.ErrPluginNotAvailable
)

// maxMessage is how many bytes of a message go into an event, which holds a kilobyte; maxReport, of one that
// lists what is wrong with the node's own configuration.
const (
	maxMessage = 700
	maxReport  = 8 << 10
)

// failure is an error for a runtime, which shows "message; remedy" in one line of an event.
func failure(code uint, remedy, format string, args ...any) *types.Error {
	return types.NewError(code, line(fmt.Sprintf(format, args...)), line(remedy))
}

// line is a text as one line of an event.
func line(text string) string { return oneLine(text, maxMessage) }

// oneLine is a text as one line that can steer no terminal, of that many bytes at most.
func oneLine(text string, limit int) string {
	text = escape.Text(strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), "; "))
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "..."
	}
	return text
}

// told is an error that joins others as one line.
func told(err error) string {
	var lines []string
	for _, e := range problems.List(err) {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "; ")
}

// asFailure is an error as a runtime is told it.
func asFailure(err error) *types.Error {
	var f *types.Error
	if errors.As(err, &f) {
		return f
	}
	return failure(types.ErrInternal, "", "%s", told(err))
}
