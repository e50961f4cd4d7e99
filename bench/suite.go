package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/calmdocs/dblocker/internal/testdb"
)

// A suite is a part of the benchmark.
type suite struct {
	name    string
	plan    plan // the default
	groups  func(ctx context.Context, d *databases, o options, progress io.Writer) ([]group, error)
	report  func(g group, brief bool) []*table
	caption string                   // of the charts
	charted func(c *comparison) bool // whether it is in the chart of its group
}

// A group is what a suite compares on one engine, or at one place.
type group struct {
	name, title string
	all         []*comparison
}

var suites = []suite{
	{
		name: "calls", plan: plan{rounds: 7, slice: 70 * time.Millisecond},
		groups:  callGroups,
		report:  callReport,
		caption: "time of an operation against the bare driver, one goroutine, plain context; less is better",
		charted: func(c *comparison) bool { return strings.HasSuffix(c.workload, "/plain/1") },
	},
	{
		name: "load", plan: plan{rounds: 5, slice: 300 * time.Millisecond},
		groups:  loadGroups,
		report:  loadReport,
		caption: "operations per second against mattn/go-sqlite3 with tuned settings; more is better",
		charted: func(c *comparison) bool { return c.title == throughput.title },
	},
	{
		name: "scope", plan: plan{rounds: 7, slice: 450 * time.Millisecond},
		groups:  scopeGroups,
		report:  scopeReport,
		caption: "time of an operation against lock_scope=process, one goroutine; less is better",
		charted: func(c *comparison) bool { return strings.HasSuffix(c.workload, "/1") },
	},
	{
		name: "tenants", plan: plan{rounds: 5, slice: 500 * time.Millisecond},
		groups:  tenantGroups,
		report:  tenantReport,
		caption: "operations per second against mattn/go-sqlite3 with tuned settings and one file for all users; more is better",
		charted: func(c *comparison) bool { return c.title == busy.title },
	},
}

// quickPlan is enough to see that everything works.
var quickPlan = plan{rounds: 1, slice: time.Millisecond, crowd: 2}

// run runs the suites that are selected and reports on each.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	d := newDatabases(progress)
	defer func() { err = errors.Join(err, d.remove()) }()
	fmt.Fprintf(out, "%s\n\n", machine())
	ran := false
	for _, s := range suites {
		if o.suite != "" && o.suite != s.name {
			continue
		}
		groups, err := s.groups(ctx, d, o, progress)
		if err != nil {
			return err
		}
		if len(groups) == 0 {
			continue
		}
		ran = true
		if err := s.run(ctx, groups, o, out, progress); err != nil {
			return err
		}
	}
	if !ran {
		return errors.New("the flags leave nothing to run")
	}
	return nil
}

// run runs the suite. What an interrupt leaves of it is reported, too.
func (s suite) run(ctx context.Context, groups []group, o options, out, progress io.Writer) error {
	var all []*comparison
	for _, g := range groups {
		all = append(all, g.all...)
	}
	p := o.plan.or(s.plan)
	runErr := p.run(ctx, all, progress)
	done := len(all[0].entries[0].samples)
	if done == 0 {
		return runErr
	}
	fmt.Fprintf(out, "Suite %s: %d rounds, %v for each contender and workload in each.\n\n", s.name, done, p.slice)
	for _, g := range groups {
		for _, t := range s.report(g, o.markdown) {
			t.write(out, o.markdown)
		}
		if err := s.draw(g, o.svg); err != nil {
			return errors.Join(runErr, err)
		}
	}
	return runErr
}

// draw writes the chart of the group to the directory, unless that is "".
func (s suite) draw(g group, dir string) error {
	var charted []*comparison
	for _, c := range g.all {
		if s.charted(c) {
			charted = append(charted, c)
		}
	}
	if dir == "" || len(charted) == 0 {
		return nil
	}
	file := filepath.Join(dir, s.name+"-"+g.name+".svg")
	return os.WriteFile(file, []byte(newChart(g.title, s.caption, charted).svg()), 0o644)
}

// callGroups are the selected engines; those that are not installed are left out
// in words.
func callGroups(ctx context.Context, d *databases, o options, progress io.Writer) ([]group, error) {
	var groups []group
	for _, e := range engines {
		if !o.selected.engine.MatchString(e.name) {
			continue
		}
		all, err := callSuite(ctx, d, e, o.selected)
		switch {
		case errors.Is(err, testdb.ErrNotInstalled):
			fmt.Fprintf(progress, "%s is left out: %v\n", e.name, err)
		case err != nil:
			return nil, fmt.Errorf("%s: %w", e.name, err)
		case len(all) > 0:
			groups = append(groups, group{e.name, e.title, all})
		}
	}
	return groups, nil
}

func loadGroups(ctx context.Context, d *databases, o options, progress io.Writer) ([]group, error) {
	var groups []group
	places := []place{memory(), {name: "disk", dir: o.disk}}
	if o.busy {
		places = append(places, places[0].beside(busyProcesses), places[1].beside(busyProcesses))
	}
	for _, p := range places {
		if !o.selected.place.MatchString(p.name) {
			continue
		}
		all, err := loadSuite(ctx, d, p, o.selected)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if len(all) > 0 {
			groups = append(groups, group{p.name, p.title(), all})
		}
	}
	return groups, nil
}

func tenantGroups(ctx context.Context, d *databases, o options, _ io.Writer) ([]group, error) {
	var groups []group
	users, _ := o.plan.tenants()
	for _, p := range []place{memory(), {name: "disk", dir: o.disk}} {
		if !o.selected.place.MatchString(p.name) {
			continue
		}
		all, err := tenantSuite(ctx, d, p, o.selected, users)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		if len(all) > 0 {
			groups = append(groups, group{p.name, p.title() + ", a file for each user", all})
		}
	}
	return groups, nil
}

// scopeGroups are the selected engines, those that have servers at each distance.
func scopeGroups(ctx context.Context, d *databases, o options, progress io.Writer) ([]group, error) {
	var groups []group
	for _, dist := range distances {
		far := dist.from(d)
		for _, e := range engines {
			if e.server == nil && dist != 0 || !o.selected.engine.MatchString(e.name) {
				continue
			}
			all, err := scopeSuite(ctx, far, e, o.selected)
			switch {
			case errors.Is(err, testdb.ErrNotInstalled):
				fmt.Fprintf(progress, "%s is left out: %v\n", e.name, err)
			case err != nil:
				return nil, fmt.Errorf("%s, %v: %w", e.name, dist, err)
			case len(all) > 0:
				groups = append(groups, group{fmt.Sprintf("%s-%s", e.name, dist), e.titleAt(dist), all})
			}
		}
	}
	return groups, nil
}

func callReport(g group, brief bool) []*table {
	tables := []*table{callSummary(g.title, g.all)}
	if !brief {
		tables = append(tables, callDetails(g.title, g.all))
	}
	return tables
}

func scopeReport(g group, _ bool) (tables []*table) {
	var rest []*comparison
	for _, c := range g.all {
		if c.workload == pairWorkload {
			title := fmt.Sprintf("%s: %d writers in each of two processes", g.title, pairWriters)
			tables = append(tables, loadDetails(title, c))
		} else {
			rest = append(rest, c)
		}
	}
	if len(rest) > 0 {
		tables = append([]*table{scopeSummary(g.title, rest)}, tables...)
	}
	return tables
}

func loadReport(g group, _ bool) []*table {
	tables := []*table{loadSummary(g.title, g.all)}
	for _, c := range g.all {
		tables = append(tables, loadDetails(g.title+", "+c.workload, c))
	}
	return tables
}

func tenantReport(g group, _ bool) (tables []*table) {
	var loads []*comparison
	for _, c := range g.all {
		if c.workload == memoryWorkload {
			tables = append(tables, memoryTable(g.title, c))
			continue
		}
		loads = append(loads, c)
		tables = append(tables, loadDetails(g.title+", "+c.workload, c))
	}
	if len(loads) > 0 {
		tables = append([]*table{loadSummary(g.title, loads)}, tables...)
	}
	return tables
}
