// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// event is what happened to a pod's capture.
type event struct {
	namespace, name, uid string
	warning              bool
	reason, message      string
}

const (
	maxEvents  = 256              // that wait: those beyond are lost, and are in the log
	maxNote    = 1000             // bytes of a message, of which an event holds a kilobyte
	eventPause = 10 * time.Second // of a pod, between two events of one reason
	writeTime  = 5 * time.Second
)

// Event tells of a pod, where kubectl describe shows it. It waits for nothing.
func (c *Client) Event(namespace, name, uid string, warning bool, reason, message string) {
	message = escape.Text(strings.Join(strings.Fields(message), " "))
	if len(message) > maxNote {
		message = strings.ToValidUTF8(message[:maxNote], "") + "..."
	}
	select {
	case c.events <- event{namespace: namespace, name: name, uid: uid, warning: warning, reason: reason, message: message}:
	default:
	}
}

// writeEvents writes events one after the other until the context ends. Of one pod and reason there is one
// each ten seconds; of those that come sooner, the last is written once they have passed.
func (c *Client) writeEvents(ctx context.Context, write func(context.Context, event) error) {
	last, held := map[string]time.Time{}, map[string]event{}
	one := func(key string, e event) {
		delete(held, key)
		last[key] = time.Now()
		if err := write(ctx, e); err != nil && ctx.Err() == nil {
			c.log.Warn("an event was not written", "pod", e.namespace+"/"+e.name, "reason", e.reason, "error", err)
		}
	}
	tick := time.NewTicker(eventPause / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.events:
			key := e.namespace + "/" + e.name + " " + e.uid + " " + e.reason
			if time.Since(last[key]) < eventPause {
				held[key] = e
				continue
			}
			one(key, e)
		case <-tick.C:
			for key, at := range last {
				if time.Since(at) < eventPause {
					continue
				}
				if e, waits := held[key]; waits {
					one(key, e)
				} else {
					delete(last, key)
				}
			}
		}
	}
}

func (c *Client) writeEvent(ctx context.Context, e event) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	kind := corev1.EventTypeNormal
	if e.warning {
		kind = corev1.EventTypeWarning
	}
	now := metav1.Now()
	return c.core.createEvent(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%.200s.%x", e.name, now.UnixNano()), Namespace: e.namespace},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: e.namespace, Name: e.name, UID: types.UID(e.uid)},
		Type:           kind, Reason: e.reason, Message: e.message, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: "weir-node", Host: c.node}, ReportingController: "weir-node", ReportingInstance: c.node,
	})
}

// Annotate writes an annotation of a pod through its status, for which no more than pods/status is to be
// permitted; "" takes the annotation away.
func (c *Client) Annotate(ctx context.Context, namespace, name, uid, annotation, value string) error {
	var to any
	if value != "" {
		to = value
	}
	return c.patch(ctx, namespace, name, uid, map[string]any{"annotations": map[string]any{annotation: to}}, "status")
}

// Label writes a label of a pod, which takes patch of pods.
func (c *Client) Label(ctx context.Context, namespace, name, uid, label, value string) error {
	return c.patch(ctx, namespace, name, uid, map[string]any{"labels": map[string]any{label: value}})
}

func (c *Client) patch(ctx context.Context, namespace, name, uid string, metadata map[string]any, subresources ...string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	if uid != "" {
		metadata["uid"] = uid // a conflict where another pod has the name now
	}
	text, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	return c.core.patchPod(ctx, namespace, name, text, subresources...)
}

// Delete deletes a pod, which takes delete of pods.
func (c *Client) Delete(ctx context.Context, namespace, name, uid string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	options := metav1.DeleteOptions{}
	if uid != "" {
		id := types.UID(uid)
		options.Preconditions = &metav1.Preconditions{UID: &id}
	}
	return c.core.deletePod(ctx, namespace, name, options)
}
