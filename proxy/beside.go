// SPDX-License-Identifier: Apache-2.0

//go:build linux

package proxy

// beside is a goroutine that runs one function after the other beside its owner. It stays, for the stack of a new one
// grows several times in a connection.
type beside struct {
	work chan func()
	done chan struct{}
}

func newBeside() *beside { return &beside{done: make(chan struct{})} }

// run has it run f, until wait.
func (b *beside) run(f func()) {
	if b.work == nil {
		b.work = make(chan func())
		go func() {
			for f := range b.work {
				f()
				b.done <- struct{}{}
			}
		}()
	}
	b.work <- f
}

func (b *beside) wait() { <-b.done }

// end ends the goroutine, which waits.
func (b *beside) end() {
	if b.work != nil {
		close(b.work)
	}
}
