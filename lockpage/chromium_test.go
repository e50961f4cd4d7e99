package lockpage

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// A chromium is a browser without a window, told what to do by the DevTools protocol over a pipe: no port, and no package for it.
type chromium struct {
	t    testing.TB
	to   *os.File
	id   atomic.Int64
	come chan message
}

type message struct {
	ID        int64           `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// startChromium starts one, or skips the test where there is none.
func startChromium(t testing.TB) *chromium {
	t.Helper()
	path, env := findBrowser(t)
	fromUs, to := pipe(t)
	from, toUs := pipe(t)
	// Its own directory is removed by hand, as it may write to it until it is gone.
	dir, err := os.MkdirTemp("", "lockpage-chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--font-render-hinting=none",
		"--remote-debugging-pipe", "--user-data-dir="+filepath.Join(dir, "profile"), "about:blank")
	cmd.Env = append(append(os.Environ(), "HOME="+dir, "TZ=UTC"), env...)
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4
	ownGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	c := &chromium{t: t, to: to, come: make(chan message, 1000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.read(from)
	}()
	t.Cleanup(func() {
		killGroup(cmd)
		cmd.Wait()
		to.Close()
		<-read
		from.Close()
		os.RemoveAll(dir)
	})
	return c
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func (c *chromium) read(from *os.File) {
	defer close(c.come)
	s := bufio.NewScanner(from)
	s.Buffer(nil, 64<<20)
	s.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, 0); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for s.Scan() {
		var m message
		if json.Unmarshal(s.Bytes(), &m) == nil && m.ID != 0 {
			c.come <- m
		}
	}
}

type params map[string]any

// call calls a method, and waits for its result. There is one at a time.
func (c *chromium) call(session, method string, p params, result any) {
	c.t.Helper()
	if p == nil {
		p = params{}
	}
	id := c.id.Add(1)
	text, err := json.Marshal(message{ID: id, SessionID: session, Method: method, Params: p})
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.to.Write(append(text, 0)); err != nil {
		c.t.Fatal(err)
	}
	timeout := time.After(time.Minute)
	for {
		select {
		case m, ok := <-c.come:
			switch {
			case !ok:
				c.t.Fatalf("%s: the browser is gone", method)
			case m.ID != id:
				continue
			case m.Error != nil:
				c.t.Fatalf("%s: %s", method, m.Error)
			case result != nil:
				if err := json.Unmarshal(m.Result, result); err != nil {
					c.t.Fatalf("%s: %v", method, err)
				}
			}
			return
		case <-timeout:
			c.t.Fatalf("%s: no answer", method)
		}
	}
}

// A tab is one page of the browser.
type tab struct {
	*chromium
	target, session string
}

func (c *chromium) tab(url string) *tab {
	c.t.Helper()
	var target struct{ TargetID string }
	c.call("", "Target.createTarget", params{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.call("", "Target.attachToTarget", params{"targetId": target.TargetID, "flatten": true}, &session)
	tb := &tab{c, target.TargetID, session.SessionID}
	c.call(tb.session, "Page.navigate", params{"url": url}, nil)
	tb.until("document.readyState === 'complete' && location.href !== 'about:blank'")
	return tb
}

func (tb *tab) close() { tb.call("", "Target.closeTarget", params{"targetId": tb.target}, nil) }

// do evaluates JavaScript, and returns its value as text.
func (tb *tab) do(script string) string {
	tb.t.Helper()
	var r struct {
		Result struct {
			Value any
		}
		ExceptionDetails json.RawMessage
	}
	tb.call(tb.session, "Runtime.evaluate", params{"expression": script, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		tb.t.Fatalf("%s: %s", script, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// until waits until an expression is true.
func (tb *tab) until(script string) {
	tb.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if tb.do("Boolean("+script+")") == "true" {
			return
		}
	}
	tb.t.Fatalf("not true in a minute: %s\nthe page: %s", script, tb.do("document.body.innerText"))
}

// resize makes the tab a window of that size, in light or dark.
func (tb *tab) resize(width, height int, scheme string) {
	tb.call(tb.session, "Emulation.setDeviceMetricsOverride", params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	tb.call(tb.session, "Emulation.setEmulatedMedia", params{"features": []params{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture takes a PNG of the window.
func (tb *tab) picture(file string) {
	var r struct{ Data string }
	tb.call(tb.session, "Page.captureScreenshot", params{"format": "png"}, &r)
	content, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(file, content, 0o644)
	}
	if err != nil {
		tb.t.Fatal(err)
	}
}
