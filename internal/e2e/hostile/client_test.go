package hostile

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// outcome is how one call ended.
type outcome struct {
	status int
	header http.Header
	body   string
	err    error // of the body: it was cut
	took   time.Duration
}

// call makes one call on a connection of its own.
func call(t *testing.T, method, target string, body io.Reader) outcome {
	t.Helper()
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return outcome{err: err}
	}
	began := time.Now()
	res, err := tr.RoundTrip(req)
	if err != nil {
		return outcome{err: err, took: time.Since(began)}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return outcome{res.StatusCode, res.Header, string(b), err, time.Since(began)}
}

// neighbour calls an API with a good backend all the time.
type neighbour struct {
	stop  context.CancelFunc
	wg    sync.WaitGroup
	calls atomic.Int64
	mu    sync.Mutex
	bad   []string
	took  []time.Duration
}

// newNeighbour starts n callers with connections of their own, each of which
// pauses between calls.
func newNeighbour(n int, pause time.Duration, target string) *neighbour {
	ctx, cancel := context.WithCancel(context.Background())
	b := &neighbour{stop: cancel}
	for range n {
		b.wg.Go(func() {
			tr := &http.Transport{DisableCompression: true}
			defer tr.CloseIdleConnections()
			for ctx.Err() == nil {
				began := time.Now()
				err := get(ctx, tr, target)
				took := time.Since(began)
				if ctx.Err() != nil {
					return
				}
				b.calls.Add(1)
				b.mu.Lock()
				b.took = append(b.took, took)
				if err != nil {
					b.bad = append(b.bad, err.Error())
				}
				b.mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	return b
}

func get(ctx context.Context, tr http.RoundTripper, target string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || string(b) != good {
		return errors.New(res.Status + " " + string(b[:min(len(b), 300)]))
	}
	return nil
}

// end stops the calls, every one of which must have succeeded, and gives the
// 99th percentile of their times.
func (b *neighbour) end(t *testing.T) time.Duration {
	t.Helper()
	b.stop()
	b.wg.Wait()
	if len(b.bad) > 0 {
		t.Errorf("%d of %d calls of another API failed: %s", len(b.bad), b.calls.Load(), strings.Join(b.bad[:min(3, len(b.bad))], "; "))
	}
	if b.calls.Load() == 0 {
		t.Error("no call of another API ended")
		return 0
	}
	slices.Sort(b.took)
	return b.took[len(b.took)*99/100]
}
