package report

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

// counter is a receiver that is idempotent by gateway, boot and number.
type counter struct {
	mu      sync.Mutex
	seen    map[string]bool
	last    map[string]uint64
	counts  map[usage.CounterKey]uint64
	calls   int
	dropped uint64
	fail    bool // refuse
	mute    bool // store, but lose the answer
	gaps    []string
	largest int
}

func newCounter() *counter {
	return &counter{seen: map[string]bool{}, last: map[string]uint64{}, counts: map[usage.CounterKey]uint64{}}
}

func (c *counter) Send(_ context.Context, data []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail {
		return nil, errors.New("nobody is there")
	}
	c.largest = max(c.largest, len(data))
	var b usage.Batch
	if err := json.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	id := b.Boot + "/" + strconv.FormatUint(b.Seq, 10)
	if !c.seen[id] {
		c.seen[id] = true
		if b.Seq != c.last[b.Boot]+1 {
			c.gaps = append(c.gaps, id)
		}
		c.last[b.Boot] = b.Seq
		for _, n := range b.Counters {
			c.counts[n.CounterKey] += n.Count
		}
		c.calls += len(b.Calls)
		c.dropped += b.Dropped
	}
	if c.mute {
		return nil, errors.New("answer was lost")
	}
	return json.Marshal(usage.BatchAck{Seq: b.Seq})
}

func (c *counter) total() (n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for v := range maps.Values(c.counts) {
		n += v
	}
	return n
}

func start(t *testing.T, c *counter, dir string, every time.Duration) *Reporter {
	t.Helper()
	r, err := New(Options{Log: slog.New(slog.DiscardHandler), Gateway: "gw", Sender: c, Dir: dir, Every: every, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var source = &Source{Tenant: "carbon.super", API: "a1", Name: "Pizza", Version: "1.0", Environment: "Default"}

func record(i int) *Record {
	return &Record{
		Source: source, Operation: "/menu", Verb: "GET", Application: "app" + strconv.Itoa(i%7), Status: 200 + i%3,
		Time: time.Unix(int64(60*(i%5)), 0), Gateway: time.Duration(i) * time.Microsecond, Backend: time.Millisecond, BytesOut: 10,
	}
}

func TestEveryCallIsCountedOnceWithManyReporters(t *testing.T) {
	c := newCounter()
	r := start(t, c, t.TempDir(), 5*time.Millisecond)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 1000 {
				r.Report(record(g*1000 + i))
			}
		})
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.total(); got != 16000 {
		t.Errorf("counted %d, want 16000", got)
	}
	if uint64(c.calls)+c.dropped != 16000 {
		t.Errorf("%d raw calls and %d dropped, want 16000 together", c.calls, c.dropped)
	}
	if len(c.gaps) > 0 {
		t.Errorf("numbers have gaps: %v", c.gaps)
	}
}

func TestRefusedAndUnansweredBatchesAreNeitherLostNorDoubled(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*counter, bool)
	}{
		{"refused", func(c *counter, on bool) { c.fail = on }},
		{"answer lost", func(c *counter, on bool) { c.mute = on }},
	} {
		t.Run(c.name, func(t *testing.T) {
			rx := newCounter()
			r := start(t, rx, t.TempDir(), time.Hour)
			set := func(on bool) { rx.mu.Lock(); c.set(rx, on); rx.mu.Unlock() }
			for round := range 10 {
				set(round%3 != 2)
				for i := range 100 {
					r.Report(record(i))
				}
				if err := r.Flush(t.Context()); (err == nil) != (round%3 == 2) {
					t.Fatalf("round %d: flush: %v", round, err)
				}
			}
			set(false)
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := rx.total(); got != 1000 {
				t.Errorf("counted %d, want 1000", got)
			}
			if len(rx.gaps) > 0 {
				t.Errorf("numbers have gaps: %v", rx.gaps)
			}
		})
	}
}

// A process that is killed runs nothing more; what it had flushed must be sent
// by the next one, exactly once.
func TestRestartSendsWhatWasNotAcknowledged(t *testing.T) {
	for _, mute := range []bool{false, true} {
		t.Run("stored before the crash "+strconv.FormatBool(mute), func(t *testing.T) {
			rx, dir := newCounter(), t.TempDir()
			rx.fail, rx.mute = !mute, mute
			for range 3 {
				r := start(t, rx, dir, time.Hour)
				for range 4 {
					for i := range 50 {
						r.Report(record(i))
					}
					if r.Flush(t.Context()) == nil {
						t.Fatal("flush did not fail")
					}
				}
				r.stop() // killed: no Close
				<-r.ended
			}
			rx.mu.Lock()
			rx.fail, rx.mute = false, false
			rx.mu.Unlock()
			r := start(t, rx, dir, time.Hour)
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := rx.total(); got != 600 {
				t.Errorf("counted %d, want 600", got)
			}
			again := start(t, rx, dir, time.Hour)
			if len(again.queue) != 0 {
				t.Errorf("%d batches wait after all were acknowledged", len(again.queue))
			}
			again.Close(t.Context())
		})
	}
}

// Only a gateway's own batches are taken: what waits from before it had another
// name is sent under the new one, and does not hold up the rest.
func TestAGatewayWithANewNameSendsWhatWaits(t *testing.T) {
	dir := t.TempDir()
	start := func(name string, rx Sender) *Reporter {
		r, err := New(Options{Log: slog.New(slog.DiscardHandler), Gateway: name, Sender: rx, Dir: dir, Every: time.Hour, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	down := newCounter()
	down.fail = true
	r := start("before", down)
	for range 3 { // a numbered batch, and fragments of the next one
		for i := range 50 {
			r.Report(record(i))
		}
		if r.Flush(t.Context()) == nil {
			t.Fatal("flush did not fail")
		}
	}
	r.stop() // killed: no Close
	<-r.ended
	rx := newCounter()
	r = start("after", SenderFunc(func(ctx context.Context, data []byte) ([]byte, error) {
		var b usage.Batch
		if err := json.Unmarshal(data, &b); err != nil || b.Gateway != "after" {
			t.Errorf("a batch of %q is sent: %v", b.Gateway, err)
		}
		return rx.Send(ctx, data)
	}))
	if err := r.Close(t.Context()); err != nil || rx.total() != 150 {
		t.Errorf("counted %d, want 150: %v", rx.total(), err)
	}
}

func TestLargePoolsAreSentInParts(t *testing.T) {
	rx := newCounter()
	r := start(t, rx, t.TempDir(), time.Hour)
	long := strings.Repeat("/segment", 30)
	for i := range 6000 {
		rec := record(i)
		rec.Operation = long + strconv.Itoa(i)
		r.Report(rec)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rx.total() != 6000 || rx.largest > maxBatch || len(rx.gaps) > 0 {
		t.Errorf("counted %d, largest batch %d, gaps %v", rx.total(), rx.largest, rx.gaps)
	}
}

// Nobody answers, not even with a refusal, as when the other side has died.
func TestCloseKeepsWhatNobodyAnswersFor(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run("with a folder "+strconv.FormatBool(kept), func(t *testing.T) {
			dir := ""
			if kept {
				dir = t.TempDir()
			}
			silent := SenderFunc(func(ctx context.Context, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			r, err := New(Options{Log: slog.New(slog.DiscardHandler), Gateway: "gw", Sender: silent, Dir: dir, Every: time.Millisecond, Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			r.Report(record(1))
			time.Sleep(20 * time.Millisecond) // a flush is under way
			r.Report(record(2))
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := r.Flush(ctx); err == nil {
				t.Error("flush says that all was stored")
			}
			ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if err := r.Close(ctx); (err == nil) != kept {
				t.Errorf("close: %v", err)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("stopping took %v", took)
			}
			if !kept {
				return
			}
			rx := newCounter()
			if err := start(t, rx, dir, time.Hour).Close(t.Context()); err != nil || rx.total() != 2 {
				t.Errorf("the next start sends %d calls, %v", rx.total(), err)
			}
		})
	}
}

func TestMemoryIsBoundedByDifferentCallsNotByTheirNumber(t *testing.T) {
	rx := newCounter()
	rx.fail = true
	r := start(t, rx, "", time.Hour)
	for range 20 {
		for i := range 5000 {
			r.Report(record(i % 105))
		}
		r.Flush(t.Context())
	}
	r.turn <- struct{}{}
	counters, calls := len(r.pool.counters), len(r.pool.calls)
	<-r.turn
	if counters > 105 || calls > r.o.Calls {
		t.Errorf("%d counters and %d calls are held", counters, calls)
	}
	rx.mu.Lock()
	rx.fail = false
	rx.mu.Unlock()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rx.total() != 100000 {
		t.Errorf("counted %d, want 100000", rx.total())
	}
	if uint64(rx.calls)+rx.dropped != 100000 {
		t.Errorf("%d raw calls and %d dropped, want 100000 together", rx.calls, rx.dropped)
	}
}

func BenchmarkReport(b *testing.B) {
	r := &Reporter{shards: newShards(4, 1, 1)}
	rec := record(1)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Report(rec)
		}
	})
}
