// Package usage is what a gateway reports about the calls it served: counters
// that are never dropped, raw call records that may be, and the reasons behind
// refusals. The gateway writes it, analytics reads it, neither knows the other.
package usage

import (
	"math/bits"
	"time"
)

// Subjects on the bus.
const (
	// SubjectBatch is where a gateway sends its batches; each is answered after
	// it is stored. The bus puts the sender's name in: a batch counts only for
	// the gateway that sent it.
	SubjectBatch = "usage.batch.{sender}"
)

// Batch is one flush of one gateway. Batches of a Boot are numbered from 1
// without gaps; the receiver ignores a number it has stored already, so a batch
// may be sent again until it is answered.
type Batch struct {
	Gateway   string     `json:"gateway"`
	Boot      string     `json:"boot"` // random per process start
	Seq       uint64     `json:"seq"`
	Counters  []Counter  `json:"counters,omitempty"`
	Calls     []Call     `json:"calls,omitempty"`
	Decisions []Decision `json:"decisions,omitempty"`
	Dropped   uint64     `json:"dropped,omitempty"` // raw calls dropped since the last batch
}

// BatchAck answers a batch.
type BatchAck struct {
	Seq   uint64 `json:"seq"`
	Error string `json:"error,omitempty"`
}

// CounterKey says what a counter counts.
type CounterKey struct {
	Minute      int64  `json:"m"` // Unix minutes
	Tenant      string `json:"t"`
	API         string `json:"a"` // API id; empty when no API was found
	APIName     string `json:"n"`
	APIVersion  string `json:"v"`
	Application string `json:"p,omitempty"`
	Operation   string `json:"o,omitempty"` // URI template
	Verb        string `json:"r,omitempty"`
	Status      int    `json:"s"`
	Code        int    `json:"c,omitempty"` // fault code of a gateway error
	KeyType     string `json:"k,omitempty"`
	Environment string `json:"e,omitempty"`
}

// Counter is the aggregate of the calls of one key in one minute.
type Counter struct {
	CounterKey
	Count    uint64    `json:"N"`
	BytesIn  uint64    `json:"I,omitempty"`
	BytesOut uint64    `json:"O,omitempty"`
	Gateway  Histogram `json:"G"` // time spent in the gateway, microseconds
	Backend  Histogram `json:"B"` // time spent waiting for the backend, microseconds
}

// Call is one served or refused request.
type Call struct {
	Time        time.Time     `json:"time"`
	ID          string        `json:"id"` // decision id of a refusal, otherwise a correlation id
	Tenant      string        `json:"tenant"`
	API         string        `json:"api"`
	APIName     string        `json:"apiName"`
	APIVersion  string        `json:"apiVersion"`
	Application string        `json:"application,omitempty"`
	User        string        `json:"user,omitempty"`
	Operation   string        `json:"operation,omitempty"`
	Verb        string        `json:"verb,omitempty"`
	Path        string        `json:"path,omitempty"`
	Status      int           `json:"status"`
	Code        int           `json:"code,omitempty"`
	KeyType     string        `json:"keyType,omitempty"`
	Gateway     time.Duration `json:"gatewayNanos"`
	Backend     time.Duration `json:"backendNanos"`
	BytesIn     int64         `json:"bytesIn"`
	BytesOut    int64         `json:"bytesOut"`
	Client      string        `json:"client,omitempty"`
	UserAgent   string        `json:"userAgent,omitempty"`
}

// Decision explains one refusal.
type Decision struct {
	ID          string            `json:"id"`
	Time        time.Time         `json:"time"`
	Gateway     string            `json:"gateway"`
	Status      int               `json:"status"`
	Code        int               `json:"code"`
	Rule        string            `json:"rule"` // for example subscription-limit, scope, no-credentials
	Tenant      string            `json:"tenant,omitempty"`
	API         string            `json:"api,omitempty"`
	Application string            `json:"application,omitempty"`
	Details     map[string]string `json:"details,omitempty"` // claims, counters, timings
}

// Buckets is the number of buckets of a Histogram: four per power of two.
const Buckets = 128

// Histogram counts values (microseconds) in log-linear buckets, four per
// doubling, so that a percentile is right within 12.5 %.
type Histogram struct {
	Sum uint64         `json:"s,omitempty"`
	N   map[int]uint64 `json:"n,omitempty"` // bucket to count
}

// Bucket is the bucket of a value.
func Bucket(us uint64) int {
	if us < 4 {
		return int(us)
	}
	e := bits.Len64(us) - 1 // us in [2^e, 2^(e+1))
	b := (e-1)*4 + int(us>>(e-2))&3
	return min(b, Buckets-1)
}

// Upper is the largest value of a bucket.
func Upper(b int) uint64 {
	if b < 4 {
		return uint64(b)
	}
	e, f := b/4+1, uint64(b%4)
	return (4+f+1)<<(e-2) - 1
}

// Add counts one value.
func (h *Histogram) Add(us uint64) {
	if h.N == nil {
		h.N = make(map[int]uint64, 4)
	}
	h.Sum += us
	h.N[Bucket(us)]++
}

// Merge adds another histogram.
func (h *Histogram) Merge(o Histogram) {
	if h.N == nil && len(o.N) > 0 {
		h.N = make(map[int]uint64, len(o.N))
	}
	h.Sum += o.Sum
	for b, n := range o.N {
		h.N[b] += n
	}
}

// Quantile is the value (microseconds) below which the share q lies.
func (h *Histogram) Quantile(q float64) uint64 {
	var total uint64
	for _, n := range h.N {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := uint64(q*float64(total-1)) + 1
	var seen uint64
	for b := range Buckets {
		if seen += h.N[b]; seen >= rank {
			return Upper(b)
		}
	}
	return Upper(Buckets - 1)
}
