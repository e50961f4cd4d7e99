//go:build unix

package processes

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A proxy stands between a process and the server. It can close connections, or swallow what is sent on them.
type proxy struct {
	to       string
	listener net.Listener
	all      sync.WaitGroup

	hangs sync.RWMutex // written while nothing is passed on

	mu    sync.Mutex // guards conns
	conns map[*proxied]bool
}

// A proxied is a connection through the proxy.
type proxied struct {
	client, server net.Conn
	swallows       atomic.Bool // for good: what was lost cannot be sent later
}

func newProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{to: to, listener: l, conns: make(map[*proxied]bool)}
	p.all.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.all.Wait()
	})
	return p
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.all.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	c := &proxied{client: client, server: server}
	p.mu.Lock()
	p.conns[c] = true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.copy(server, client, &p.hangs) })
	both.Go(func() { c.copy(client, server, &p.hangs) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
}

func (c *proxied) copy(to, from net.Conn, hangs *sync.RWMutex) {
	defer c.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		hangs.RLock()
		if n > 0 && !c.swallows.Load() {
			if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
				err = writeErr
			}
		}
		hangs.RUnlock()
		if err != nil {
			return
		}
	}
}

func (c *proxied) close() {
	c.client.Close()
	c.server.Close()
}

// those returns the connections that there are now.
func (p *proxy) those() (all []*proxied) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}

// cut closes all connections.
func (p *proxy) cut() {
	for _, c := range p.those() {
		c.close()
	}
}

// hang passes nothing on until the server is back.
func (p *proxy) hang() (isBack func()) {
	p.hangs.Lock()
	return p.hangs.Unlock
}

// swallow takes whatever comes on the connections that there are, and passes nothing on, until closed is called.
func (p *proxy) swallow() (closed func()) {
	all := p.those()
	for _, c := range all {
		c.swallows.Store(true)
	}
	return func() {
		for _, c := range all {
			c.close()
		}
	}
}
