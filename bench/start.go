package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

const (
	starts    = 10
	openPaths = `{"openapi": "3.0.1", "info": {"title": "Open", "version": "1"}, "paths": {"/a": {"get": {"x-auth-type": "None", "responses": {"200": {"description": "ok"}}}, "post": {"x-auth-type": "None", "x-throttling-tier": "Unlimited", "responses": {"200": {"description": "ok"}}}}}}`
)

// untilCallable launches a node and returns the time to the first proxied 200.
func untilCallable(ctx context.Context, n e2e.Node, path string) (*e2e.Process, time.Duration, error) {
	began := time.Now()
	p, err := e2e.Launch(n)
	if err != nil {
		return nil, 0, err
	}
	for time.Since(began) < 60*time.Second {
		a, err := e2e.Call(ctx, http.MethodGet, p.Gateway()+path, "", nil)
		if err == nil && a.Status == http.StatusOK {
			return p, time.Since(began), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	p.Kill()
	return nil, 0, fmt.Errorf("not callable within a minute:\n%s", p.Output())
}

// startEmpty times an empty home from launch to the first proxied 200 of the
// demo API, and reads the memory at rest.
func startEmpty(ctx context.Context, r *report) error {
	if _, err := e2e.Binary(); err != nil {
		return err
	}
	var took []time.Duration
	var rest int
	for i := range starts {
		began := time.Now()
		p, err := e2e.Launch(e2e.Node{Home: filepath.Join(r.tmp, fmt.Sprint("empty", i)), Args: []string{"--demo"}})
		if err != nil {
			return err
		}
		first, err := firstDemoCall(ctx, p, began)
		if err != nil {
			p.Kill()
			return err
		}
		took = append(took, first)
		if i == starts-1 {
			time.Sleep(5 * time.Second)
			if rest, err = residentMB(p.Pid()); err != nil {
				return err
			}
		}
		if err := p.Stop(); err != nil {
			return err
		}
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	r.add("start to first proxied 200, empty home with demo (median of 10, worst)", "≤ 1 s", ms(median)+", worst "+ms(worst), median <= time.Second)
	r.add("memory at rest, all roles (resident)", "≤ 150 MB", fmt.Sprint(rest, " MB"), rest <= 150)
	return nil
}

// firstDemoCall signs in with the key the demo printed.
func firstDemoCall(ctx context.Context, p *e2e.Process, began time.Time) (time.Duration, error) {
	for time.Since(began) < 60*time.Second {
		if header, target, ok := demoCurl(p.Output()); ok {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
			if err != nil {
				return 0, err
			}
			name, value, _ := strings.Cut(header, ":")
			req.Header.Set(name, strings.TrimSpace(value))
			if res, err := e2e.Insecure.Do(req); err == nil {
				_ = res.Body.Close() // only the status counts
				if res.StatusCode == http.StatusOK {
					return time.Since(began), nil
				}
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, errors.New("the demo API does not answer:\n" + p.Output())
}

// demoCurl finds the curl line that the demo prints.
func demoCurl(out string) (header, target string, ok bool) {
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "curl ") {
			continue
		}
		for _, f := range strings.FieldsFunc(line, func(c rune) bool { return c == '\'' || c == '"' }) {
			f = strings.TrimSpace(f)
			switch {
			case strings.Contains(f, ": ") && !strings.Contains(f, "curl"):
				header = f
			case strings.HasPrefix(f, "http"):
				target = f
			}
		}
		if target == "" {
			for f := range strings.FieldsSeq(line) {
				if strings.HasPrefix(f, "http") {
					target = f
				}
			}
		}
		if header != "" && target != "" {
			return header, target, true
		}
	}
	return "", "", false
}

// seed creates and deploys n open APIs, each with 20 operations when wide.
func seed(ctx context.Context, c *e2e.Client, n int, backend string, deploy bool) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failure error
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := seedOne(ctx, c, i, backend, deploy); err != nil {
					mu.Lock()
					failure = errors.Join(failure, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return failure
}

func seedOne(ctx context.Context, c *e2e.Client, i int, backend string, deploy bool) error {
	name := fmt.Sprintf("Seed%05d", i)
	if deploy {
		id, err := c.Import(ctx, e2e.NewAPI{Definition: []byte(openPaths), Name: name, Version: "1.0.0", Context: "/" + strings.ToLower(name), Backend: backend})
		if err != nil {
			return err
		}
		return c.Publish(ctx, id)
	}
	return c.Must(ctx, http.StatusCreated, http.MethodPost, e2e.Publisher+"/apis", map[string]any{
		"name": name, "version": "1.0.0", "context": "/" + strings.ToLower(name), "policies": []string{"Unlimited"},
		"tags": []string{"seed", "group" + strconv.Itoa(i%100)}, "description": "seeded for measuring",
		"endpointConfig": json.RawMessage(`{"endpoint_type":"http","production_endpoints":{"url":"` + backend + `"}}`),
	}, nil)
}

// startFull times a home with 1,000 deployed APIs.
func startFull(ctx context.Context, r *report) error {
	backend := e2e.NewBackend()
	defer backend.Close()
	home := filepath.Join(r.tmp, "thousand")
	p, err := e2e.Start(ctx, e2e.Node{Home: home})
	if err != nil {
		return err
	}
	c, err := e2e.Login(ctx, p.Management(), "admin", "admin")
	if err == nil {
		err = seed(ctx, c, 1000, backend.URL, true)
	}
	if err != nil {
		p.Kill()
		return err
	}
	if err := p.Stop(); err != nil {
		return err
	}
	var took []time.Duration
	var memory int
	for range starts {
		p, d, err := untilCallable(ctx, p.Node, "/seed00999/1.0.0/a")
		if err != nil {
			return err
		}
		took = append(took, d)
		time.Sleep(300 * time.Millisecond)
		if memory, err = residentMB(p.Pid()); err != nil {
			return err
		}
		if err := p.Stop(); err != nil {
			return err
		}
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[len(took)-1]
	r.add("start to first proxied 200 with 1,000 APIs (median of 10, worst)", "≤ 1.5 s", fmt.Sprintf("%s, worst %s (%d MB)", ms(median), ms(worst), memory), median <= 1500*time.Millisecond)
	return nil
}

// residentMB is the resident memory of a process in MB.
func residentMB(pid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, errors.New("read statm: unknown format")
	}
	pages, err := strconv.Atoi(fields[1])
	return pages * os.Getpagesize() >> 20, err
}
