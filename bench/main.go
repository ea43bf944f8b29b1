// Command bench measures what the product promises to its users, prints a table
// and keeps it in bench/RESULTS.md: start, memory, how fast a change is live,
// import of a large definition, lists, and requests lost through deployments
// and restarts. It drives the real binary over real HTTP.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/bench/section"
	"github.com/cardea-apim/cardea/internal/e2e"
)

// row is one line of the table.
type row struct {
	what, target, got string
	met               bool
}

// measurement adds its rows to the report.
type measurement struct {
	name string
	run  func(ctx context.Context, r *report) error
}

type report struct {
	rows []row
	tmp  string
}

func (r *report) add(what, target, got string, met bool) {
	r.rows = append(r.rows, row{what, target, got, met})
	mark := "met"
	if !met {
		mark = "MISSED"
	}
	fmt.Printf("%-62s %-14s %-44s %s\n", what, target, got, mark)
}

var measurements = []measurement{
	{"start", startEmpty},
	{"start1000", startFull},
	{"live", changeIsLive},
	{"import", importLarge},
	{"list", listMany},
	{"lost", lostRequests},
}

func main() {
	only := flag.String("only", "", "comma-separated names of measurements: start, start1000, live, import, list, lost")
	out := flag.String("out", filepath.Join(e2e.Root(), "bench", "RESULTS.md"), "file of the report; empty: print only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only, out string) error {
	defer e2e.Cleanup()
	tmp, err := os.MkdirTemp("", "cardea-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := &report{tmp: tmp}
	chosen := strings.Split(only, ",")
	for _, m := range measurements {
		if only != "" && !slices.Contains(chosen, m.name) {
			continue
		}
		if err := m.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if out == "" || only != "" {
		return nil
	}
	return r.write(out)
}

func (r *report) write(path string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measured\n\nWritten by `make bench` on %s (%s/%s, %d cores, %s). Medians and worst cases are of one run on one machine; compare ratios, not machines.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	b.WriteString("| Property | Target | Measured | |\n|---|---|---|---|\n")
	for _, x := range r.rows {
		mark := "met"
		if !x.met {
			mark = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.what, x.target, x.got, mark)
	}
	return section.Replace(path, b.String())
}

// quantile of sorted durations.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
