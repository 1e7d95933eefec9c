// SPDX-License-Identifier: Apache-2.0

// Package problems joins what is wrong with an input, so that one message tells
// all of it and each problem can still be looked at by itself.
package problems

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxTold is how many problems one message tells: a list of 100,000 words may have
// as many.
const maxTold = 100

type list []error

// Join joins errors, without those that are nil; it is nil where no error is left.
// Its message has a line for each of the first 100 and then counts the rest.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	return list(errs)
}

func (l list) Error() string {
	told := []error(l)[:min(len(l), maxTold)]
	lines := make([]string, len(told))
	for i, err := range told {
		lines[i] = err.Error()
	}
	if more := len(l) - len(told); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more problems", more))
	}
	return strings.Join(lines, "\n")
}

func (l list) Unwrap() []error { return l }

// List is every error that err joins by [Join] or [errors.Join], in order and
// however deep. An error that joins none, or whose message says more than those of
// the errors that it joins, is its own only element. The list of nil is empty.
func List(err error) []error {
	switch e := err.(type) {
	case nil:
		return nil
	case list:
		return listAll(e)
	case interface{ Unwrap() []error }:
		if joined := e.Unwrap(); errors.Join(joined...) != nil && errors.Join(joined...).Error() == err.Error() {
			return listAll(joined)
		}
	}
	return []error{err}
}

func listAll(errs []error) []error {
	var out []error
	for _, err := range errs {
		out = append(out, List(err)...)
	}
	return out
}
