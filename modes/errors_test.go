package modes

import (
	"errors"
	"fmt"
	"testing"
)

func TestConfigErrorSaysWhereThenWhatThenWhy(t *testing.T) {
	e := &ConfigError{Key: "outbound.excludePorts", Word: "70000", Problem: "is not a port"}
	if got, want := e.Error(), `outbound.excludePorts: "70000" is not a port`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	whole := &ConfigError{Key: "proxy", Problem: "needs uids"}
	if got, want := whole.Error(), "proxy: needs uids"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	broken := &ConfigError{Key: "a\nb", Problem: "is no key"}
	if got, want := broken.Error(), `"a\nb": is no key`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var config *ConfigError
	if !errors.As(fmt.Errorf("apply: %w", errors.Join(e, whole)), &config) || config != e {
		t.Errorf("errors.As found %v", config)
	}
}
