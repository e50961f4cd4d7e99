package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A table is a table of the report.
type table struct {
	title string
	head  []string
	rows  [][]string
	notes []string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer, markdown bool) {
	if markdown {
		t.markdown(w)
	} else {
		t.text(w)
	}
}

// text writes the table in aligned columns.
func (t *table) text(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", t.title)
	lines := append([][]string{t.head}, t.rows...)
	widths := make([]int, len(t.head))
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, cells := range lines {
		var line strings.Builder
		for i, cell := range cells {
			fmt.Fprintf(&line, "%-*s  ", widths[i], cell)
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	t.end(w)
}

// markdown writes the table as GitHub takes it.
func (t *table) markdown(w io.Writer) {
	fmt.Fprintf(w, "**%s**\n\n", t.title)
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	fmt.Fprintln(w, strings.Repeat("|---", len(t.head))+"|")
	for _, cells := range t.rows {
		line(cells)
	}
	t.end(w)
}

func (t *table) end(w io.Writer) {
	fmt.Fprintln(w)
	for _, note := range t.notes {
		fmt.Fprintf(w, "%s\n\n", note)
	}
}
