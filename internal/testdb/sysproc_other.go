//go:build !unix

package testdb

import "syscall"

const canLaunch = false

func detached(*account) *syscall.SysProcAttr { return nil }
