//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// untilInterrupted returns a context that ends when the command is told to end: by a signal, or by the end of "go run", which
// dies of SIGTERM and SIGKILL without passing them on.
func untilInterrupted() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for parent := os.Getppid(); os.Getppid() == parent && ctx.Err() == nil; {
			time.Sleep(200 * time.Millisecond)
		}
		cancel()
	}()
	return ctx, cancel
}
