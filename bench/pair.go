package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/calmdocs/dblocker"
)

// pairWorkload is an operation of the suite "scope" on SQLite: an update, beside another process that does nothing else, on the same file.
const pairWorkload, pairWriters = "pair", 32

// pairing is in the environment of that other process: the name of the contender, and the DSN.
const pairing = "DBLOCKER_BENCH_PAIR"

// pairIfTold makes the process write, if it was started for that, until the one that has started it closes the pipe. Then it prints
// how many of its writes have failed.
func pairIfTold() {
	name, dsn, told := strings.Cut(os.Getenv(pairing), " ")
	if !told {
		return
	}
	failed, err := pairWork(name, dsn)
	fmt.Println(failed, err)
	os.Exit(0)
}

func pairWork(name, dsn string) (failed int, err error) {
	var db *sql.DB
	for _, w := range reaches {
		if w.name == name {
			db, err = w.open(engines[0], dsn)
		}
	}
	if err != nil {
		return 0, err
	}
	defer db.Close()
	db.SetMaxIdleConns(maxIdle)
	done := make(chan struct{})
	var mu sync.Mutex // guards failed and err
	var all sync.WaitGroup
	for i := range pairWriters {
		ctx := dblocker.WithUser(context.Background(), pairWriters+i)
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, e := db.ExecContext(ctx, "UPDATE items SET n = n WHERE id = ?", i+1); e != nil {
					mu.Lock()
					failed, err = failed+1, e
					mu.Unlock()
				}
			}
		})
	}
	fmt.Println("writing")
	io.Copy(io.Discard, os.Stdin)
	close(done)
	all.Wait()
	return failed, err
}

// A pair is the other process.
type pair struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.Reader
}

func startPair(r *reach) (p *pair, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p = &pair{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), pairing+"="+r.name+" "+r.dsn)
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if p.out, err = p.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	word := make([]byte, len("writing\n"))
	_, err = io.ReadFull(p.out, word)
	return p, err
}

// end ends it, and returns what has failed there.
func (p *pair) end() error {
	p.in.Close()
	last, _ := io.ReadAll(p.out)
	err := p.cmd.Wait()
	if text := strings.TrimSpace(string(last)); text != "0 <nil>" {
		err = errors.Join(err, fmt.Errorf("writes that failed in the other process, and why: %s", text))
	}
	return err
}

// besidePair makes a trial one beside another process, whose failed writes count as this one's.
func (r *reach) besidePair(t *trial) (*trial, error) {
	other, err := startPair(r)
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	for i, work := range t.workers {
		t.workers[i] = func(t *tally) error {
			began := time.Now()
			err := work(t)
			t.writes = append(t.writes, time.Since(began))
			return err
		}
	}
	end := t.close
	failed := other.end
	t.close = func() error { return errors.Join(failed(), end()) }
	return t, nil
}
