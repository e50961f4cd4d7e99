package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A proxy is a way to a server that takes longer: what either side sends arrives after the delay. What is sent meanwhile is
// under way too.
type proxy struct {
	to    string
	delay time.Duration
	in    net.Listener
	sent  atomic.Int64 // messages to the server: what arrived by one read

	mu   sync.Mutex // guards what follows
	open map[net.Conn]bool
	shut bool
	work sync.WaitGroup
}

// newProxy begins to lead to an address.
func newProxy(to string, delay time.Duration) (*proxy, error) {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{to: to, delay: delay, in: in, open: make(map[net.Conn]bool)}
	p.work.Go(p.accept)
	return p, nil
}

func (p *proxy) port() int { return p.in.Addr().(*net.TCPAddr).Port }

func (p *proxy) accept() {
	for {
		client, err := p.in.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			client.Close()
			continue
		}
		if p.add(client, server) {
			p.work.Go(func() { p.forward(client, server, &p.sent) })
			p.work.Go(func() { p.forward(server, client, new(atomic.Int64)) })
		}
	}
}

// add closes both instead if the proxy is closed.
func (p *proxy) add(both ...net.Conn) (added bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range both {
		if p.shut {
			c.Close()
		} else {
			p.open[c] = true
		}
	}
	return !p.shut
}

// A packet is what has arrived by one read, and when it is to be sent.
type packet struct {
	data []byte
	due  time.Time
}

// forward sends what one side says to the other, counts it, and closes both when either has ended.
func (p *proxy) forward(from, to net.Conn, count *atomic.Int64) {
	packets := make(chan packet, 1000)
	p.work.Go(func() {
		defer p.closeBoth(from, to)
		for next := range packets {
			time.Sleep(time.Until(next.due))
			if _, err := to.Write(next.data); err != nil {
				return
			}
		}
	})
	defer close(packets)
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			count.Add(1)
			select {
			case packets <- packet{buffer[:n], time.Now().Add(p.delay)}:
			default: // the other side does not read
				p.closeBoth(from, to)
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *proxy) closeBoth(a, b net.Conn) {
	a.Close()
	b.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, a)
	delete(p.open, b)
}

// close ends all that goes through it.
func (p *proxy) close() error {
	p.mu.Lock()
	p.shut = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	err := p.in.Close()
	p.work.Wait()
	return err
}
