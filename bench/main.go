package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"slices"
	"syscall"
)

func main() {
	spinIfTold()
	pairIfTold()
	memoryIfTold()
	o := parseFlags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := profiled(o.profile, func() error { return run(ctx, o, os.Stdout, os.Stderr) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profiled writes a CPU profile of run to a file, unless its name is "".
func profiled(name string, run func() error) error {
	if name == "" {
		return run()
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err = pprof.StartCPUProfile(f); err == nil {
		err = run()
		pprof.StopCPUProfile()
	}
	return errors.Join(err, f.Close())
}

// options are what the flags say.
type options struct {
	suite    string
	selected selection
	plan     plan // zero fields are the suite's own
	disk     string
	busy     bool
	markdown bool
	svg      string
	profile  string
}

// A selection is the part of a suite that is run. The baselines always are.
type selection struct {
	engine, place, workload, contender *regexp.Regexp
}

func parseFlags() (o options) {
	flag.StringVar(&o.suite, "suite", "", "calls, load, scope or tenants (default all)")
	pattern := func(target **regexp.Regexp, name, usage string) {
		*target = regexp.MustCompile("")
		flag.Func(name, "regular `expression`: "+usage, func(s string) (err error) {
			*target, err = regexp.Compile(s)
			return err
		})
	}
	pattern(&o.selected.engine, "engine", "run calls and scope on these of sqlite, pq, pgx and mysql")
	pattern(&o.selected.place, "place", "run load and tenants on files in these of tmpfs and disk; with -busy also tmpfs-busy and disk-busy")
	pattern(&o.selected.workload, "workload", "run these workloads, named as in the report: query/plain/1, mix")
	pattern(&o.selected.contender, "contender", "run these contenders, beside the baseline")
	flag.IntVar(&o.plan.rounds, "rounds", 0, "rounds (default 7 for calls and scope, 5 for load and tenants)")
	flag.DurationVar(&o.plan.slice, "slice", 0, "the time a contender works on a workload in a round (default 70ms for calls, 300ms for load, 450ms for scope, 500ms for tenants)")
	quick := flag.Bool("quick", false, "run everything once, to see that it works; the figures mean nothing")
	flag.StringVar(&o.disk, "disk", os.TempDir(), "`directory` on a disk, for load and tenants")
	flag.BoolVar(&o.busy, "busy", false, "run load also beside two processes that keep the processors busy")
	flag.BoolVar(&o.markdown, "markdown", false, "write the report as markdown")
	flag.StringVar(&o.svg, "svg", "", "`directory` to write charts to")
	flag.StringVar(&o.profile, "cpuprofile", "", "`file` to write a profile to, whose label \"contender\" tells whose time it is: go tool pprof -tagfocus contender=dblocker")
	flag.Parse()
	if *quick {
		o.plan = quickPlan
	}
	if flag.NArg() > 0 || o.plan.rounds < 0 || o.plan.slice < 0 || o.suite != "" && !slices.ContainsFunc(suites, func(s suite) bool { return s.name == o.suite }) {
		flag.Usage()
		os.Exit(2)
	}
	return o
}
