//go:build unix

package lockpage

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a command and what it starts into a process group, and killGroup ends that.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
