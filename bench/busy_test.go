package main

import (
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// parent says in the environment that the process is to start busy ones, and to wait to be killed.
const parent = "DBLOCKER_BENCH_TEST_PARENT"

func TestMain(m *testing.M) {
	spinIfTold()
	memoryIfTold()
	pairIfTold()
	if os.Getenv(parent) != "" {
		if _, err := spin(busyProcesses); err == nil {
			os.Stdout.WriteString("started\n")
		}
		select {}
	}
	os.Exit(m.Run())
}

// TestBusyProcessesTakeTime, and end when they are told to.
func TestBusyProcessesTakeTime(t *testing.T) {
	p, err := startBusy()
	if err != nil {
		t.Fatal(err)
	}
	const works = 500 * time.Millisecond // an idle one needs some milliseconds to begin, and a busy machine leaves it little
	time.Sleep(works)
	if err := p.pipe.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if took := p.cmd.ProcessState.UserTime(); took < works/20 {
		t.Errorf("it has taken %v of a processor in %v", took, works)
	}
}

// TestBusyProcessesDoNotOutliveTheBench: also if that is killed.
func TestBusyProcessesDoNotOutliveTheBench(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parent+"=yes")
	all, write, err := os.Pipe() // which all of them have, and so it ends with the last
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	cmd.Stderr = write
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if _, err := io.ReadFull(out, make([]byte, len("started\n"))); err != nil {
		t.Error("it has not started them")
	}
	cmd.Process.Kill()
	cmd.Wait()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, all)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a busy process goes on")
	}
}
