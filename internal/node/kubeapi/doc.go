// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package kubeapi is what the node's agent knows from an API server: the pods of its own node, and labels and
// annotations of namespaces. What it keeps is stripped to what is read. It writes events about pods, the
// annotation of the ambient mesh, and what repairs a pod: nothing else.
package kubeapi

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// Client is an agent's view of a cluster. Its methods may be called from several goroutines.
type Client struct {
	node       string
	core       core
	pods       cache.SharedIndexInformer
	namespaces cache.SharedIndexInformer
	events     chan event
	log        *slog.Logger
}

const byUID = "uid"

// Connect makes a client by a kubeconfig or, where none is named, by the pod's own service account. It asks
// nothing yet.
func Connect(kubeconfig, node, userAgent string, log *slog.Logger) (*Client, error) {
	klog.SetSlogLogger(log) // what client-go tells by itself
	config, err := configOf(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = userAgent
	config.QPS, config.Burst = 20, 50
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := newCore(config)
	if err != nil {
		return nil, err
	}
	meta, err := metadata.NewForConfig(metadata.ConfigFor(config))
	if err != nil {
		return nil, err
	}
	c := &Client{node: node, core: core, log: log, events: make(chan event, maxEvents)}
	only := fields.OneTermEqualSelector("spec.nodeName", node).String()
	c.pods = cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = only
			return core.listPods(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = only
			return core.watchPods(ctx, o)
		},
	}, &corev1.Pod{}, 0, cache.Indexers{byUID: func(o any) ([]string, error) {
		p, is := o.(*corev1.Pod)
		if !is {
			return nil, fmt.Errorf("%T is not a pod", o)
		}
		return []string{string(p.UID)}, nil
	}})
	spaces := meta.Resource(corev1.SchemeGroupVersion.WithResource("namespaces"))
	c.namespaces = cache.NewSharedIndexInformer(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return spaces.List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return spaces.Watch(ctx, o)
		},
	}, &metav1.PartialObjectMetadata{}, 0, nil)
	if err := c.pods.SetTransform(stripPod); err != nil {
		return nil, err
	}
	return c, c.namespaces.SetTransform(stripNamespace)
}

func configOf(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// InCluster reports whether the program runs in a pod that has a service account.
func InCluster() bool {
	_, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount/token")
	return err == nil && os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// Run follows the cluster until the context ends, and calls changed for each pod of the node, or namespace, of which
// something else is kept than before. While the API server does not answer, what is known stays.
func (c *Client) Run(ctx context.Context, changed func(), failing func(error)) error {
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() },
		UpdateFunc: func(before, now any) {
			if !same(before, now) {
				changed()
			}
		},
		DeleteFunc: func(any) { changed() },
	}
	for _, i := range []cache.SharedIndexInformer{c.pods, c.namespaces} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return err
		}
		if err := i.SetWatchErrorHandler(func(_ *cache.Reflector, err error) { failing(err) }); err != nil {
			return err
		}
		go i.RunWithContext(ctx)
	}
	c.writeEvents(ctx, c.writeEvent)
	return nil
}

// Synced reports whether everything was listed once.
func (c *Client) Synced() bool { return c.pods.HasSynced() && c.namespaces.HasSynced() }

// AwaitSynced waits for that, and reports whether it came.
func (c *Client) AwaitSynced(ctx context.Context) bool {
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		if c.Synced() {
			tick.Stop()
			return true
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return false
		case <-tick.C:
		}
	}
}
