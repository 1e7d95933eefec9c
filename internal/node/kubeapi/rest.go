// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kubeapi

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

// core is a client of the core API's objects. client-go's own, of package kubernetes, knows the types of every API that
// Kubernetes has, which is a third of a program.
type core struct {
	rest  rest.Interface
	codec runtime.ParameterCodec
}

const (
	podsResource   = "pods"
	eventsResource = "events"
)

func newCore(config *rest.Config) (core, error) {
	known := runtime.NewScheme()
	if err := corev1.AddToScheme(known); err != nil {
		return core{}, err
	}
	of := rest.CopyConfig(config)
	of.APIPath, of.GroupVersion = "/api", &corev1.SchemeGroupVersion
	of.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	client, err := rest.RESTClientFor(of)
	return core{client, runtime.NewParameterCodec(known)}, err
}

func (c core) getPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	return p, c.rest.Get().Resource(podsResource).Namespace(namespace).Name(name).Do(ctx).Into(p)
}

// listPods lists those of every namespace.
func (c core) listPods(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	all := &corev1.PodList{}
	return all, c.rest.Get().Resource(podsResource).VersionedParams(&o, c.codec).Do(ctx).Into(all)
}

func (c core) watchPods(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch = true
	return c.rest.Get().Resource(podsResource).VersionedParams(&o, c.codec).Watch(ctx)
}

func (c core) patchPod(ctx context.Context, namespace, name string, patch []byte, subresources ...string) error {
	return c.rest.Patch(types.MergePatchType).Resource(podsResource).Namespace(namespace).Name(name).SubResource(subresources...).Body(patch).Do(ctx).Error()
}

func (c core) deletePod(ctx context.Context, namespace, name string, o metav1.DeleteOptions) error {
	return c.rest.Delete().Resource(podsResource).Namespace(namespace).Name(name).Body(&o).Do(ctx).Error()
}

func (c core) createEvent(ctx context.Context, e *corev1.Event) error {
	return c.rest.Post().Resource(eventsResource).Namespace(e.Namespace).Body(e).Do(ctx).Error()
}
