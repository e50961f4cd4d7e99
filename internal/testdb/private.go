package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// A PrivateServer is a throwaway server of our own. It ends with this process at the latest, however that ends.
type PrivateServer struct {
	*Server
	cluster *cluster
	process *process // the last one started, possibly ended
}

// Launch starts a throwaway server from the installed binaries. Tests use PrivatePostgres and PrivateMySQL.
func Launch(e *Engine) (*PrivateServer, error) {
	if e.Installed() == "" {
		return nil, e.notInstalled()
	}
	c, err := newCluster(e.root(), e.abort)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	p := &PrivateServer{cluster: c}
	if err := p.launch(e); err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, errors.Join(err, c.remove()))
	}
	return p, nil
}

func (p *PrivateServer) launch(e *Engine) error {
	initialize, _ := e.programs()
	c := p.cluster
	if err := e.initialize(initialize, c); err != nil {
		return err
	}
	p.Server = &Server{Engine: e, Host: c.Host, User: c.User, Password: c.Password, params: e.params, running: p.running}
	return retry(func() error {
		if err := c.takePort(); err != nil {
			return err
		}
		p.Port = c.Port
		return p.start()
	})
}

// Close stops the server and removes all traces of it.
func (p *PrivateServer) Close() error {
	return errors.Join(p.stop(), p.cluster.remove())
}

// Stop shuts the server down in order, without waiting for its clients. Databases and address are there again after Start.
func (p *PrivateServer) Stop(t testing.TB) {
	t.Helper()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server by kill -9, as a crash would.
func (p *PrivateServer) Kill(t testing.TB) {
	t.Helper()
	if err := p.process.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Start starts the server after Stop or Kill.
func (p *PrivateServer) Start(t testing.TB) {
	t.Helper()
	if p.running() {
		t.Fatalf("%s: Start while it is running", p)
	}
	if err := retry(p.start); err != nil {
		t.Fatal(err)
	}
}

// Restart is Stop and Start.
func (p *PrivateServer) Restart(t testing.TB) {
	t.Helper()
	p.Stop(t)
	p.Start(t)
}

func (p *PrivateServer) running() bool { return p.process.running() }

func (p *PrivateServer) stop() error {
	return p.process.end(p.Engine.stop)
}

// errExited is a server that ended while it started.
var errExited = errors.New("server did not start")

// retry repeats a start that failed because another process had taken the port, which may pass.
func retry(start func() error) error {
	for attempt := 1; ; attempt++ {
		err := start()
		if !errors.Is(err, errExited) || attempt == 5 {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// startTimeout is generous, since test machines are busy.
const startTimeout = 2 * time.Minute

// start starts the server and returns when it answers.
func (p *PrivateServer) start() error {
	_, serve := p.Engine.programs()
	process, err := startProcess(p.cluster, p.Engine.serve(serve, p.cluster))
	if err != nil {
		return err
	}
	p.process = process
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := p.ping(ctx)
		switch {
		case !process.running():
			return fmt.Errorf("%w: %s", errExited, p.log())
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("server does not answer after %v: %w: %s", startTimeout, err, p.log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *PrivateServer) ping(ctx context.Context) error {
	db, err := p.Engine.open(p.Server)
	if err != nil {
		return err
	}
	defer db.Close()
	return db.PingContext(ctx)
}

// log is the end of what the server said.
func (p *PrivateServer) log() string {
	const most = 4 << 10
	b, err := os.ReadFile(p.cluster.logFile())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}
