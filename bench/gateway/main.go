// Command gateway measures the gateway beside nginx: processor time per request
// at equal rate, throughput, latency and memory. The gateway and, in its turns,
// nginx have one core; load, backend and management have the other one. See
// RESULTS.md for what it prints. It runs on Linux with two cores or more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

const conns = 64

// bench is one run.
type bench struct {
	tmp     string
	rounds  int
	rate    float64       // 0: half of what the slower one reaches
	span    time.Duration // of one measurement
	s       *stack
	nginx   *nginx
	proxy   proxyAddrs
	goProxy *child
	goAddr  string
	backend *nginx // answers of 1 KB
	large   *child // of 100 KB
	starts  []time.Duration

	patience            time.Duration // left for waiting until other processes leave the cores
	measured, disturbed int
}

func main() {
	if len(os.Args) > 1 {
		parts := map[string]func([]string) error{"load": runLoad, "backend": runBackend, "reverseproxy": runReverseProxy}
		if f := parts[os.Args[1]]; f != nil {
			exit(f(os.Args[2:]))
		}
	}
	only := flag.String("scenarios", "", "comma-separated names: "+strings.Join(names(), ", ")+"; empty: all")
	rounds := flag.Int("rounds", 3, "rounds of each scenario at equal rate")
	seconds := flag.Float64("seconds", 3, "length of one measurement, 2 or more")
	rate := flag.Float64("rate", 0, "requests per second of the rounds at equal rate; 0: half of what the slower proxy could do")
	patience := flag.Duration("patience", 2*time.Minute, "time of the whole run to spend on waiting for other processes to leave the cores, and on measuring again")
	flag.IntVar(&priority, "nice", 0, "priority of proxies, backends and load; below 0, as root, on cores that others use too")
	short := flag.Bool("short", false, "one round of two seconds each, without the 10,000 APIs")
	out := flag.String("out", "", "file that keeps the report; empty: bench/RESULTS.md after a whole run, none after a part of one")
	flag.Parse()
	chosen, whole := names(), true
	if *short {
		*rounds, *seconds, whole = 1, 2, false
		chosen = slices.DeleteFunc(chosen, func(n string) bool { return n == "apis10k" })
	}
	if *only != "" {
		chosen, whole = strings.Split(*only, ","), false
	}
	if *out == "" && whole {
		*out = filepath.Join(e2e.Root(), "bench", "RESULTS.md")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, chosen, &bench{rounds: *rounds, rate: *rate, span: time.Duration(*seconds * float64(time.Second)), patience: *patience}, *out))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func names() []string {
	out := make([]string, len(scenarios))
	for i := range scenarios {
		out[i] = scenarios[i].name
	}
	return out
}

func run(ctx context.Context, chosen []string, b *bench, out string) (err error) {
	for _, n := range chosen {
		if !slices.Contains(names(), n) {
			return fmt.Errorf("no scenario %q; there are %s", n, strings.Join(names(), ", "))
		}
	}
	if runtime.NumCPU() < 2 {
		return errors.New("two cores are needed: one for the proxy, one for load and backend")
	}
	if b.rounds < 1 || b.span < 2*time.Second {
		return errors.New("at least one round of two seconds")
	}
	undo, err := prioritise()
	if err != nil {
		return err
	}
	defer undo()
	defer e2e.Cleanup()
	tmp, err := os.MkdirTemp("", "cardea-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b.tmp, b.s = tmp, &stack{tmp: tmp}
	defer b.stop()
	patience := b.patience
	b.patience = 0 // each scenario gets its share
	began := time.Now()
	if err := b.start(ctx); err != nil {
		return err
	}
	fmt.Printf("set up in %v; each policy refuses a bad and passes a good request\n", time.Since(began).Round(time.Millisecond))
	var outcomes []*outcome
	for i := range scenarios {
		sc := &scenarios[i]
		if !slices.Contains(chosen, sc.name) {
			continue
		}
		at := time.Now()
		b.patience += patience / time.Duration(len(chosen))
		o, err := b.run(ctx, sc)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s: %w", sc.name, err)
		}
		outcomes = append(outcomes, o)
		fmt.Printf("%s (%v)\n", o.line(), time.Since(at).Round(time.Second))
	}
	report := b.report(outcomes, time.Since(began))
	fmt.Println(report)
	if out == "" {
		return nil
	}
	return writeReport(out, report)
}

// start brings up backends, proxies and the product.
func (b *bench) start(ctx context.Context) error {
	addrs := make([]string, 7)
	for i := range addrs {
		var err error
		if addrs[i], err = freeAddr(); err != nil {
			return err
		}
	}
	b.s.small, b.s.large = addrs[0], addrs[1]
	b.proxy = proxyAddrs{addrs[2], addrs[3], addrs[4], addrs[5]}
	b.goAddr = addrs[6]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if b.backend, err = startNginx(ctx, filepath.Join(b.tmp, "nginx-backend"), loadCore, b.s.small, backendConfig(b.s.small)); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	if b.large, err = startChild(ctx, loadCore, b.s.large, []string{"GOMAXPROCS=1"}, self, "backend", "-addr", b.s.large, "-body", fmt.Sprint(largeBody)); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	if b.s.cert, b.s.key, err = makeCertificate(b.tmp); err != nil {
		return err
	}
	if b.nginx, err = startNginx(ctx, filepath.Join(b.tmp, "nginx-proxy"), proxyCore, b.proxy.plain, proxyConfig(b.proxy, b.s.small, b.s.large, b.s.cert, b.s.key)); err != nil {
		return fmt.Errorf("nginx: %w", err)
	}
	if b.goProxy, err = startChild(ctx, proxyCore, b.goAddr, []string{"GOMAXPROCS=1"}, self, "reverseproxy", "-addr", b.goAddr, "-backend", "http://"+b.s.small); err != nil {
		return fmt.Errorf("Go's proxy: %w", err)
	}
	if err := b.s.start(ctx); err != nil {
		return err
	}
	if err := b.s.furnish(ctx); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	if err := b.s.prove(ctx); err != nil {
		return fmt.Errorf("prove: %w", err)
	}
	if err := b.s.restartGateway(ctx); err != nil {
		return err
	}
	b.starts = append(b.starts, b.s.started)
	return pin(b.s.control.Pid(), loadCore)
}

func (b *bench) stop() {
	b.s.stop()
	for _, n := range []*nginx{b.nginx, b.backend} {
		if n != nil {
			n.stop()
		}
	}
	b.goProxy.stop()
	b.large.stop()
}
