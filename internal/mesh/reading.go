// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-mesh/weir/internal/mesh/options"
	"github.com/weir-mesh/weir/internal/problems"
	"github.com/weir-mesh/weir/internal/term"
	"github.com/weir-mesh/weir/modes"
)

// Problem is a value of an annotation that means nothing.
type Problem struct {
	Annotation string // or what else says it
	Text       string // the place in it, what is there and what was wanted
}

func (p *Problem) Error() string {
	if p.Annotation == nomadConfig {
		return "argument " + p.Annotation + ": " + p.Text
	}
	return "annotation " + p.Annotation + ": " + p.Text
}

// maxValue is how many bytes of an annotation are read. Kubernetes allows a pod's annotations 256 KiB in
// all.
const maxValue = 256 << 10

// reading is a decision while annotations are read into it.
type reading struct {
	Decision
	pod          Pod
	namespaceToo bool // annotations of the namespace count
	names        map[modes.Ref]string
	document     string // the annotation that holds a whole configuration of the mesh's, "" where there is none
	problems     []error
}

func (r *reading) problem(annotation, format string, args ...any) {
	r.problems = append(r.problems, &Problem{annotation, fmt.Sprintf(format, args...)})
}

// wrong are problems with options: of the annotation that is for the option where it is set, otherwise of a
// field of the document.
func (r *reading) wrong(problems []options.Problem, annotations, fields map[options.Option]string) {
	for _, p := range problems {
		if p.Entry > 0 {
			p.Text = fmt.Sprintf("entry %d: %s", p.Entry, p.Text)
		}
		annotation := annotations[p.Option]
		if _, set := r.pod.annotation(annotation, r.namespaceToo); !set {
			annotation, p.Text = r.document, fields[p.Option]+": "+p.Text
		}
		r.problem(annotation, "%s", p.Text)
	}
}

// value is the value of an annotation.
func (r *reading) value(annotation string) (value string, set bool) {
	value, set = r.pod.annotation(annotation, r.namespaceToo)
	if len(value) > maxValue {
		r.problem(annotation, "has %d bytes (want at most %d)", len(value), maxValue)
		return "", false
	}
	return strings.TrimSpace(value), set
}

// list is the words of an annotation that is a list with commas: empty, and not nil, for none.
func (r *reading) list(annotation string) (words []string, set bool) {
	value, set := r.value(annotation)
	return options.Split(value), set
}

func (r *reading) ports(annotation string, to *[]modes.PortWord) {
	if words, set := r.list(annotation); set {
		*to = options.PortWords(words)
	}
}

func (r *reading) words(annotation string, to *[]string) {
	if words, set := r.list(annotation); set {
		*to = words
	}
}

// number is the value of an annotation that is a number within those bounds.
func (r *reading) number(annotation, what string, low, high uint64) (value string, set bool) {
	value, set = r.value(annotation)
	if !set || value == "" {
		return "", false
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n < low || n > high {
		r.problem(annotation, "%q is not a %s (want a number of %d-%d)", term.Shorten(value), what, low, high)
		return "", false
	}
	return strconv.FormatUint(n, 10), true
}

// yes is the value of an annotation that is true or false, with the words that meshes accept for them.
func (r *reading) yes(annotation string) (yes, set bool) {
	value, set := r.value(annotation)
	if !set || value == "" {
		return false, false
	}
	yes, known := parseBool(value)
	if !known {
		r.problem(annotation, "%q is neither true nor false", term.Shorten(value))
	}
	return yes, known
}

func parseBool(word string) (yes, known bool) {
	switch strings.ToLower(word) {
	case "enabled", "yes", "on":
		return true, true
	case "disabled", "no", "off":
		return false, true
	}
	yes, err := strconv.ParseBool(word)
	return yes, err == nil
}

// check joins what is wrong with the annotations, those of the configuration by their own names.
func (r *reading) check() error {
	return problems.Join(append(r.problems, r.explain(modes.Check(r.Config)))...)
}

// explain names annotations in errors of the configuration.
func (r *reading) explain(err error) error {
	var all []error
	for _, e := range problems.List(err) {
		all = append(all, r.named(e))
	}
	return problems.Join(all...)
}

// named is an error of a configuration that names annotations. What no annotation says, the node's own
// configuration does.
func (r *reading) named(err error) error {
	var config *modes.ConfigError
	if !errors.As(err, &config) {
		return err
	}
	annotation, known := r.names[modes.Ref{Key: config.Key}]
	if _, set := r.pod.annotation(annotation, r.namespaceToo); !known || !set {
		if r.document != "" {
			return &Problem{r.document, err.Error()}
		}
		return fmt.Errorf("the node's defaults for %s: %w", r.By, err)
	}
	renamed := config.Renamed(func(ref modes.Ref) string {
		if n := r.names[ref]; n != "" {
			return n
		}
		if n := r.names[modes.Ref{Key: ref.Key}]; n != "" && ref.Value != "" {
			return n + " " + ref.Value
		}
		return ref.String()
	})
	text := renamed.Detail()
	if words, _ := r.list(annotation); len(words) > 1 {
		if at := slices.Index(words, config.Word); at >= 0 {
			text = fmt.Sprintf("entry %d: %s", at+1, text)
		}
	}
	return &Problem{annotation, text}
}

// with is a list and further words, each once.
func with[W ~string](list []W, more ...W) []W {
	out := slices.Clone(list)
	for _, w := range more {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}
