//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// patience is go test's own limit for a package, unless the flags set another: it is there to show what hangs, and the tests of
// the drivers are many for a slow machine.
const patience = "-timeout=30m"

// notCounted matches the flags whose output is no list of tests that have ended.
var notCounted = regexp.MustCompile(`^--?((test\.)?(json|fuzz|list)|c|args|n|x)(=|$)`)

// goTest runs all tests of a module, and counts them unless the flags forbid it. It gets a process group of its own, so that a
// signal which reaches only us can be passed on to the test programs as well. It calls built when the tests of the first package begin,
// if it counts.
func goTest(ctx context.Context, dir string, flags, env []string, built func()) (*tally, error) {
	if slices.ContainsFunc(flags, notCounted.MatchString) {
		return nil, goTestTo(ctx, os.Stdout, dir, flags, env)
	}
	t := newTally(os.Stdout, flags)
	t.built = built
	r, w, err := os.Pipe()
	if err != nil {
		return t, err
	}
	counted := make(chan struct{})
	go func() {
		t.read(r)
		close(counted)
	}()
	start := time.Now()
	err = goTestTo(ctx, w, dir, append([]string{"-json"}, flags...), env)
	t.took = time.Since(start)
	w.Close()
	<-counted
	r.Close()
	return t, err
}

// goTestTo hands go test the file itself: what a killed test leaves running must not keep us waiting.
func goTestTo(ctx context.Context, out *os.File, dir string, flags, env []string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", patience, "./..."}, flags...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second // then it is killed
	group, err := newGroup()
	if err != nil {
		return err
	}
	defer group.kill()
	if err := cmd.Start(); err != nil {
		return err
	}
	group.set(cmd.Process.Pid)
	return cmd.Wait()
}

// A group kills a process group on demand, and when this process ends, even by kill -9: test programs outlive a killed
// "go test" and would keep their private servers. A shell waits for it on a pipe that only we hold.
type group struct {
	shell *exec.Cmd
	pipe  io.WriteCloser
}

func newGroup() (*group, error) {
	g := &group{shell: exec.Command("sh", "-c", `read -r group && { read -r _; kill -9 "-$group"; }`)}
	g.shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's signals are not for it
	var err error
	if g.pipe, err = g.shell.StdinPipe(); err != nil {
		return nil, err
	}
	return g, g.shell.Start()
}

func (g *group) set(id int) {
	fmt.Fprintln(g.pipe, id)
}

func (g *group) kill() {
	g.pipe.Close()
	g.shell.Wait() // its status is that of kill, which fails when all have ended
}
