// Package report sends what a gateway did to whoever counts it. Counters are
// aggregated here and never dropped: they wait, merged, until their batch is
// acknowledged, also over a restart. Raw calls and the details of decisions
// are bounded, and calls that had to go are counted.
package report

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cardea-apim/cardea/internal/usage"
)

// Sender takes an encoded usage.Batch and answers an encoded usage.BatchAck,
// after the batch was stored.
type Sender interface {
	Send(ctx context.Context, data []byte) ([]byte, error)
}

// SenderFunc is a function that sends.
type SenderFunc func(ctx context.Context, data []byte) ([]byte, error)

// Send calls f.
func (f SenderFunc) Send(ctx context.Context, data []byte) ([]byte, error) { return f(ctx, data) }

// Options of New.
type Options struct {
	Log     *slog.Logger // required
	Gateway string       // node name; required
	Sender  Sender       // required
	Dir     string       // where unacknowledged batches wait for a restart; empty: nowhere

	Every     time.Duration // between flushes; default 300 ms
	Timeout   time.Duration // for one answer; default 5 s
	Calls     int           // raw calls kept of each interval between flushes, and while nobody answers; default 512
	Decisions int           // details of decisions kept likewise; default 2048
}

// Reporter gathers and sends. Report never blocks on the sender.
type Reporter struct {
	o      Options
	boot   string
	shards *shards
	spool  *spool

	turn  chan struct{} // holds one while somebody flushes; guards what follows
	pool  *pool
	queue []stored // numbered batches, in order; the first is on its way
	seq   uint64   // of the last batch of this boot
	sick  bool     // the last attempt failed; said once

	sent, failed, waiting atomic.Uint64

	stop  context.CancelFunc
	ended chan struct{}
}

// New starts a reporter. Batches that an earlier process left in Dir go first.
func New(o Options) (*Reporter, error) {
	switch {
	case o.Log == nil:
		return nil, errors.New("start reporter: no logger")
	case o.Gateway == "":
		return nil, errors.New("start reporter: no gateway name")
	case o.Sender == nil:
		return nil, errors.New("start reporter: no sender")
	}
	if o.Every <= 0 {
		o.Every = 300 * time.Millisecond
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Calls <= 0 {
		o.Calls = 512
	}
	if o.Decisions <= 0 {
		o.Decisions = 2048
	}
	var boot [12]byte
	rand.Read(boot[:])
	r := &Reporter{
		o: o, boot: hex.EncodeToString(boot[:]), turn: make(chan struct{}, 1), pool: newPool(), ended: make(chan struct{}),
		shards: newShards(2*runtime.GOMAXPROCS(0), o.Calls, o.Decisions),
	}
	if o.Dir != "" {
		var err error
		if r.spool, r.queue, err = openSpool(o.Dir, o.Gateway); err != nil {
			return nil, fmt.Errorf("start reporter: %w", err)
		}
	}
	ctx, stop := context.WithCancel(context.Background()) // ended by Close
	r.stop = stop
	go r.run(ctx)
	return r, nil
}

// Report counts one call. It takes no lock that another call may hold for
// longer than it takes to count.
func (r *Reporter) Report(rec *Record) { r.shards.add(rec) }

func (r *Reporter) run(ctx context.Context) {
	defer close(r.ended)
	tick := time.NewTicker(r.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.Flush(ctx); err != nil && ctx.Err() == nil {
				if !r.sick {
					r.o.Log.Warn("usage is not acknowledged; it is kept", "err", err)
				}
				r.sick = true
			} else if err == nil && r.sick {
				r.sick = false
				r.o.Log.Info("usage is acknowledged again")
			}
		}
	}
}

// Flush sends what was reported so far, once a flush under way is done. After
// an error everything is kept for the next flush.
func (r *Reporter) Flush(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("send usage: %w", ctx.Err())
	}
	defer func() { <-r.turn }()
	return errors.Join(r.flush(ctx))
}

// flush is Flush in its turn. It tells what the spool could not keep from what
// was only not acknowledged.
func (r *Reporter) flush(ctx context.Context) (unsent, spoolErr error) {
	spoolErr = r.gather()
	for len(r.queue) > 0 || !r.pool.empty() {
		if len(r.queue) == 0 {
			if err := r.number(); err != nil {
				spoolErr = errors.Join(spoolErr, err)
			}
			if len(r.queue) == 0 {
				return nil, spoolErr
			}
		}
		if err := r.send(ctx, &r.queue[0]); err != nil {
			r.failed.Add(1)
			return err, spoolErr
		}
		r.sent.Add(1)
		spoolErr = errors.Join(spoolErr, r.spool.drop(&r.queue[0]))
		r.queue = append([]stored(nil), r.queue[1:]...)
	}
	return nil, spoolErr
}

// gather takes what was reported into the pool, and onto disk when it must
// wait behind a batch.
func (r *Reporter) gather() error {
	fresh := newPool()
	r.shards.drain(fresh)
	if fresh.empty() {
		return nil
	}
	f := fresh.batch()
	r.pool.merge(&f)
	r.pool.bound(r.o.Calls, r.o.Decisions)
	r.waiting.Store(uint64(len(r.pool.counters)))
	if len(r.queue) == 0 {
		return nil
	}
	f.Gateway, f.Boot, f.Seq = r.o.Gateway, r.boot, r.seq+1
	full, err := r.spool.add(&f)
	if err != nil || !full {
		return err
	}
	sum := r.pool.batch()
	sum.Gateway, sum.Boot, sum.Seq = r.o.Gateway, r.boot, r.seq+1
	return r.spool.rewrite(&sum)
}

// number makes the pool the next batches. It is on disk before it is sent, so
// that a crash after sending repeats the same number and not the counts.
func (r *Reporter) number() error {
	b := r.pool.batch()
	b.Gateway, b.Boot, b.Seq = r.o.Gateway, r.boot, r.seq+1
	parts, err := r.spool.put(&b)
	if len(parts) == 0 {
		return err
	}
	r.seq = parts[len(parts)-1].seq
	r.queue = append(r.queue, parts...)
	r.pool = newPool()
	r.waiting.Store(0)
	if err != nil {
		return err // the fragments on disk stand in for the file
	}
	return r.spool.clearPool()
}

func (r *Reporter) send(ctx context.Context, s *stored) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	answer, err := r.o.Sender.Send(ctx, s.data)
	if err != nil {
		return fmt.Errorf("send usage: %w", err)
	}
	var ack usage.BatchAck
	if err := json.Unmarshal(answer, &ack); err != nil {
		return fmt.Errorf("send usage: read answer: %w", err)
	}
	if ack.Error != "" {
		return fmt.Errorf("send usage: %s", ack.Error)
	}
	if ack.Seq != s.seq {
		return fmt.Errorf("send usage: answer is for batch %d, not %d", ack.Seq, s.seq)
	}
	return nil
}

// Close ends the flushing and flushes once more, within ctx. What is still not
// acknowledged waits in Dir for the next start, which is no error; without a
// Dir it is lost.
func (r *Reporter) Close(ctx context.Context) error {
	r.stop()
	<-r.ended
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	unsent, err := r.flush(ctx)
	if unsent != nil && r.spool == nil {
		err = errors.Join(err, unsent)
	}
	if unsent != nil && r.spool != nil && !r.pool.empty() && len(r.queue) == 0 {
		err = errors.Join(err, r.number())
	}
	r.spool.closeLog()
	return err
}

// Collectors are the reporter's metrics for Prometheus.
func (r *Reporter) Collectors() []prometheus.Collector {
	value := func(v *atomic.Uint64) func() float64 { return func() float64 { return float64(v.Load()) } }
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cardea_usage_batches_total", Help: "Usage batches acknowledged."}, value(&r.sent)),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cardea_usage_failures_total", Help: "Attempts to send usage that failed."}, value(&r.failed)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cardea_usage_waiting_counters", Help: "Counters that wait to be sent."}, value(&r.waiting)),
	}
}
