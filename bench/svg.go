package main

import (
	"fmt"
	"html"
	"strings"
)

// A chart is bars in groups, one bar for each contender, on one scale that begins
// at zero.
type chart struct {
	title   string
	caption string // what a bar is, and which direction is better
	groups  []barGroup
}

type barGroup struct {
	title string
	bars  []bar
}

type bar struct {
	name  string
	value spread
}

// newChart draws the figures of comparisons.
func newChart(title, caption string, all []*comparison) *chart {
	c := &chart{title: title, caption: caption}
	for _, compared := range all {
		group := barGroup{title: compared.workload}
		for i, e := range compared.entries {
			group.bars = append(group.bars, bar{e.contender, compared.spread(i)})
		}
		c.groups = append(c.groups, group)
	}
	return c
}

// Sizes in pixels. The greys and blues are legible on white and on black, since an
// image does not know the background of the page that shows it.
const (
	chartWidth = 760
	nameWidth  = 130
	valueWidth = 60
	barHeight  = 14
	barStep    = 18
	groupStep  = 30
	headHeight = 60
	mostShown  = 4.0 // longer bars are cut off, and their figure says so

	textColor     = "#6e7781"
	baselineColor = "#8c959f"
	peerColor     = "#c29a5b"
	ourColor      = "#2f81f7"
)

// svg writes the chart as an SVG document of its own.
func (c *chart) svg() string {
	var b strings.Builder
	height := c.height()
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12" fill="%s">`+"\n",
		chartWidth, height, textColor)
	fmt.Fprintf(&b, `<text x="0" y="18" font-size="16" font-weight="bold">%s</text>`+"\n", html.EscapeString(c.title))
	fmt.Fprintf(&b, `<text x="0" y="38">%s</text>`+"\n", html.EscapeString(c.caption))
	y := headHeight
	for _, group := range c.groups {
		fmt.Fprintf(&b, `<text x="0" y="%d" font-weight="bold">%s</text>`+"\n", y+barHeight-2, html.EscapeString(group.title))
		y += barStep
		for _, bar := range group.bars {
			c.bar(&b, bar, y)
			y += barStep
		}
		y += groupStep - barStep
	}
	one := c.x(1)
	fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-dasharray="3 3"/>`+"\n", one, headHeight, one, height, textColor)
	b.WriteString("</svg>\n")
	return b.String()
}

// bar draws the median as a bar, and a line from the least to the most.
func (c *chart) bar(b *strings.Builder, bar bar, y int) {
	middle := y + barHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", nameWidth-8, y+barHeight-3, html.EscapeString(bar.name))
	label := short(bar.value.median)
	if bar.value.median > mostShown {
		label += " →"
	}
	end := float64(nameWidth)
	if known(bar.value.median) {
		end = c.x(bar.value.median)
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", nameWidth, y, end-nameWidth, barHeight, color(bar.name))
	}
	if known(bar.value.least) && known(bar.value.most) {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="2"/>`+"\n",
			c.x(bar.value.least), middle, c.x(bar.value.most), middle, textColor)
		end = max(end, c.x(bar.value.most))
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`+"\n", end+6, y+barHeight-3, label)
}

func color(contender string) string {
	switch {
	case strings.HasPrefix(contender, "dblocker"):
		return ourColor
	case contender == "bare" || contender == baselineWay:
		return baselineColor
	}
	return peerColor
}

func (c *chart) height() int {
	height := headHeight
	for _, group := range c.groups {
		height += len(group.bars)*barStep + groupStep
	}
	return height
}

// x is where a figure is on the scale.
func (c *chart) x(value float64) float64 {
	return nameWidth + min(value, mostShown)/c.scale()*(chartWidth-nameWidth-valueWidth)
}

// scale is the figure at the right end.
func (c *chart) scale() float64 {
	scale := 1.0
	for _, group := range c.groups {
		for _, bar := range group.bars {
			if known(bar.value.most) {
				scale = max(scale, bar.value.most)
			}
		}
	}
	return min(scale, mostShown)
}
