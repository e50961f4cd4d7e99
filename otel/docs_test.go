package dblockerotel_test

import (
	"database/sql"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	dblockerotel "github.com/calmdocs/dblocker/otel"
)

// A listingMeter makes instruments that do nothing, and lists them with their units.
type listingMeter struct {
	noop.Meter
	units map[string]string
}

type listingProvider struct {
	noop.MeterProvider
	meter *listingMeter
}

func (p listingProvider) Meter(string, ...metric.MeterOption) metric.Meter { return p.meter }

func (m *listingMeter) Float64Histogram(name string, o ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.units[name] = metric.NewFloat64HistogramConfig(o...).Unit()
	return m.Meter.Float64Histogram(name, o...)
}

func (m *listingMeter) Int64Histogram(name string, o ...metric.Int64HistogramOption) (metric.Int64Histogram, error) {
	m.units[name] = metric.NewInt64HistogramConfig(o...).Unit()
	return m.Meter.Int64Histogram(name, o...)
}

func (m *listingMeter) Int64Counter(name string, o ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.units[name] = metric.NewInt64CounterConfig(o...).Unit()
	return m.Meter.Int64Counter(name, o...)
}

func (m *listingMeter) Int64UpDownCounter(name string, o ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	m.units[name] = metric.NewInt64UpDownCounterConfig(o...).Unit()
	return m.Meter.Int64UpDownCounter(name, o...)
}

func (m *listingMeter) Int64ObservableCounter(name string, o ...metric.Int64ObservableCounterOption) (metric.Int64ObservableCounter, error) {
	m.units[name] = metric.NewInt64ObservableCounterConfig(o...).Unit()
	return m.Meter.Int64ObservableCounter(name, o...)
}

func (m *listingMeter) Int64ObservableUpDownCounter(name string, o ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	m.units[name] = metric.NewInt64ObservableUpDownCounterConfig(o...).Unit()
	return m.Meter.Int64ObservableUpDownCounter(name, o...)
}

// TestInstrumentsAreInTheDocs: each instrument is in the table of the page, with its unit, and no other.
func TestInstrumentsAreInTheDocs(t *testing.T) {
	meter := &listingMeter{units: make(map[string]string)}
	telemetry, err := dblockerotel.New(dblockerotel.MeterProvider(listingProvider{meter: meter}))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("dblocker", "sqlite3::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := telemetry.Register(db); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	inPage := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `((?:db|dblocker)\\.[\\w.]+)` \\| `([^`]+)` \\|[^|]*\\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		inPage[m[1]] = m[2]
	}
	if got, want := fmt.Sprint(inPage), fmt.Sprint(meter.units); got != want || len(inPage) < 20 {
		t.Errorf("the page has\n%s\nthe code\n%s", got, want)
	}
}

// TestPackageDocCompiles: the snippet of the package's comment stands in example_test.go.
func TestPackageDocCompiles(t *testing.T) {
	source, err := os.ReadFile("otel.go")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(source), "\npackage ")
	var snippet strings.Builder
	for _, m := range regexp.MustCompile("(?m)^//(\t.*\n)").FindAllStringSubmatch(doc, -1) {
		snippet.WriteString(m[1])
	}
	if snippet.Len() == 0 || !strings.Contains(string(example), snippet.String()) {
		t.Errorf("not in example_test.go:\n%s", snippet.String())
	}
}
