package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// party is one of those who are measured in turn.
type party struct {
	name     string
	addr     func() string
	pid      func() int // 0: nobody's processor time counts
	requests string     // file
	wrk      []string
	fresh    bool
}

// outcome is what a scenario measured.
type outcome struct {
	*scenario
	rate                   float64 // equal for all
	full                   map[string]sample
	paced                  map[string]sample // medians
	ratio, ratioLo, ratioH float64
	fullRatio              float64 // at full load, each at its own rate
	added50, added99       time.Duration
	added                  bool
	residentMB             float64
}

func (b *bench) run(ctx context.Context, sc *scenario) (*outcome, error) {
	if sc.before != nil {
		if err := sc.before(ctx, b); err != nil {
			return nil, fmt.Errorf("set up: %w", err)
		}
	}
	if sc.body == 0 {
		sc.body = smallBody
	}
	parties, err := b.parties(sc)
	if err != nil {
		return nil, err
	}
	o := &outcome{scenario: sc, full: map[string]sample{}, paced: map[string]sample{}}
	full, paced := map[string][]sample{}, map[string][]sample{}
	for range max(1, b.rounds/2) {
		for _, p := range parties {
			if p.name == "direct" {
				continue
			}
			s, err := b.measure(ctx, sc, p, 0, b.span)
			if err != nil {
				return nil, fmt.Errorf("%s at full load: %w", p.name, err)
			}
			full[p.name] = append(full[p.name], s)
		}
	}
	for name, list := range full {
		o.full[name] = median(list)
	}
	if o.rate = b.rate; o.rate == 0 {
		// Half of what the slower one would do with the core to itself; processor
		// time says so even when others took part of the core meanwhile.
		o.rate = 0.5 / max(o.full["ours"].cpu, o.full["nginx"].cpu).Seconds()
	}
	var ratios []float64
	var add50, add99 []time.Duration
	for range b.rounds {
		now := map[string]sample{}
		for _, p := range parties {
			d := b.span
			if p.name == "direct" {
				d /= 2
			}
			s, err := b.measure(ctx, sc, p, o.rate, d)
			if err != nil {
				return nil, fmt.Errorf("%s at %.0f/s: %w", p.name, o.rate, err)
			}
			now[p.name] = s
			paced[p.name] = append(paced[p.name], s)
		}
		ratios = append(ratios, float64(now["nginx"].cpu)/float64(now["ours"].cpu))
		if d, ok := now["direct"]; ok {
			add50, add99 = append(add50, now["ours"].p50-d.p50), append(add99, now["ours"].p99-d.p99)
		}
	}
	for name, list := range paced {
		o.paced[name] = median(list)
	}
	slices.Sort(ratios)
	o.ratio, o.ratioLo, o.ratioH = ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]
	if len(add50) > 0 {
		slices.Sort(add50)
		slices.Sort(add99)
		o.added, o.added50, o.added99 = true, add50[len(add50)/2], add99[len(add99)/2]
	}
	o.fullRatio = float64(o.full["nginx"].cpu) / float64(o.full["ours"].cpu)
	if o.residentMB, err = b.s.memoryMB(); err != nil {
		return nil, err
	}
	if sc.after != nil {
		err = sc.after(ctx, b)
	}
	return o, err
}

// parties writes the requests of each party.
func (b *bench) parties(sc *scenario) ([]party, error) {
	plainFile, oursFile := filepath.Join(b.tmp, "plain.requests"), filepath.Join(b.tmp, "ours.requests")
	if err := writeRequests(plainFile, [][]byte{sc.plain}); err != nil {
		return nil, err
	}
	own := [][]byte{sc.plain}
	if sc.request != nil {
		own = sc.request(b)
	}
	if err := writeRequests(oursFile, own); err != nil {
		return nil, err
	}
	l := sc.listener(b)
	plainWrk := same("")
	if sc.wrk == nil && (sc.body != smallBody) {
		plainWrk = nil
	}
	out := []party{{name: "nginx", addr: func() string { return l.nginx }, pid: func() int { return b.nginx.worker }, requests: plainFile, wrk: plainWrk}}
	ours := party{name: "ours", addr: func() string { return sc.listener(b).ours }, pid: func() int { return b.s.gw.Pid() }, requests: oursFile, fresh: sc.fresh}
	if sc.wrk != nil {
		ours.wrk = sc.wrk(b)
	}
	out = append(out, ours)
	if sc.goProxy {
		out = append(out, party{name: "go", addr: func() string { return b.goAddr }, pid: func() int { return b.goProxy.cmd.Process.Pid }, requests: plainFile, wrk: plainWrk})
	}
	if l.direct != "" {
		out = append(out, party{name: "direct", addr: func() string { return l.direct }, pid: func() int { return 0 }, requests: plainFile})
	}
	return out, nil
}

// measure runs one measurement; rate 0 is full load.
func (b *bench) measure(ctx context.Context, sc *scenario, p party, rate float64, d time.Duration) (sample, error) {
	return b.undisturbed(ctx, func() (sample, error) { return b.once(ctx, sc, p, rate, d) })
}

func (b *bench) once(ctx context.Context, sc *scenario, p party, rate float64, d time.Duration) (sample, error) {
	if p.fresh {
		if err := b.s.restartGateway(ctx); err != nil {
			return sample{}, err
		}
		b.starts = append(b.starts, b.s.started)
	}
	scheme, path := "http", plainPath
	if sc.secure {
		scheme = "https"
	}
	if p.name == "ours" && sc.request != nil {
		path = pathOf(sc.request(b)[0])
	}
	switch {
	case sc.h2:
		return h2load(ctx, b.tmp, p.pid(), rate, d, scheme+"://"+p.addr()+path)
	case rate == 0 && p.wrk != nil:
		return wrk(ctx, p.pid(), conns, d, scheme+"://"+p.addr()+path, p.wrk...)
	}
	args := []string{"-addr", p.addr(), "-requests", p.requests, "-rate", fmt.Sprint(rate), "-for", d.String(), "-conns", fmt.Sprint(conns), "-body", fmt.Sprint(sc.body)}
	if sc.secure {
		args = append(args, "-tls")
	}
	if p.fresh {
		warm := filepath.Join(b.tmp, "warm.requests")
		if err := writeRequests(warm, [][]byte{request("GET", jwtPath, bearer(b.s.token), "")}); err != nil {
			return sample{}, err
		}
		args = append(args, "-once", "-warm-requests", warm, "-warm", "1s")
	}
	return ownLoad(ctx, p.pid(), args...)
}

func pathOf(req []byte) string {
	_, rest, _ := strings.Cut(string(req[:min(len(req), 200)]), " ")
	path, _, _ := strings.Cut(rest, " ")
	return path
}

// median of each property by itself.
func median(list []sample) sample {
	of := func(f func(s sample) float64) float64 {
		v := make([]float64, len(list))
		for i, s := range list {
			v[i] = f(s)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return sample{
		rate: of(func(s sample) float64 { return s.rate }), cpu: time.Duration(of(func(s sample) float64 { return float64(s.cpu) })),
		p50: time.Duration(of(func(s sample) float64 { return float64(s.p50) })), p99: time.Duration(of(func(s sample) float64 { return float64(s.p99) })),
		proxyBusy: of(func(s sample) float64 { return s.proxyBusy }), loadBusy: of(func(s sample) float64 { return s.loadBusy }),
	}
}
