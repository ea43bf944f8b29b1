package report

import (
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/cardea-apim/cardea/internal/usage"
)

// key is what one counter counts, cheap to hash: the source by address.
type key struct {
	source      *Source
	minute      int64
	operation   string
	verb        string
	application string
	keyType     string
	status      int
	code        int
}

// cell is one counter. Histograms are short lists: the calls of a moment lie
// in few buckets.
type cell struct {
	count, in, out   uint64
	gateway, backend hist
}

type hist struct {
	sum uint64
	n   []bucket
}

type bucket struct {
	at uint8
	n  uint32
}

func (h *hist) add(us uint64) {
	h.sum += us
	at := uint8(usage.Bucket(us))
	for i := range h.n {
		if h.n[i].at == at {
			h.n[i].n++
			return
		}
	}
	h.n = append(h.n, bucket{at, 1})
}

func (h *hist) into(o *usage.Histogram) {
	if len(h.n) == 0 {
		return
	}
	if o.N == nil {
		o.N = make(map[int]uint64, len(h.n))
	}
	o.Sum += h.sum
	for _, b := range h.n {
		o.N[int(b.at)] += uint64(b.n)
	}
}

// shard is a part of what was reported since the last flush.
type shard struct {
	mu        sync.Mutex
	cells     map[key]*cell
	calls     raw
	spare     raw // room for the next calls; the drain's own
	decisions []usage.Decision
	dropped   uint64
	_         [64]byte
}

// shards are used by whoever finds one free, so that no call waits for another
// call's report.
type shards struct {
	list      []shard
	mask      uint32
	calls     int // bound of a shard
	decisions int
}

func newShards(n, calls, decisions int) *shards {
	size := 1
	for size < n {
		size *= 2
	}
	s := &shards{list: make([]shard, size), mask: uint32(size - 1), calls: max(1, calls/size), decisions: max(1, decisions/size)}
	for i := range s.list {
		s.list[i].cells = map[key]*cell{}
	}
	return s
}

// lock finds a free shard, or waits for one when all are taken.
func (s *shards) lock() *shard {
	at := rand.Uint32()
	for range s.list {
		sh := &s.list[at&s.mask]
		if sh.mu.TryLock() {
			return sh
		}
		at++
	}
	sh := &s.list[at&s.mask]
	sh.mu.Lock()
	return sh
}

func (s *shards) add(r *Record) {
	k := key{
		source: r.Source, minute: r.Time.Unix() / 60, operation: r.Operation, verb: r.Verb,
		application: r.Application, keyType: r.KeyType, status: r.Status, code: r.Code,
	}
	sh := s.lock()
	defer sh.mu.Unlock()
	c := sh.cells[k]
	if c == nil {
		c = &cell{}
		sh.cells[k] = c
	}
	c.count++
	c.in += uint64(max(r.BytesIn, 0))
	c.out += uint64(max(r.BytesOut, 0))
	c.gateway.add(uint64(max(r.Gateway.Microseconds(), 0)))
	c.backend.add(uint64(max(r.Backend.Microseconds(), 0)))
	if len(sh.calls.list) < s.calls {
		sh.calls.add(r)
	} else {
		sh.dropped++
	}
	if r.Decision != nil && len(sh.decisions) < s.decisions {
		sh.decisions = append(sh.decisions, *r.Decision)
	}
}

// drain moves everything into p and leaves the shards empty. One at a time.
func (s *shards) drain(p *pool) {
	for i := range s.list {
		sh := &s.list[i]
		sh.mu.Lock()
		cells, calls, decisions, dropped := sh.cells, sh.calls, sh.decisions, sh.dropped
		if len(cells) > 0 {
			sh.cells = make(map[key]*cell, min(len(cells), 64))
		} else {
			cells = nil // the map stays with the shard, whose callers write to it
		}
		sh.calls, sh.decisions, sh.dropped = sh.spare, nil, 0
		sh.mu.Unlock()
		for k, c := range cells {
			p.count(k, c)
		}
		p.dropped += dropped
		for i := range calls.list {
			p.calls = append(p.calls, calls.call(i))
		}
		calls.reset()
		sh.spare = calls
		p.decisions = append(p.decisions, decisions...)
	}
}

// pool gathers what is not yet in a batch. Counters are merged, raw calls and
// decisions bounded.
type pool struct {
	counters  map[usage.CounterKey]*usage.Counter
	calls     []usage.Call
	decisions []usage.Decision
	dropped   uint64
}

func newPool() *pool { return &pool{counters: map[usage.CounterKey]*usage.Counter{}} }

func (p *pool) empty() bool {
	return len(p.counters) == 0 && len(p.calls) == 0 && len(p.decisions) == 0 && p.dropped == 0
}

func (p *pool) count(k key, c *cell) {
	u := p.counter(usage.CounterKey{
		Minute: k.minute, Tenant: k.source.Tenant, API: k.source.API, APIName: k.source.Name, APIVersion: k.source.Version,
		Application: k.application, Operation: k.operation, Verb: k.verb, Status: k.status, Code: k.code,
		KeyType: k.keyType, Environment: k.source.Environment,
	})
	u.Count += c.count
	u.BytesIn += c.in
	u.BytesOut += c.out
	c.gateway.into(&u.Gateway)
	c.backend.into(&u.Backend)
}

func (p *pool) counter(k usage.CounterKey) *usage.Counter {
	u := p.counters[k]
	if u == nil {
		u = &usage.Counter{CounterKey: k}
		p.counters[k] = u
	}
	return u
}

// merge adds what a fragment holds.
func (p *pool) merge(b *usage.Batch) {
	for i := range b.Counters {
		c := &b.Counters[i]
		u := p.counter(c.CounterKey)
		u.Count += c.Count
		u.BytesIn += c.BytesIn
		u.BytesOut += c.BytesOut
		u.Gateway.Merge(c.Gateway)
		u.Backend.Merge(c.Backend)
	}
	p.calls = append(p.calls, b.Calls...)
	p.decisions = append(p.decisions, b.Decisions...)
	p.dropped += b.Dropped
}

// bound drops the oldest raw calls, and counts them, and the oldest decisions.
func (p *pool) bound(calls, decisions int) {
	if n := len(p.calls) - calls; n > 0 {
		p.calls = slices.Clone(p.calls[n:])
		p.dropped += uint64(n)
	}
	if n := len(p.decisions) - decisions; n > 0 {
		p.decisions = slices.Clone(p.decisions[n:])
	}
}

// batch is the pool as a batch, without its number.
func (p *pool) batch() usage.Batch {
	b := usage.Batch{Calls: p.calls, Decisions: p.decisions, Dropped: p.dropped}
	for _, c := range p.counters {
		b.Counters = append(b.Counters, *c)
	}
	return b
}
