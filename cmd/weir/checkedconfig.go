// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"errors"

	"github.com/urfave/cli/v2"
	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
)

// checkedConfig is the configuration of the flags, checked as far as it can be without
// the namespace, so that bad input is told before anything is opened.
func checkedConfig(cc *cli.Context) (*config.File, error) {
	c, err := loadConfiguration(cc, cc.App.Reader)
	switch {
	case err == nil:
		return c, nil
	case c == nil:
		return nil, usageError{err}
	}
	return c, usageError{withUnknownNames(cc, c, err)}
}

// withUnknownNames is the error of a configuration with the users and groups that the
// target does not know either, where they can be looked up.
func withUnknownNames(cc *cli.Context, c *config.File, err error) error {
	asked := c.Lookups()
	asked.Resolvers = false
	_, said := flagValues(cc, "environment")
	if said || asked == (modes.Lookups{}) {
		return err
	}
	t, openErr := openTarget(cc, cc.String("netns"))
	if openErr != nil {
		return err // what is told without it is told
	}
	defer t.Close()
	env, readErr := capture.FileEnvironment(cc.Context, t, asked)
	if readErr != nil {
		return err
	}
	return c.CheckNames(env)
}

// optionalConfiguration is the configuration where one was given; a table's name
// alone is none.
func optionalConfiguration(cc *cli.Context) (c *config.File, ok bool, err error) {
	if configured(cc, "table") {
		c, err = checkedConfig(cc)
		return c, true, err
	}
	if err := refuseEnvironment(cc); err != nil {
		return c, false, err
	}
	c = &config.File{}
	if name, named := flagValues(cc, "table"); named {
		c.Table, err = name[0], checkTable(name[0])
	}
	return c, false, err
}

// refuseEnvironment refuses an environment where no configuration is read in it.
func refuseEnvironment(cc *cli.Context) error {
	if _, given := flagValues(cc, "environment"); given {
		return usageError{errors.New("--environment is about a configuration, and there is none")}
	}
	return nil
}

// givenEnvironment is what --environment says, nil without it.
func givenEnvironment(cc *cli.Context) (*modes.Environment, error) {
	name, ok := flagValues(cc, "environment")
	if !ok {
		return nil, nil
	}
	env, err := loadEnvironment(cc.Context, name[0])
	if err != nil {
		return nil, usageError{err}
	}
	return &env, nil
}
