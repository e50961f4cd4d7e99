package lockpage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/plain"
)

// A frame is the page at one moment, in parts. Once made it is never changed.
type frame struct {
	time  time.Time
	shape string // which parts there are
	parts []part
}

// A part is an element of the page whose content changes.
type part struct {
	id    string
	html  string
	json  []byte    // of the html
	since time.Time // when it became so
}

// newFrame draws a view. Parts that are as in the last frame are taken from there.
func newFrame(v *View, last *frame) *frame {
	f := &frame{time: v.Time, parts: drawParts(v)}
	for i := range f.parts {
		p := &f.parts[i]
		f.shape += p.id + " "
		if last != nil && i < len(last.parts) && last.parts[i].id == p.id && last.parts[i].html == p.html {
			*p = last.parts[i]
			continue
		}
		p.since, p.json = f.time, inJSON(p.html)
	}
	for i := range v.Databases {
		f.shape += v.Databases[i].Name + "\n"
	}
	return f
}

// since returns the event that brings a client which has another frame up to date.
func (f *frame) since(seen *frame) []byte {
	if seen != nil && seen.shape != f.shape {
		return []byte("event: reload\ndata:\n\n")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `data: {"time":%q,"parts":{`, f.time.Format("15:04:05"))
	first := true
	for _, p := range f.parts {
		if seen != nil && !p.since.After(seen.time) {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.Write(inJSON(p.id))
		b.WriteByte(':')
		b.Write(p.json)
	}
	b.WriteString("}}\n\n")
	return b.Bytes()
}

func inJSON(s string) []byte {
	text, _ := json.Marshal(s)
	return plain.JSON(text)
}
